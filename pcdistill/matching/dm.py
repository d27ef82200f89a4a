"""Distribution matching (Zhao & Bilen, WACV 2023)."""

from torch import Tensor

from pcdistill.augment import Augmentation
from pcdistill.clouds import PointClouds
from pcdistill.matching.bank import BankConfig
from pcdistill.matching.base import BankObjective, ObjectiveOptions, class_means, objectives
from pcdistill.matching.draws import augmented, step_generator


class DmOptions(ObjectiveOptions):
    """Settings of `DistributionMatching`; its networks are random ones.

    Attributes:
        bank: networks and real class means.
        augmentation: of the synthetic clouds.
    """

    bank: BankConfig = BankConfig(trained_steps=(0, 0))
    augmentation: Augmentation = Augmentation()


@objectives.register("dm")
class DistributionMatching(BankObjective):
    """Squared distance between class means of global features under random networks (eq. 5 of the paper).

    We differ in that the network of a step comes from a bank of random ones whose real class means were
    computed once over the whole set, where the paper draws a new network and 256 real samples each step. For the
    same reason augmentation, where wanted, changes the synthetic clouds alone; the paper's is the same on both sides.
    """

    name = "dm"
    Options = DmOptions

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("network", self.seed, step)
        member = self.member(generator)
        pooled = member.network.pooled(augmented(decoded.points, self.options.augmentation, generator))
        classes, means = class_means(pooled, decoded.hard_labels)
        return (means - member.pooled_mean[classes]).square().sum(1).sum()

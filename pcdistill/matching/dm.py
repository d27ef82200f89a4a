"""Distribution matching (Zhao & Bilen, WACV 2023)."""

from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.bank import BankConfig
from pcdistill.matching.base import BankObjective, ObjectiveOptions, class_means, objectives, step_generator


class DmOptions(ObjectiveOptions):
    """Settings of `DistributionMatching`; its networks are random ones."""

    bank: BankConfig = BankConfig(trained_steps=(0, 0))


@objectives.register("dm")
class DistributionMatching(BankObjective):
    """Squared distance between class means of global features under random networks (eq. 5 of the paper).

    We differ in that the network of a step comes from a bank of random ones whose real class means were
    computed once over the whole set, where the paper draws a new network and 256 real samples each step; no
    augmentation.
    """

    name = "dm"
    Options = DmOptions

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("network", self.seed, step)
        member = self.member(generator)
        pooled = member.network.pooled(decoded.points)
        classes, means = class_means(pooled, decoded.hard_labels)
        return (means - member.pooled_mean[classes]).square().sum(1).sum()

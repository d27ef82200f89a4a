"""Dataset condensation by minimising the maximum mean discrepancy (M3D; Zhang et al., AAAI 2024)."""

from torch import Tensor

from pcdistill.augment import Augmentation
from pcdistill.clouds import PointClouds
from pcdistill.matching.bank import BankConfig
from pcdistill.matching.base import BankObjective, ObjectiveOptions, objectives
from pcdistill.matching.draws import augmented, step_generator
from pcdistill.matching.kernels import class_mmd


class M3dOptions(ObjectiveOptions):
    """Settings of `MeanDiscrepancy`.

    Attributes:
        bank: networks and the global features of `pooled_samples` real clouds of each class.
        augmentation: of the synthetic clouds.
    """

    bank: BankConfig = BankConfig(quantiles=0, pooled_samples=128)
    augmentation: Augmentation = Augmentation()


@objectives.register("m3d")
class MeanDiscrepancy(BankObjective):
    """Squared MMD between the global features of synthetic and real clouds, added over classes.

        loss = sum_c K(S_c, S_c) + K(T_c, T_c) - 2 K(S_c, T_c),  K the mean of a kernel over pairs

    A Gaussian kernel compares all moments of the distributions, where DM compares means (a linear kernel). We differ
    in that the networks and the real features of a class are those of a bank, the same at every step, and in that
    augmentation, where wanted, changes the synthetic clouds alone. Kernel: `pcdistill.matching.kernels.mmd`.
    """

    name = "m3d"
    Options = M3dOptions

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("network", self.seed, step)
        member = self.member(generator)
        pooled = member.network.pooled(augmented(decoded.points, self.options.augmentation, generator))
        return class_mmd(pooled, decoded.hard_labels, member.pooled).sum()

"""Dataset condensation by minimising the maximum mean discrepancy (M3D; Zhang et al., AAAI 2024)."""

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, objectives
from pcdistill.matching.gathering import BankConfig, Member
from pcdistill.matching.kernels import class_mmd


class M3dOptions(BankOptions):
    """Settings of `MeanDiscrepancy`.

    Attributes:
        bank: networks and the global features of `pooled_samples` real clouds of each class.
    """

    bank: BankConfig = BankConfig(quantiles=0, pooled_samples=128)


@objectives.register("m3d", cites=("zhang2024m3d",))
class MeanDiscrepancy(BankObjective):
    """Squared MMD between the global features of synthetic and real clouds, added over classes.

        loss = sum_c K(S_c, S_c) + K(T_c, T_c) - 2 K(S_c, T_c),  K the mean of a kernel over pairs

    A Gaussian kernel compares all moments of the distributions, where DM compares means (a linear kernel). We differ
    in that the networks and the real features of a class are those of a bank, the same at every step, and in that
    augmentation, where wanted, changes the synthetic clouds alone. Kernel: `pcdistill.matching.kernels.mmd`.
    """

    name = "m3d"
    Options = M3dOptions

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        return class_mmd(member.network.pooled(points), decoded.hard_labels, member.pooled).sum()

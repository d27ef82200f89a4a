"""Distribution matching (Zhao & Bilen, WACV 2023)."""

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import BankConfig, Member
from pcdistill.matching.segments import PartMember


class DmOptions(BankOptions):
    """Settings of `DistributionMatching`; its networks are random ones.

    Attributes:
        bank: networks and real class means.
    """

    bank: BankConfig = BankConfig(trained_steps=(0, 0))


@objectives.register("dm", cites=("zhao2023dm",))
class DistributionMatching(BankObjective):
    """Squared distance between class means of global features under random networks (eq. 5 of the paper).

    We differ in that the network of a step comes from a bank of random ones whose real class means were
    computed once over the whole set, where the paper draws a new network and 256 real samples each step. For the
    same reason augmentation, where wanted, changes the synthetic clouds alone; the paper's is the same on both sides.
    Of points with parts the means are those of the points of a class and part.
    """

    name = "dm"
    sees_parts = True
    Options = DmOptions

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        classes, means = class_means(member.network.pooled(points), decoded.hard_labels)
        return (means - member.pooled_mean[classes]).square().sum(1).sum()

    def part_distance(self, member: PartMember, features: Tensor, unit: Tensor, generator: torch.Generator) -> Tensor:
        units, means = class_means(features, unit)
        return (means - member.means[units]).square().sum(1).sum()

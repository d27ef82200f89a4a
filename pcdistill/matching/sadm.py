"""SADM (Yim, Kim & Sim, NeurIPS 2025): sorted point features, as its code matches them and as its paper does."""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import BankConfig, BankRequest, Member
from pcdistill.matching.kernels import KERNELS, class_mmd
from pcdistill.matching.sorting import ascending, quantile_profile


class SadmOptions(BankOptions):
    """Settings of `SortedMatching`: those of the released code.

    Attributes:
        bank: random networks; `quantiles` is the resolution of the maps: as many as the clouds have points, and none is
            lost.
        kernel: of the sorted maps; linear compares class means.
        abs: take absolute values and sort again (the authors' later code).
        channels: of the last layer that a step looks at, drawn at random; none: all. Sorting is the main cost.
        map_samples: real clouds per class and network whose maps are kept, where `kernel` is rbf or `abs` is set.
        map_weight: of the maps' term, times the synthetic clouds of the class.
        pooled_weight: of the MMD of the max-pooled features, times the synthetic clouds of the class.
    """

    added = ("augmentation",)

    bank: BankConfig = BankConfig(quantiles=256, trained_steps=(0, 0))
    kernel: Literal["linear", "rbf"] = "linear"
    abs: bool = False
    channels: int | None = Field(default=None, ge=1)
    map_samples: int = Field(default=8, ge=1)
    map_weight: float = Field(default=0.2, ge=0)
    pooled_weight: float = Field(default=0.001, ge=0)


class SadmPaperOptions(SadmOptions):
    """Settings of `SortedKernelMatching`: those of the paper. Q is 64: the bank keeps the maps of single clouds."""

    bank: BankConfig = BankConfig(quantiles=64, trained_steps=(0, 0))
    kernel: Literal["linear", "rbf"] = "rbf"
    map_weight: float = Field(default=0.002, ge=0)


@objectives.register("sadm", cites=("yim2025sadm",))
class SortedMatching(BankObjective):
    """Match the last layer's features, sorted over points channel by channel, as SADM's released code does.

        loss = sum_c n_c (map_weight * D(A(T_c), A(S_c)) + pooled_weight * MMD(phi(T_c), phi(S_c)))

    `A` are the sorted features before ReLU and max-pool, `phi` those after; n_c is the number of synthetic clouds of
    class c. With the linear kernel, D is the squared distance between the means over clouds, added over channels and
    averaged over points; with the Gaussian one it is the MMD of whole maps. MMDs add five Gaussian kernels.

    We differ in that networks come from a bank of random ones. Their real means are over the whole set, where SADM
    draws eight clouds a step; where maps of single clouds are compared, eight of each class are kept for every network.
    Sorted maps are averaged to Q quantiles, so that clouds of unequal size can be compared, and absolute values are
    taken of those. `phi` is after the ReLU, which changes a maximum over many points hardly ever. The rotations that
    SADM learns belong to the storage.
    """

    name = "sadm"
    reads_profiles = True
    Options = SadmOptions

    def bank_config(self) -> BankRequest:
        return BankRequest.of(self.options.bank, map_samples=self.options.map_samples if self._single_maps() else 0)

    def _single_maps(self) -> bool:
        return bool(self.options.kernel == "rbf" or self.options.abs)

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        last = member.network.point_features(points)[-1]
        labels = decoded.hard_labels
        sizes = labels.unique(return_counts=True)[1].to(last.device)
        total = points.new_zeros(())
        if self.options.map_weight:
            total = total + self.options.map_weight * (sizes * self._distances(last, labels, member, generator)).sum()
        if self.options.pooled_weight:
            pooled = KERNELS * class_mmd(last.amax(1).relu(), labels, member.pooled)
            total = total + self.options.pooled_weight * (sizes * pooled).sum()
        return total

    def _distances(self, features: Tensor, labels: Tensor, member: Member, generator: torch.Generator) -> Tensor:
        """D of each class that occurs, `(K,)`."""
        channels = features.shape[2]
        chosen = torch.arange(channels)
        if self.options.channels is not None:
            chosen = torch.randperm(channels, generator=generator)[: self.options.channels]
        count = member.profiles[-1].shape[2]
        maps = quantile_profile(features[..., chosen].transpose(1, 2).contiguous(), count)
        real = member.maps[:, :, chosen] if self._single_maps() else member.profiles[-1][:, None, chosen]
        if self.options.abs:
            maps, real = ascending(maps.abs()), ascending(real.abs())
        if self.options.kernel == "rbf":
            return KERNELS * class_mmd(maps, labels, real)
        classes, means = class_means(maps, labels)
        distance: Tensor = (means - real[classes].mean(1)).square().mean((1, 2)) * channels
        return distance


@objectives.register("sadm-paper", cites=("yim2025sadm",))
class SortedKernelMatching(SortedMatching):
    """`SortedMatching` as SADM's paper describes it: Gaussian kernels on the sorted maps and on the max features.

    The paper does not tell the kernels' bandwidth; it is that of the released code's MMD.
    """

    name = "sadm-paper"
    Options = SadmPaperOptions

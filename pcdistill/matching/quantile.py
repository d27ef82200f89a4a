"""Quantile matching: class-wise distributions of point features, for clouds of unequal size."""

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import Member
from pcdistill.matching.kernels import class_mmd
from pcdistill.matching.segments import PartMember
from pcdistill.matching.sorting import quantile_profile


class QuantileOptions(BankOptions):
    """Settings of `QuantileMatching`.

    Attributes:
        channels: of each layer that a step looks at, drawn at random; sorting is the main cost.
        pooled_weight: of the MMD term.
    """

    added = ("augmentation",)

    channels: int = Field(default=64, ge=1)
    pooled_weight: float = Field(default=3.0, ge=0)


@objectives.register("quantile", cites=("yim2025sadm",))
class QuantileMatching(BankObjective):
    """Match sorted point features, averaged to Q quantiles, of class means over a bank of networks.

    For the network of the step and each of its shared layers, every channel's values over the points of a
    cloud are summarised by their quantile profile; the squared distance between the class means of real and
    synthetic profiles is averaged over channels and quantiles in units of the channel's variance. A
    Gaussian-kernel MMD between the max-pooled features of the class's clouds keeps them as varied as real
    ones.

    It generalises SADM's released loss (Yim, Kim & Sim, NeurIPS 2025: full sort of the last layer, eight real
    clouds a step, equal numbers of points) to any number of points on either side.

    Of points with parts the profiles are those of all points of a part of a class; there is no MMD term.
    """

    name = "quantile"
    reads_profiles = True
    sees_parts = True
    Options = QuantileOptions

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        features = member.network.point_features(points)
        labels = decoded.hard_labels
        total = points.new_zeros(())
        for layer, target, spread in zip(features, member.profiles, member.spreads, strict=True):
            chosen = torch.randperm(layer.shape[-1], generator=generator)[: self.options.channels]
            profiles = quantile_profile(layer[..., chosen].transpose(1, 2).contiguous(), target.shape[-1])
            classes, means = class_means(profiles, labels)
            distance = (means - target[classes][:, chosen]).square().mean((0, 2))
            total = total + (distance / spread[chosen].clamp_min(1e-6)).mean()
        pooled = features[-1].amax(1).relu()
        if self.options.pooled_weight:
            total = total + self.options.pooled_weight * class_mmd(pooled, labels, member.pooled).mean()
        return total

    def part_distance(self, member: PartMember, features: Tensor, unit: Tensor, generator: torch.Generator) -> Tensor:
        count = self.options.bank.quantiles
        chosen = torch.randperm(features.shape[1], generator=generator)[: self.options.channels]
        spread = member.samples[..., chosen].flatten(0, 1).var(0, correction=0).clamp_min(1e-6)
        gaps = []
        for number in unit.unique().tolist():
            ours = quantile_profile(features[unit == number][:, chosen].T.contiguous(), count)
            theirs = quantile_profile(member.samples[number][:, chosen].T.contiguous(), count)
            gaps.append(((ours - theirs).square().mean(1) / spread).mean())
        return torch.stack(gaps).mean()

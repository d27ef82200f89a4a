"""Quantile matching: class-wise distributions of point features, for clouds of unequal size."""

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.bank import BankConfig, Member
from pcdistill.matching.base import BankObjective, ObjectiveOptions, class_means, objectives, step_generator
from pcdistill.matching.sorting import quantile_profile


class QuantileOptions(ObjectiveOptions):
    """Settings of `QuantileMatching`.

    Attributes:
        bank: networks and real statistics.
        channels: of each layer that a step looks at, drawn at random; sorting is the main cost.
        pooled_weight: of the MMD term.
    """

    bank: BankConfig = BankConfig()
    channels: int = Field(default=64, ge=1)
    pooled_weight: float = Field(default=3.0, ge=0)


@objectives.register("quantile")
class QuantileMatching(BankObjective):
    """Match sorted point features, averaged to Q quantiles, of class means over a bank of networks.

    For the network of the step and each of its shared layers, every channel's values over the points of a
    cloud are summarised by their quantile profile; the squared distance between the class means of real and
    synthetic profiles is averaged over channels and quantiles in units of the channel's variance. A
    Gaussian-kernel MMD between the max-pooled features of the class's clouds keeps them as varied as real
    ones.

    It generalises SADM's released loss (Yim, Kim & Sim, NeurIPS 2025: full sort of the last layer, eight real
    clouds a step, equal numbers of points) to any number of points on either side.
    """

    name = "quantile"
    Options = QuantileOptions

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("network", self.seed, step)
        member = self.member(generator)
        features = member.network.point_features(decoded.points)
        total = decoded.points.new_zeros(())
        for layer, target, spread in zip(features, member.profiles, member.spreads, strict=True):
            chosen = torch.randperm(layer.shape[-1], generator=generator)[: self.options.channels]
            profiles = quantile_profile(layer[..., chosen].transpose(1, 2).contiguous(), target.shape[-1])
            classes, means = class_means(profiles, decoded.hard_labels)
            distance = (means - target[classes][:, chosen]).square().mean((0, 2))
            total = total + (distance / spread[chosen].clamp_min(1e-6)).mean()
        pooled = features[-1].amax(1).relu()
        if self.options.pooled_weight:
            total = total + self.options.pooled_weight * _pooled_mmd(pooled, decoded.hard_labels, member)
        return total


def _pooled_mmd(pooled: Tensor, labels: Tensor, member: Member) -> Tensor:
    """Mean over classes of the squared MMD of `(B, G)` features against the bank's, five Gaussian kernels."""
    classes = labels.unique()
    terms = [_mmd(pooled[labels == label], member.pooled[label]) for label in classes]
    return torch.stack(terms).mean()


def _mmd(synthetic: Tensor, real: Tensor) -> Tensor:
    """Biased squared MMD of two samples (Gretton et al. 2012), bandwidths 1/4 to 4 of the mean distance."""
    both = torch.cat([synthetic, real])
    norms = both.square().sum(1)
    distance = (norms[:, None] + norms - 2 * both @ both.T).clamp_min(0)
    unit = distance.detach().mean().clamp_min(1e-12)
    kernel = torch.stack([torch.exp(-distance / (unit * 2.0**power)) for power in range(-2, 3)]).mean(0)
    n = len(synthetic)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()

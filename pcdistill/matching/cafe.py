"""Condensation by aligning features (CAFE; Wang et al., CVPR 2022)."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import BankConfig, Member


class CafeOptions(BankOptions):
    """Settings of `FeatureAlignment`.

    Attributes:
        bank: networks, real class means of every layer, and real global features to be told apart. Means over points
            need one quantile only.
        discrimination: weight of the classification of real clouds by synthetic class centres.
    """

    bank: BankConfig = BankConfig(quantiles=1)
    discrimination: float = Field(default=0.01, ge=0)


@objectives.register("cafe", cites=("wang2022cafe",))
class FeatureAlignment(BankObjective):
    """Match the class means of the features of every layer, and have class centres tell real clouds apart.

        loss = sum_l sum_c || m_l(T_c) - m_l(S_c) ||^2 / F_l + weight * mean_{t in T} CE( (phi(t) . phi(S_k))_k, y_t )

    `m_l` are the means over points and clouds of the F_l features of layer l; the global feature phi counts as the
    last layer, since the classifier sees nothing else. phi(S_k) is the synthetic centre of class k; k runs over the
    classes that occur in the minibatch, and so do the real clouds. We differ in that networks are a bank's, trained on
    real clouds for numbers of steps spread over a range, where the paper trains one on the synthetic set and decides
    by its loss when to stop; all layers weigh alike; and real means are of the whole set.
    """

    name = "cafe"
    reads_profiles = True
    Options = CafeOptions

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        features = member.network.point_features(points)
        total = points.new_zeros(())
        for layer, profiles in zip(features, member.profiles, strict=True):
            classes, means = class_means(layer.mean(1), decoded.hard_labels)
            total = total + (means - profiles[classes].mean(2)).square().mean(1).sum()
        classes, centres = class_means(features[-1].amax(1).relu(), decoded.hard_labels)
        total = total + (centres - member.pooled_mean[classes]).square().mean(1).sum()
        if self.options.discrimination:
            total = total + self.options.discrimination * discrimination(centres, member.pooled[classes])
        return total


def discrimination(centres: Tensor, real: Tensor) -> Tensor:
    """Mean cross-entropy of `real (K, S, G)` classified by its inner products with the class centres `(K, G)`."""
    truth = torch.arange(len(real), device=real.device).repeat_interleave(real.shape[1])
    return cross_entropy(real.flatten(0, 1) @ centres.T, truth)

"""Attention matching (DataDAM; Sajedi et al., ICCV 2023) on clouds, whose points have no place."""

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import BankConfig, BankRequest, Member, attention_maps
from pcdistill.matching.sorting import quantile_profile


class DatadamOptions(BankOptions):
    """Settings of `AttentionMatching`; its networks are random ones.

    Attributes:
        bank: networks and real statistics.
        power: p of the attention, the sum over channels of |f|^p; the paper's is 4.
        pooled_weight: of the global features' term, the paper's task balance.
    """

    bank: BankConfig = BankConfig(quantiles=64, trained_steps=(0, 0))
    power: float = Field(default=4.0, ge=1)
    pooled_weight: float = Field(default=0.01, ge=0)


@objectives.register("datadam", cites=("sajedi2023datadam",))
class AttentionMatching(BankObjective):
    """Match the attention that the points of a cloud get in every layer, and the means of global features.

        loss = sum_c sum_l || mean a_l(T_c) - mean a_l(S_c) ||^2 + weight * || mean phi(T_c) - mean phi(S_c) ||^2

    `a_l` is the attention map of layer l, normalised by its Euclidean norm; l runs over all layers but the last, whose
    max-pooled features phi take the second term. In an image a position means the same in every sample; in a cloud it
    means nothing. We therefore sort the maps and average them to Q quantiles, so that what is matched is the
    distribution of attention, whatever the number of points. With Q = N on both sides the first norm is the paper's,
    of sorted maps. Networks and real means are a bank's.
    """

    name = "datadam"
    reads_profiles = True
    Options = DatadamOptions

    def bank_config(self) -> BankRequest:
        return BankRequest.of(self.options.bank, attention=self.options.power)

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        features = member.network.point_features(points)
        total = points.new_zeros(())
        for layer, target in zip(features[:-1], member.attention[:-1], strict=True):
            profiles = quantile_profile(attention_maps(layer, self.options.power), target.shape[1])
            classes, means = class_means(profiles, decoded.hard_labels)
            # A map of root mean square 1 has norm 1 in units of sqrt(N): the mean over quantiles is the paper's sum.
            total = total + (means - target[classes]).square().mean(1).sum()
        classes, means = class_means(features[-1].amax(1).relu(), decoded.hard_labels)
        weight: float = self.options.pooled_weight
        return total + weight * (means - member.pooled_mean[classes]).square().sum()

"""Improved distribution matching (Zhao, Li, Qin & Yu, CVPR 2023)."""

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from pcdistill.clouds import PointClouds
from pcdistill.matching.base import BankObjective, BankOptions, class_means, objectives
from pcdistill.matching.gathering import BankConfig, Member


class IdmOptions(BankOptions):
    """Settings of `ImprovedDistributionMatching`.

    Attributes:
        bank: semi-trained networks; class means are those of up to `pooled_samples` real clouds of each class.
        cross_entropy: weight of the classification term, times the network's own accuracy.
    """

    bank: BankConfig = BankConfig(networks=20, quantiles=0, pooled_samples=256)
    cross_entropy: float = Field(default=0.5, ge=0)


@objectives.register("idm", cites=("zhao2023idm",))
class ImprovedDistributionMatching(BankObjective):
    """Distribution matching under semi-trained networks, which must also recognise the synthetic clouds.

        loss = sum_c || mean phi(T_c) - mean phi(S_c) ||^2 + weight * accuracy * mean_{s in S_c} CE(head(phi(s)), y)

    over classes c, global features phi and the labels y (class-aware regularisation; the paper's code weighs it by
    the network's running accuracy). We differ in that the bank's networks have been trained for numbers of steps
    spread over a range, once, where the paper trains a queue of a hundred on the way; the accuracy is that on the
    bank's real features; and partition and expansion, which is a way to store, is not part of the objective.
    """

    name = "idm"
    learns_labels = True
    Options = IdmOptions

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        pooled = member.network.pooled(points)
        classes, means = class_means(pooled, decoded.hard_labels)
        total = (means - member.pooled_mean[classes]).square().sum()
        if self.options.cross_entropy:
            labels = decoded.labels.to(pooled.device)
            errors = cross_entropy(member.network.classify(pooled), labels, reduction="none")
            wrong = class_means(errors, decoded.hard_labels)[1].sum()
            total = total + self.options.cross_entropy * accuracy(member) * wrong
        return total


@torch.no_grad()
def accuracy(member: Member) -> float:
    """Share of the bank's real clouds that the network recognises, every class alike."""
    guesses = member.network.classify(member.pooled.flatten(0, 1)).argmax(1).view(member.pooled.shape[:2]).cpu()
    truth = torch.arange(len(guesses))[:, None]
    return (guesses == truth).double().mean().item()

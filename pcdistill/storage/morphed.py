"""Anchors and convex combinations of them: learnable shape morphing."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import assign, gather_points
from pcdistill.storage.base import storages
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.parts import Part, PartedStorage, Values

FIT_STEPS = 200
LEAST_WEIGHT = 1e-3  # of a fitted combination: its logit stays finite, and the gradient of the softmax alive


@storages.register("morphed", cites=("kim2026morphing",))
class MorphedClouds(PartedStorage):
    """M anchor clouds of a class, and L mixtures of them that cost M - 1 numbers each.

    3DDP (Kim, Yim & Sim, "Parameterization-Based Dataset Distillation of 3D Point Clouds through Learnable Shape
    Morphing", ICLR 2026). The n clouds of a class are its M anchors `a_1 .. a_M` and `L = n - M` combinations

        sum_m w_m a_m,   w = softmax(z_1, .., z_(M-1), 0),

    point by point; the points of anchors 2 .. M stand in the order that the Hungarian assignment to anchor 1 gives.

    Bytes per class, of clouds of P points: `M ceil(3 P bits / 8) + 2 L (M - 1)`, at 32 bits `12 M P + 4 L (M - 1)`,
    which is the paper's `96 M P + 32 L (M - 1)` bits.

    The first clouds that it is given become the anchors: half of them, though two where there are two, as mixtures of
    a single anchor are copies of it. The paper has M = L = 4, as here at n = 8, and M = 4, L = 16 for ModelNet10:
    `from_clouds(..., anchors=4)` at n = 20. It starts from random weights; here they are those nearest to the given
    clouds (least squares over the simplex, after the same assignment). It learns by SGD at rates of its own.

    Learned: `anchors` `(C * M, P, 3)`, `weights` `(C * L, M - 1)`, the logits z.
    """

    name = "morphed"
    fields = ("anchors",)
    pace: ClassVar[Mapping[str, float]] = {"labels": LABEL_PACE, "weights": LABEL_PACE}  # logits, both

    @classmethod
    def rule(cls, clouds: int, points: int) -> dict[str, int]:
        return {"anchors": max(min(clouds, 2), clouds // 2)}

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        anchors, clouds = sizes["anchors"], sizes["clouds"]
        if not min(clouds, 2) <= anchors <= clouds:
            raise InputError("anchors", str(anchors), f"{min(clouds, 2)} to {clouds}, the clouds per class")

    @classmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        anchors, mixed = sizes["anchors"], sizes["clouds"] - sizes["anchors"]
        return {
            "anchors": Part((classes * anchors, sizes["points"], 3), "coordinates"),
            "weights": Part((classes * mixed, anchors - 1)),
        }

    @classmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        count = sizes["anchors"]
        anchors, logits = [], []
        for own in points.view(classes, sizes["clouds"], -1, 3):
            aligned = gather_points(own, assign(own, own[0]))
            anchors.append(aligned[:count])
            logits.append(_weights(aligned[count:].flatten(1), aligned[:count].flatten(1)).log())
        all_logits = torch.cat(logits)
        return {"anchors": torch.cat(anchors), "weights": all_logits[:, :-1] - all_logits[:, -1:]}

    @classmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        anchors, count = values["anchors"], sizes["anchors"]
        shares = torch.eye(count).to(anchors)[None]  # an anchor is a combination, too
        classes = len(anchors) // count
        shares = shares.expand(classes, -1, -1)
        if "weights" in values:
            last = anchors.new_zeros(len(values["weights"]), 1)
            mixed = torch.cat([values["weights"], last], 1).softmax(1)
            shares = torch.cat([shares, mixed.view(classes, -1, count)], 1)
        chosen = shares.reshape(-1, count)[index]
        first = index // sizes["clouds"] * count
        # Anchor by anchor: a product of matrices would sum in an order that hangs on how many clouds are asked for.
        total = chosen[:, 0, None, None] * anchors[first]
        for number in range(1, count):
            total = total + chosen[:, number, None, None] * anchors[first + number]
        return total


def _weights(clouds: Tensor, anchors: Tensor) -> Tensor:
    """Convex weights `(L, M)` that make the rows of `anchors` `(M, D)` nearest to those of `clouds` `(L, D)`.

    Exponentiated gradient (Kivinen & Warmuth 1997) on the squared distance, which stays inside the simplex.
    """
    offset = anchors.double().mean(0)
    a, x = anchors.double() - offset, clouds.double() - offset
    gram, cross = a @ a.T, x @ a.T
    step = 1 / gram.diagonal().max().clamp_min(1e-12)
    weights = torch.full_like(cross, 1 / len(anchors))
    for _ in range(FIT_STEPS):
        weights = (weights.log() - step * (weights @ gram - cross)).softmax(1).clamp_min(1e-12)
    return (weights.clamp_min(LEAST_WEIGHT) / weights.clamp_min(LEAST_WEIGHT).sum(1, keepdim=True)).float()

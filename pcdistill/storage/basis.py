"""A mean shape and a few modes of deformation per class."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import assign, gather_points
from pcdistill.storage.base import storages
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.parts import Part, PartedStorage, Values

SMALL = 1e-3  # scale of a mode in which clouds do not differ: it can still be learned


@storages.register("basis", cites=("cootes1995asm",))
class ShapeBasis(PartedStorage):
    """Cloud i of a class is `mean + sum_k c_ik s_k mode_k`: what its clouds share is stored once.

    The linear shape model of Cootes, Taylor, Cooper & Graham ("Active shape models", 1995), whose landmarks are here
    the points of the class's first cloud, found in the others by the Hungarian assignment; mean and modes come of
    principal component analysis. Unlike theirs, modes are no longer orthogonal once they are learned, and
    coefficients are not confined to some standard deviations.

    Mean and modes are coordinates in [-1, 1] (a mode's largest one is 1 at first); the scale s of a mode and the
    coefficients c, which begin in [-1, 1], are weights.

    Bytes per class, of n clouds of P points and K modes: `(1 + K) ceil(3 P bits / 8) + 2 K + 2 n K`; at 32 bits weights
    take 4 bytes. K is n / 4, at least 1: a quarter of the bytes of stored points, and a mean.

    Learned: `mean` `(C, P, 3)`, `modes` `(C * K, P, 3)`, `scales` `(C * K, 1)`, `coefficients` `(C * n, K)`.
    """

    name = "basis"
    fields = ("modes",)
    pace: ClassVar[Mapping[str, float]] = {"labels": LABEL_PACE}

    @classmethod
    def rule(cls, clouds: int, points: int) -> dict[str, int]:
        return {"modes": max(1, clouds // 4)}

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        most = max(1, sizes["clouds"] - 1)  # clouds differ from their mean in no more directions
        if not 1 <= sizes["modes"] <= min(most, 3 * sizes["points"]):
            raise InputError("modes", str(sizes["modes"]), f"1 to {min(most, 3 * sizes['points'])}")

    @classmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        modes, points = sizes["modes"], sizes["points"]
        return {
            "mean": Part((classes, points, 3), "coordinates"),
            "modes": Part((classes * modes, points, 3), "coordinates"),
            "scales": Part((classes * modes, 1)),
            "coefficients": Part((classes * sizes["clouds"], modes)),
        }

    @classmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        found = [_components(own, sizes["modes"]) for own in points.view(classes, sizes["clouds"], -1, 3)]
        names = ("mean", "modes", "scales", "coefficients")
        return {name: torch.cat(parts).float() for name, parts in zip(names, zip(*found, strict=True), strict=True)}

    @classmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        label, count = index // sizes["clouds"], sizes["modes"]
        scaled = values["scales"][:, :, None] * values["modes"]
        total = values["mean"][label]
        for number in range(count):  # mode by mode, as in `morphed`
            total = total + values["coefficients"][index, number, None, None] * scaled[label * count + number]
        return total


def _components(clouds: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean `(1, P, 3)`, modes `(K, P, 3)`, scales `(K, 1)` and coefficients `(n, K)` of clouds `(n, P, 3)`."""
    aligned = gather_points(clouds, assign(clouds, clouds[0])).double().flatten(1)
    mean = aligned.mean(0)
    _, _, directions = torch.linalg.svd(aligned - mean, full_matrices=False)
    modes = directions[:count]
    peak = modes.gather(1, modes.abs().argmax(1, keepdim=True))
    modes = modes / peak  # the largest coordinate is 1, which settles the sign as well
    coefficients = (aligned - mean) @ modes.T / modes.square().sum(1)
    scales = coefficients.abs().amax(0).clamp_min(SMALL)
    return mean.view(1, -1, 3), modes.view(count, -1, 3), scales[:, None], coefficients / scales

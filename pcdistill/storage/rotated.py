"""Stored points with a learned rotation of every cloud."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import rotate, rotation_matrix
from pcdistill.storage.base import Arrays, storages
from pcdistill.storage.points import StoredPoints

ANGLE_PACE = 2.0
"""Learning rate of angles (radians) in units of that of coordinates.

At 1, a point at distance 1 would go as far by the cloud's rotation as by itself. SADM turns faster than it moves
points: in the paper's settings by 50 to 500 times, with SGD, whose steps grow with the gradients of all points of a
cloud, where Adam's do not. Not tuned.
"""


@storages.register("rotated", cites=("yim2025sadm",))
class RotatedPoints(StoredPoints):
    """Points and three Euler angles per cloud: `R p` with `R = Rz Ry Rx` for every stored point `p`.

    The rotations that SADM (Yim, Kim & Sim, NeurIPS 2025) learns beside the points, from angles of zero. They were
    left out when a set's size was counted; here they are float16, 6 bytes a cloud, and learned through the rounding
    (straight through). Angles beyond a half turn are wrapped to [-pi, pi] when decoded and stored, which leaves the
    rotation as it is; SADM wraps the learned values themselves after every step.

    Fixed-point coordinates are confined to the cube [-1, 1]^3 before the rotation. Decoded ones may leave it: corners
    of the cube reach out to the root of 3.

    Attributes:
        angles: `(N, 3)` radians about x, y, z, the axes fixed in space, in this order; learned.
    """

    name = "rotated"
    pace: ClassVar[Mapping[str, float]] = {**StoredPoints.pace, "angles": ANGLE_PACE}
    side_bytes = 6
    keeps_parts = False

    def __init__(self, points: Tensor, labels: Tensor, bits: int, class_names: tuple[str, ...]) -> None:
        super().__init__(points, labels, bits, class_names)
        self.angles = torch.zeros(len(points), 3, requires_grad=True)

    def kept(self, index: Tensor) -> Self:
        storage = super().kept(index)
        storage.angles = self.angles.detach()[index].requires_grad_()
        return storage

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        layout: Mapping[str, int],
        class_names: tuple[str, ...],
        part_names: PartNames | None = None,
    ) -> Self:
        storage = super().from_arrays(arrays, layout, class_names, part_names)
        wanted, stored = tuple(storage.angles.shape), arrays.get("angles")
        if stored is None:
            raise InputError("angles", "missing", f"float16 of shape {wanted}")
        if stored.dtype != np.float16 or stored.shape != wanted:
            raise InputError("angles", f"{stored.dtype} of shape {stored.shape}", f"float16 of shape {wanted}")
        if not (np.abs(stored.astype(np.float32)) <= math.pi).all():  # nor NaN
            raise InputError("angles", "NaN, or beyond a half turn", "radians from -pi to pi")
        storage.angles = torch.from_numpy(stored.astype(np.float32)).requires_grad_()
        return storage

    def arrays(self) -> Arrays:
        return {**super().arrays(), "angles": round_angles(self.angles.detach()).cpu().numpy().astype(np.float16)}

    def learned(self) -> dict[str, Tensor]:
        return {**super().learned(), "angles": self.angles}

    def decode(self, index: Tensor | None = None) -> PointClouds:
        stored = super().decode(index)
        angles = round_angles(self.angles if index is None else self.angles[index])
        return stored.with_points(rotate(stored.points, rotation_matrix(angles)))


def round_angles(angles: Tensor) -> Tensor:
    """Angles in [-pi, pi] as float16 holds them, the turn unchanged; with the gradient of the identity."""
    exact = angles.detach()
    wrapped = exact - 2 * math.pi * (exact / (2 * math.pi)).round()
    stored = wrapped.half().to(angles.dtype) + 0.0  # minus zero becomes zero: one code for every angle
    return stored + (angles - exact) if angles.requires_grad and torch.is_grad_enabled() else stored

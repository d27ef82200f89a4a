"""Stored points: the clouds themselves, as floats or fixed-point codes."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.storage.base import Arrays, Budget, Storage, check_bits, class_major, storages
from pcdistill.storage.quantise import decode, encode, pack, round_through, unpack

FLOATS = {16: np.float16, 32: np.float32}


@storages.register("points")
class StoredPoints(Storage):
    """`(n * C, P, 3)` coordinates at `bits` bits each, learned through the rounding.

    The parameterisation of DC, DM and MTT, which store float32 pixels; fixed-point codes over the cube
    [-1, 1]^3 that holds the unit sphere need no table. Labels cost nothing: clouds stand class by class, the
    same number of each.
    """

    name = "points"

    def __init__(self, points: Tensor, bits: int, class_names: tuple[str, ...]) -> None:
        self.points = points.detach().clone().requires_grad_()
        self.bits = bits
        self.class_names = class_names
        self.labels = torch.arange(len(class_names)).repeat_interleave(len(points) // len(class_names))

    @classmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget) -> Self:
        wanted = (budget.clouds_per_class * initial.num_classes, budget.points, 3)
        if initial.points.shape != wanted or not class_major(initial):
            raise InputError(
                "initial clouds",
                f"shape {tuple(initial.points.shape)}",
                f"{wanted}, class by class, equally many of each",
            )
        return cls(initial.points, budget.bits, initial.class_names)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int], class_names: tuple[str, ...]
    ) -> Self:
        for field in ("bits", "points"):
            if type(layout.get(field)) is not int:
                raise InputError(f"layout '{field}'", repr(layout.get(field)), "an integer")
        bits, points = layout["bits"], layout["points"]
        check_bits(bits)
        if points < 1 or "codes" not in arrays:
            raise InputError("codes", f"{points} points, arrays {sorted(arrays)}", "at least 1 point and 'codes'")
        stored = arrays["codes"]
        if bits in FLOATS:
            if stored.dtype != FLOATS[bits] or stored.ndim != 3 or stored.shape[1:] != (points, 3):
                raise InputError(
                    "codes", f"{stored.dtype} of shape {stored.shape}", f"float{bits} (clouds, {points}, 3)"
                )
            values = torch.from_numpy(stored.astype(np.float32))
        else:
            values = decode(torch.from_numpy(unpack(stored, bits, points * 3)), bits).view(-1, points, 3)
        if len(values) == 0 or len(values) % len(class_names):
            raise InputError("codes", f"{len(values)} clouds", f"a multiple of {len(class_names)} classes")
        if not torch.isfinite(values).all():
            raise InputError("codes", "NaN or infinite coordinates", "finite ones")
        return cls(values, bits, class_names)

    def arrays(self) -> Arrays:
        if self.bits in FLOATS:
            return {"codes": self.points.detach().numpy().astype(FLOATS[self.bits])}
        codes = encode(self.points, self.bits).flatten(1).numpy()
        return {"codes": pack(codes, self.bits)}

    def layout(self) -> dict[str, int]:
        return {"bits": self.bits, "points": self.points.shape[1]}

    def learned(self) -> dict[str, Tensor]:
        return {"points": self.points}

    def decode(self, index: Tensor | None = None) -> PointClouds:
        points = self.points if index is None else self.points[index]
        labels = self.labels if index is None else self.labels[index]
        return PointClouds(round_through(points, self.bits), labels, self.class_names, {"source": "storage 'points'"})

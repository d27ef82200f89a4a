"""Stored points: the clouds themselves, as floats or fixed-point codes, and soft labels if wanted."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage.base import Arrays, Budget, check_bits, check_counts, counts_array, storages, stored_labels
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.part_labels import PartStorage, places_of
from pcdistill.storage.quantise import decode, encode, pack, round_through, unpack

FLOATS = {16: np.float16, 32: np.float32}


@storages.register("points", cites=())
class StoredPoints(PartStorage):
    """`(N, P, 3)` coordinates at `bits` bits each, learned through the rounding.

    The parameterisation of DC, DM and MTT, which store float32 pixels; fixed-point codes over the cube
    [-1, 1]^3 that holds the unit sphere need no table. Hard labels cost nothing, as clouds stand class by class, or two
    bytes a class where not all have the same number of clouds. Soft ones take a byte per cloud and class; they are
    learned as logits, through the rounding, as in soft-label dataset distillation (Sucholutsky & Schonlau 2021), where
    they were floats and free of charge. Parts of points are entropy-coded (`storage.part_coding`).

    Attributes:
        points: `(N, P, 3)`, learned.
        label_logits: `(N, C)` with soft labels, else None; learned if it requires a gradient.
    """

    name = "points"
    pace: ClassVar[Mapping[str, float]] = {"labels": LABEL_PACE}
    keeps_parts = True

    def __init__(self, points: Tensor, labels: Tensor, bits: int, class_names: tuple[str, ...]) -> None:
        self.points = points.detach().clone().requires_grad_()
        self.labels = labels
        self.bits = bits
        self.class_names = class_names

    def kept(self, index: Tensor) -> Self:
        storage = type(self)(self.points[index], self.labels[index], self.bits, self.class_names)
        storage.keep_soft(self, index)
        storage.part_names, storage.parts = self.part_names, None if self.parts is None else self.parts[index]
        return storage

    @classmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget) -> Self:
        cls.refuse_parts(initial)
        check_counts(initial, budget)
        storage = cls(initial.points, initial.hard_labels, budget.bits, initial.class_names)
        storage.name_parts(initial.part_names)
        storage.parts = initial.parts
        return storage

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        layout: Mapping[str, int],
        class_names: tuple[str, ...],
        part_names: PartNames | None = None,
    ) -> Self:
        bits, points = checked_layout(layout)
        if "codes" not in arrays:
            raise InputError("codes", f"arrays {sorted(arrays)}", "'codes' among them")
        stored = arrays["codes"]
        if bits in FLOATS:
            if stored.dtype != FLOATS[bits] or stored.ndim != 3 or stored.shape[1:] != (points, 3):
                raise InputError(
                    "codes", f"{stored.dtype} of shape {stored.shape}", f"float{bits} (clouds, {points}, 3)"
                )
            values = torch.from_numpy(stored.astype(np.float32))
        else:
            values = decode(torch.from_numpy(unpack(stored, bits, points * 3)), bits).view(-1, points, 3)
        labels = stored_labels(arrays, len(values), len(class_names))
        if not torch.isfinite(values).all():
            raise InputError("codes", "NaN or infinite coordinates", "finite ones")
        storage = cls(values, labels, bits, class_names)
        storage.restore_soft(arrays, layout)
        storage.restore_parts(arrays, layout, part_names)
        return storage

    def restore_parts(
        self, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int], part_names: PartNames | None
    ) -> None:
        """Take over the parts of a layout that has them, of points in the order of the file; trusts neither.

        Raises:
            InputError: parts that do not fit.
        """
        if part_names is None and "parts" not in layout:
            return
        with torch.no_grad():
            points = self.decode().points
        found = self.read_parts(arrays, layout, part_names, places_of(points))
        self.parts = None if found is None else torch.from_numpy(found).view(points.shape[:2])

    def arrays(self) -> Arrays:
        if self.bits in FLOATS:
            codes = self.points.detach().cpu().numpy().astype(FLOATS[self.bits])
        else:
            codes = pack(encode(self.points, self.bits).flatten(1).cpu().numpy(), self.bits)
        return {"codes": codes, **self.label_arrays()}

    def label_arrays(self) -> Arrays:
        """What is kept of labels: counts of clouds where classes differ, soft labels, and parts of points."""
        kept = counts_array(self.labels, len(self.class_names)) | self.soft_arrays()
        if self.parts is None:
            return kept
        with torch.no_grad():
            clouds = self.decode()
        assert clouds.parts is not None
        return kept | self.part_arrays(places_of(clouds.points), clouds.parts.flatten().numpy())

    def layout(self) -> dict[str, int]:
        return {"bits": self.bits, "points": self.points.shape[1], **self.soft_layout(), **self.part_layout()}

    def learned(self) -> dict[str, Tensor]:
        return {"points": self.points} | self.soft_learned()

    def decode(self, index: Tensor | None = None) -> PointClouds:
        chosen = slice(None) if index is None else index
        return self.labelled(round_through(self.points[chosen], self.bits), chosen)


def checked_layout(layout: Mapping[str, int]) -> tuple[int, int]:
    """Bits and points of a layout, which is not trusted.

    Raises:
        InputError: naming the field that is missing or out of range.
    """
    for field in ("bits", "points"):
        if type(layout.get(field)) is not int:
            raise InputError(f"layout '{field}'", repr(layout.get(field)), "an integer")
    check_bits(layout["bits"])
    if layout["points"] < 1:
        raise InputError("layout 'points'", str(layout["points"]), "at least 1")
    return layout["bits"], layout["points"]

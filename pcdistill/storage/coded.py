"""Stored points, entropy-coded: a cloud is a set."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage.base import Arrays, storages, stored_labels
from pcdistill.storage.coding import LEARNED, POINTS_PER_BYTE, canonical_order, decode_sets, encode_sets
from pcdistill.storage.points import FLOATS, StoredPoints, checked_layout
from pcdistill.storage.quantise import decode, encode

MOST_CLASSES = 4096  # the coder keeps a density of each
CELLS = 2 ** (LEARNED // 3)


@storages.register("coded", cites=("devillers2000geometric", "bamler2022constriction"))
class CodedPoints(StoredPoints):
    """Fixed-point coordinates as in `StoredPoints`, all clouds in one entropy-coded stream (`storage.coding`).

    Nothing is lost but the order of the points in a cloud; without gradients, clouds decode in the order that a reader
    of the artefact finds. How many bytes a set takes depends on the set.
    Fixed soft labels are entropy-coded as well (`storage.label_coding`); learned ones take a byte per cloud and class.

    Raises:
        InputError: when made with 16 or 32 bits, which are floating point.
    """

    name = "coded"
    codes_labels = True

    def __init__(self, points: Tensor, labels: Tensor, bits: int, class_names: tuple[str, ...]) -> None:
        if bits in FLOATS:
            raise InputError("bits", f"{bits} in storage 'coded'", "2 to 12: only fixed-point codes are coded")
        if len(class_names) > MOST_CLASSES:
            raise InputError("class_names", f"{len(class_names)} classes", f"at most {MOST_CLASSES} in storage 'coded'")
        super().__init__(points, labels, bits, class_names)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        layout: Mapping[str, int],
        class_names: tuple[str, ...],
        part_names: PartNames | None = None,
    ) -> Self:
        bits, points = checked_layout(layout)
        if type(layout.get("clouds")) is not int or layout["clouds"] < 1:
            raise InputError("layout 'clouds'", repr(layout.get("clouds")), "an integer, at least 1")
        stream = arrays.get("codes")
        if stream is None or stream.dtype != np.uint8 or stream.ndim != 1:
            found = "missing" if stream is None else f"{stream.dtype} of shape {stream.shape}"
            raise InputError("codes", found, "uint8 of one dimension")
        if bits in FLOATS:
            raise InputError("layout 'bits'", f"{bits}", "2 to 12: only fixed-point codes are coded")
        if layout["clouds"] * points > POINTS_PER_BYTE * len(stream):  # before anything is allocated for them
            found = f"{layout['clouds']} clouds of {points} points"
            raise InputError("layout", found, f"at most {POINTS_PER_BYTE} points for each of the {len(stream)} bytes")
        if len(class_names) > MOST_CLASSES:
            raise InputError("class_names", f"{len(class_names)} classes", f"at most {MOST_CLASSES} in storage 'coded'")
        labels = stored_labels(arrays, layout["clouds"], len(class_names))
        codes = torch.from_numpy(decode_sets(stream, labels.numpy(), points, bits))
        storage = cls(decode(codes, bits), labels, bits, class_names)
        storage.restore_soft(arrays, layout)
        storage.restore_parts(arrays, layout, part_names)
        return storage

    def arrays(self) -> Arrays:
        codes = encode(self.points, self.bits).cpu().numpy()
        return {"codes": encode_sets(codes, self.labels.numpy(), self.bits), **self.label_arrays()}

    def layout(self) -> dict[str, int]:
        return {**super().layout(), "clouds": len(self)}

    def rate(self, decoded: PointClouds) -> Tensor:
        """Cross-entropy of points under the density that the coder learns of their class, in bits above the cube's.

        A smooth stand-in for the coder: densities of all stored clouds in boxes of a sixteenth of the cube's edge, each
        with its neighbours, and interpolated between the middles of boxes. What finer bits take does not depend on
        where a point is and is left out, as is what the lack of order saves.
        """
        places = (self.points.detach().clamp(-1, 1 - 1e-6) + 1).mul(CELLS / 2).long()
        boxes = (places[..., 2] * CELLS + places[..., 1]) * CELLS + places[..., 0]
        boxes = boxes + (self.labels.to(boxes.device) * CELLS**3)[:, None]
        counts = torch.bincount(boxes.flatten(), minlength=len(self.class_names) * CELLS**3).to(self.points.dtype)
        grid = counts.view(-1, 1, CELLS, CELLS, CELLS)
        blurred = nn.functional.avg_pool3d(grid, 3, stride=1, padding=1) + 1 / CELLS**2
        bits = -(blurred / blurred.mean((2, 3, 4), keepdim=True)).log2()
        classes = decoded.hard_labels
        by_class = [_between(bits[label], decoded.points[classes == label]) for label in classes.unique().tolist()]
        return torch.cat(by_class).mean()

    def decode(self, index: Tensor | None = None) -> PointClouds:
        decoded = super().decode(index)
        if torch.is_grad_enabled():
            return decoded
        codes = encode(decoded.points, self.bits)
        order = torch.from_numpy(canonical_order(codes.cpu().numpy(), self.bits)).to(codes.device)
        return decoded.at_points(order)


def _between(grid: Tensor, points: Tensor) -> Tensor:
    """Values of a grid `(1, S, S, S)` over the cube at points `(B, P, 3)`, interpolated between its cells' middles."""
    places = points.view(1, -1, 1, 1, 3)
    return nn.functional.grid_sample(grid[None], places, padding_mode="border", align_corners=False).flatten()

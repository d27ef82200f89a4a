"""Parts of points beside their coordinates: kept as labels, entropy-coded, and never learned."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage.base import Arrays
from pcdistill.storage.coding import Ints
from pcdistill.storage.grids import cells_of
from pcdistill.storage.labels import SoftStorage
from pcdistill.storage.part_coding import Places, decode_parts, encode_parts

SIDE = 8  # cells a side of the grid by which labels of points tell one another
MOST_PARTS = 4096
MOST_OF_A_CLASS = 256  # what reading a label may take time for


class PartStorage(SoftStorage):
    """A storage whose points may be labelled with parts. While a point moves it keeps its label.

    Attributes:
        parts: `(N, M)` int64, of the points that are learned; None without.
        part_names: what parts there are, and which class has which; None without.
    """

    parts: Tensor | None = None
    part_names: PartNames | None = None

    def name_parts(self, part_names: PartNames | None) -> None:
        """Keep parts of these names, or none.

        Raises:
            InputError: more than can be stored.
        """
        if part_names is not None:
            most = max(map(len, part_names.of_class))
            if len(part_names) > MOST_PARTS or most > MOST_OF_A_CLASS:
                found = f"{len(part_names)} parts, {most} of a class"
                raise InputError("parts", found, f"at most {MOST_PARTS}, {MOST_OF_A_CLASS} of a class")
        self.part_names = part_names

    def part_arrays(self, places: Places, parts: Ints) -> Arrays:
        """What is kept of labels `(K,)` of points that a reader knows the places of; nothing without parts."""
        if self.part_names is None:
            return {}
        return {"parts": encode_parts(parts, places, self.labels.numpy(), self.part_names)}

    def part_layout(self) -> dict[str, int]:
        """What the layout says of them."""
        return {} if self.part_names is None else {"parts": len(self.part_names)}

    def read_parts(
        self,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        layout: Mapping[str, int],
        part_names: PartNames | None,
        places: Places,
    ) -> Ints | None:
        """The inverse of `part_arrays` and `part_layout`, of points that are known; trusts neither.

        Raises:
            InputError: parts without names or the other way round, or a stream that does not fit.
        """
        self.name_parts(part_names)
        count = None if part_names is None else len(part_names)
        if layout.get("parts") != count or isinstance(layout.get("parts"), bool):
            raise InputError("layout 'parts'", f"{layout.get('parts')!r:.40}", f"{count} as in the metadata")
        if part_names is None:
            return None
        stream = arrays.get("parts")
        if stream is None or stream.dtype != np.uint8 or stream.ndim != 1:
            found = "missing" if stream is None else f"{stream.dtype} of shape {stream.shape}"
            raise InputError("parts", found, "uint8 of one dimension")
        return decode_parts(stream, places, self.labels.numpy(), part_names)

    def labelled(self, points: Tensor, chosen: Tensor | slice, parts: Tensor | None = None) -> PointClouds:
        """As in `SoftStorage`, with the parts of these points, by default those of the learned ones."""
        clouds = super().labelled(points, chosen)
        if parts is None and self.parts is not None:
            parts = self.parts[chosen]
        return clouds if parts is None else replace(clouds, parts=parts, part_names=self.part_names)


def places_of(points: Tensor) -> Places:
    """Places of the points of clouds `(N, P, 3)`."""
    owner = np.repeat(np.arange(len(points)), points.shape[1])
    return Places(owner, cells_of(points.cpu(), SIDE).flatten(0, 1).numpy(), SIDE)


def cell_parts(points: Tensor, parts: Tensor, cells: Tensor, side: int, count: int) -> Tensor:
    """The part `(V,)` of each of the cells `(V, 3)`, ascending, of a cloud: that of most points `(P, 3)` in it.

    Of equally many the part of the lowest number; of a cell without points that of the nearest one.
    """
    steps = torch.tensor([side * side, side, 1])
    keys, own = cells @ steps, cells_of(points, side) @ steps
    place = torch.searchsorted(keys, own).clamp(max=len(keys) - 1)
    inside = keys[place] == own
    votes = torch.bincount(place[inside] * count + parts[inside], minlength=len(keys) * count).view(-1, count)
    found = votes.argmax(1)
    empty = votes.sum(1) == 0
    if bool(empty.any()):
        middles = (cells[empty] + 0.5) * (2 / side) - 1
        found[empty] = parts[torch.cdist(middles.double(), points.double()).argmin(1)]
    return found

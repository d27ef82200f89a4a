"""Occupied cells of clouds: which ones these are, and what bits have to be saved to say otherwise."""

from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.storage.coding import Bytes, Ints, Reals

Cells = np.ndarray[Any, np.dtype[np.int8]]

# What a wrong cell is worth: numbers from a validation split (docs/notebook/14-voxels.md).
SHARE_BITS = 2048.0  # bits saved for which a cell is given up that has all points of a cloud, else its share of them
MEAN_BITS = 6.0  # at least so many for a cell of as many points as the cloud's cells have on average
FILL_BITS = 1.0  # and for which an empty one is filled, no further from a point than ...
FILL_REACH = 0.15  # ... so much, in units of the unit sphere's radius, and ...
FILL_CELLS = 0.8  # ... so many cells
SET = np.array([bin(byte).count("1") for byte in range(256)])  # bits of a byte
AROUND = torch.cartesian_prod(*[torch.tensor([-1, 0, 1])] * 3)


class Packed:
    """Occupancy of grids `(N, n, n, n)`, a bit a cell; read and written some clouds at a time."""

    def __init__(self, clouds: int, side: int, bits: Bytes | None = None) -> None:
        self.shape = (clouds, side, side, side)
        self.bits: Bytes = np.zeros((clouds, -(-(side**3) // 8)), np.uint8) if bits is None else bits

    @classmethod
    def of(cls, grids: Cells) -> Self:
        """The same grids, packed."""
        packed = cls(len(grids), grids.shape[-1])
        packed[np.arange(len(grids))] = grids
        return packed

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Ints | slice) -> Cells:
        _, side, _, _ = self.shape
        cells = np.unpackbits(self.bits[index], axis=1, count=side**3)
        return cells.view(np.int8).reshape(-1, side, side, side)

    def __setitem__(self, index: Ints, grids: Cells) -> None:
        self.bits[index] = np.packbits(grids.reshape(len(grids), -1).view(np.uint8), axis=1)

    def cells(self, cloud: int) -> Tensor:
        """`(V, 3)` occupied cells of one cloud, ascending."""
        return torch.from_numpy(np.argwhere(self[slice(cloud, cloud + 1)][0]))

    def counts(self) -> Ints:
        """`(N,)` occupied cells of every cloud."""
        return np.concatenate([SET[part].sum(1) for part in np.array_split(self.bits, -(-len(self) // 4096))])

    def kept(self, index: Ints) -> Self:
        """The grids at `index`."""
        return type(self)(len(index), self.shape[-1], self.bits[index])


class Offer(NamedTuple):
    """Grids `(B, n, n, n)`, and for every cell how many bits have to be saved for it to be flipped."""

    grids: Cells
    prices: Reals


def cells_of(points: Tensor, side: int) -> Tensor:
    """Cells that points `(..., 3)` lie in, those outside the cube in the nearest."""
    return ((points + 1) * (side / 2)).floor().clamp(0, side - 1).long()


def occupied(cells: Tensor, side: int) -> Cells:
    """Grids `(B, n, n, n)` of cells `(B, M, 3)`."""
    grids = np.zeros((len(cells), side, side, side), np.int8)
    x, y, z = cells.numpy().transpose(2, 0, 1)
    grids[np.arange(len(cells))[:, None], x, y, z] = 1
    return grids


def offered(points: Tensor, side: int) -> Offer:
    """The cells that points `(B, P, 3)` lie in, and what it takes to say otherwise.

    The fewer of a cloud's points a cell has, the cheaper it is given up, unless all have few; of empty cells only
    those near a point can be had, which a denser sample might have filled. The fullest cell of a cloud stays whatever
    it costs.
    """
    cells = cells_of(points, side)
    clouds, count = points.shape[:2]
    first = (torch.arange(clouds) * side**3)[:, None]
    steps = torch.tensor([side * side, side, 1])
    held = torch.bincount((first + cells @ steps).flatten(), minlength=clouds * side**3).view(clouds, -1)
    mean = count / (held > 0).sum(1, keepdim=True)
    prices = held.double() * (MEAN_BITS / mean).clamp_min(SHARE_BITS / count)
    prices.scatter_(1, held.argmax(1, keepdim=True), torch.inf)
    prices[held == 0] = torch.inf
    places = (points + 1) * (side / 2)
    reach = min(FILL_CELLS, FILL_REACH * side / 2)
    flat = prices.flatten()
    for offset in AROUND:
        beside = cells + offset
        near = (places - beside - 0.5).square().sum(2) < reach**2
        near &= ((beside >= 0) & (beside < side)).all(2)
        found = (first + beside @ steps)[near]
        flat[found[held.flatten()[found] == 0]] = FILL_BITS
    shape = (clouds, side, side, side)
    return Offer((held > 0).numpy().astype(np.int8).reshape(shape), prices.numpy().reshape(shape))

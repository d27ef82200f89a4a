"""Occupied voxels: the shape, and not which of its points were sampled."""

from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PartNames, PointClouds, parts_of
from pcdistill.core.cache import cached
from pcdistill.core.errors import InputError
from pcdistill.core.progress import Report
from pcdistill.storage.base import Arrays, Budget, counts_array, storages, stored_labels
from pcdistill.storage.coding import Bytes, Ints
from pcdistill.storage.grids import Offer, Packed, cells_of, occupied, offered
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.occupancy import Settled, decode_grids, encode_grids, settled
from pcdistill.storage.part_coding import Places
from pcdistill.storage.part_labels import PartStorage, cell_parts

SIDES = range(4, 65)  # cells a side that can be stored
POINTS = 256  # of a decoded cloud, where nobody asks for others
SPREAD = 0.8  # standard deviation, in cells, of the neighbours that a point is moved to the mean of
REACH = 2  # cells on each side that count as neighbours
POINT_PACE, PATIENCE = 0.6, 0.375  # the further points move, the more bits their cells take
NOISE = 0.5  # of a decoded point: uniform over so much of a cell
MOST_POINTS = 1 << 16  # of a decoded cloud
POINTS_PER_BYTE = 4096  # of decoded clouds, at most: the size of the stream bounds what a reader allocates
PART = 256  # clouds whose grids are made at once
KEPT_CELLS = 1 << 23  # of a set whose grids are remembered: some seconds of reading
MOST_CLASSES = 4096  # the coder keeps a density of each


@storages.register(
    "voxels",
    cites=(
        "nguyen2021voxeldnn", "kaya2022sequence", "mahoney2005adaptive", "bamler2022constriction",
        "bengio2013estimating",
    ),
)  # fmt: skip
class VoxelClouds(PartStorage):
    """Occupancy of an n x n x n grid over the cube [-1, 1]^3, all clouds in one entropy-coded stream.

    A cloud is the cells that its points lie in, of as many points as there are: a dense sample leaves no holes. What
    few points say is given up, and holes are filled, where that saves bits (`storage.grids`, `occupancy.settled`).
    Decoded to P points, every cell once before any twice: its centre moved to the mean of the occupied centres
    around it (Gaussian weights, half a cell at most), and uniform noise over half a cell, which follows from the
    occupied cells. How many bytes a set takes depends on the set (`storage.occupancy`).

    Learned are points, one for every cell at the start; gradients pass the rounding to cells (Bengio, Leonard &
    Courville 2013), and noise as large as that of decoded points follows from where the learned ones are, so that it
    is another one after every step.
    Fixed soft labels are entropy-coded as in storage `coded`; learned ones take a byte per cloud and class. A cell is a
    part of what most points in it are; labels of cells are entropy-coded (`storage.part_coding`).

    Attributes:
        points: `(N, M, 3)`, learned; M cells of the fullest cloud, others repeat theirs. Made when they are first asked
            for: until then there are grids, a bit a cell.
        side: n, cells a side, 4 to 64.
        count: P, points of a decoded cloud.
    """

    name = "voxels"
    pace: ClassVar[Mapping[str, float]] = {"points": POINT_PACE, "labels": LABEL_PACE}
    patience = PATIENCE
    codes_labels = True
    dense = True
    keeps_parts = True

    def __init__(self, grids: Packed, labels: Tensor, count: int, class_names: tuple[str, ...]) -> None:
        self.side = _checked_side(grids.shape[-1])
        _check_classes(class_names)
        self.labels, self.count, self.class_names = labels, count, class_names
        self._grids = grids
        self._points: Tensor | None = None
        self._cell_parts = np.empty(0, np.int64)  # of all cells, cloud by cloud, until there are points
        self._coded: tuple[Bytes, Bytes] | None = None  # bits of the grids that were coded last, and their stream

    @classmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget) -> Self:
        labels = torch.arange(initial.num_classes).repeat_interleave(torch.tensor(budget.counts(initial.num_classes)))
        if not torch.equal(initial.hard_labels, labels):
            raise InputError("initial clouds", f"{len(initial)} of them", f"{len(labels)}, class by class")
        return cls.of_all(initial, budget.side, budget.points)

    @classmethod
    def of_all(cls, real: CloudSource, side: int, count: int, on_progress: Report | None = None) -> Self:
        """All clouds of a set, class by class; read some at a time, so that a set on disk need not fit into memory.

        Args:
            real: the set.
            side: cells a side of a grid.
            count: points of a decoded cloud.
            on_progress: called with the clouds read.

        Raises:
            InputError: a side that cannot be stored.
        """
        order = real.hard_labels.argsort(stable=True)
        found = _settled(real, order, side, on_progress)
        storage = cls(found.grids, real.hard_labels[order], count, real.class_names)
        if (named := parts_of(real)) is not None:
            parts, names = named
            storage.name_parts(names)
            storage._cell_parts = np.concatenate([
                cell_parts(real.batch(at[None])[0], parts[at], found.grids.cells(cloud), side, len(names)).numpy()
                for cloud, at in enumerate(order)
            ])  # fmt: skip
        return storage

    @classmethod
    def costs(cls, real: CloudSource, budget: Budget) -> Tensor:
        """Coded one after the other, class by class: a cloud that those before it predict takes few bytes."""
        order = real.hard_labels.argsort(stable=True)
        costs = torch.empty(len(order), dtype=torch.float64)
        costs[order] = torch.from_numpy(_settled(real, order, budget.side).bits / 8)
        return costs

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        layout: Mapping[str, int],
        class_names: tuple[str, ...],
        part_names: PartNames | None = None,
    ) -> Self:
        for field, least, most in (("side", SIDES[0], SIDES[-1]), ("points", 1, MOST_POINTS), ("clouds", 1, 1 << 24)):
            if type(layout.get(field)) is not int or not least <= layout[field] <= most:
                raise InputError(f"layout '{field}'", repr(layout.get(field)), f"an integer from {least} to {most}")
        stream = arrays.get("voxels")
        if stream is None or stream.dtype != np.uint8 or stream.ndim != 1:
            found = "missing" if stream is None else f"{stream.dtype} of shape {stream.shape}"
            raise InputError("voxels", found, "uint8 of one dimension")
        _check_classes(class_names)
        side, clouds, points = layout["side"], layout["clouds"], layout["points"]
        _check_points(clouds * points, stream)  # before anything is allocated for them
        labels = stored_labels(arrays, clouds, len(class_names))
        grids = _read(stream, labels.numpy(), side)
        counts = grids.counts()
        if not counts.all():
            raise InputError("voxels", f"no cell in cloud {int(counts.argmin())}", "at least one in every cloud")
        storage = cls(grids, labels, points, class_names)
        storage._coded = grids.bits, stream  # they are those that the coder writes, or `decode_grids` had refused them
        storage.restore_soft(arrays, layout)
        if part_names is not None or "parts" in layout:
            parts = storage.read_parts(arrays, layout, part_names, storage._places())
            storage._cell_parts = storage._cell_parts if parts is None else parts
        return storage

    @property
    def points(self) -> Tensor:
        if self._points is None:
            centres = [_centres(self._grids.cells(cloud), self.side).float() for cloud in range(len(self))]
            self._points = _padded(centres).requires_grad_()
            if self.part_names is not None:
                own = [torch.from_numpy(part)[:, None] for part in self._by_cloud(self._cell_parts)]
                self.parts = _padded(own)[..., 0]
        return self._points

    @property
    def grids(self) -> Packed:
        """Occupancy `(N, n, n, n)` of all clouds."""
        if self._points is not None:
            for part in np.array_split(np.arange(len(self)), -(-len(self) // PART)):
                self._grids[part] = occupied(cells_of(self._points.detach()[part].cpu(), self.side), self.side)
        return self._grids

    def parts_of_cells(self) -> Ints:
        """The parts of all occupied cells, cloud by cloud, as points that were moved have them."""
        if self._points is None or self.parts is None or self.part_names is None:
            return self._cell_parts
        grids, points, count = self.grids, self._points.detach().cpu(), len(self.part_names)
        own = zip(points, self.parts, strict=True)
        return np.concatenate(
            [cell_parts(*each, grids.cells(cloud), self.side, count).numpy() for cloud, each in enumerate(own)]
        )

    def _by_cloud(self, values: Ints) -> list[Ints]:
        """Values of all occupied cells, apart by cloud."""
        return np.split(values, self.grids.counts().cumsum()[:-1])

    def _places(self) -> Places:
        """Of all occupied cells."""
        grids = self.grids
        cells = np.concatenate([grids.cells(cloud).numpy() for cloud in range(len(self))])
        return Places(np.repeat(np.arange(len(self)), grids.counts()), cells, self.side)

    def arrays(self) -> Arrays:
        grids = self.grids
        if self._coded is None or not np.array_equal(grids.bits, self._coded[0]):
            self._coded = grids.bits.copy(), encode_grids(grids, self.labels.numpy())
        _check_points(len(self) * self.count, self._coded[1])
        counts = counts_array(self.labels, len(self.class_names))
        kept = {"voxels": self._coded[1].copy(), **counts, **self.soft_arrays()}
        return kept if self.part_names is None else kept | self.part_arrays(self._places(), self.parts_of_cells())

    def layout(self) -> dict[str, int]:
        """`bits` are those of a cell's number along an axis: they follow from the side."""
        facts = {"bits": axis_bits(self.side), "points": self.count, "side": self.side, "clouds": len(self)}
        return {**facts, **self.soft_layout(), **self.part_layout()}

    def learned(self) -> dict[str, Tensor]:
        return {"points": self.points} | self.soft_learned()

    def decode(self, index: Tensor | None = None) -> PointClouds:
        """Clouds of `count` points; where gradients are wanted, of as many as are learned."""
        chosen = torch.arange(len(self)) if index is None else index
        if not torch.is_grad_enabled():
            grids = self.grids
            drawn = [self._drawn(grids.cells(cloud)) for cloud in chosen.tolist()]
            clouds = torch.stack([points for points, _ in drawn])
            if self.part_names is None:
                return self.labelled(clouds, chosen)
            own = self._by_cloud(self.parts_of_cells())
            parts = [torch.from_numpy(own[cloud])[at] for cloud, (_, at) in zip(chosen.tolist(), drawn, strict=True)]
            return self.labelled(clouds, chosen, torch.stack(parts))
        points = self.points[chosen]
        exact = points.detach().cpu()
        noise = torch.stack([_noise(_random(cloud), len(cloud)) for cloud in exact])
        rounded = _centres(cells_of(exact, self.side) + noise, self.side).to(exact.dtype)
        return self.labelled(points + (rounded - exact).to(points.device), chosen)

    def kept(self, index: Tensor) -> Self:
        storage = type(self)(self.grids.kept(index.numpy()), self.labels[index], self.count, self.class_names)
        if self._points is not None:
            storage._points = self._points.detach()[index].clone().requires_grad_()
            storage.parts = None if self.parts is None else self.parts[index]
        if self.part_names is not None:
            storage.name_parts(self.part_names)
            own = self._by_cloud(self.parts_of_cells())
            storage._cell_parts = np.concatenate([own[cloud] for cloud in index.tolist()])
        storage.keep_soft(self, index)
        return storage

    def _drawn(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """`count` points of the occupied cells `(V, 3)` of a cloud, the same at every call, and the cell of each."""
        random = _random(cells.to(torch.uint8))
        rounds = -(-self.count // len(cells))
        turns = random.random_raw(rounds * len(cells)).reshape(rounds, len(cells)).argsort(1, kind="stable")
        order = torch.from_numpy(turns.ravel()[: self.count])
        places = cells + _moved(cells, self.side)
        return _centres(places[order] + _noise(random, self.count), self.side).float(), order


def _read(stream: Bytes, classes: Ints, side: int) -> Packed:
    """The grids of a stream; of a large one remembered, as its reading takes a while.

    Raises:
        InputError: as `decode_grids`.
    """
    if len(classes) * side**3 < KEPT_CELLS:
        return decode_grids(stream, classes, side)
    facts = sha256(repr((side, classes.tolist())).encode() + stream.tobytes()).hexdigest()

    def packed(tensors: Mapping[str, Tensor]) -> Packed:
        wanted = Packed(len(classes), side)
        bits = tensors["bits"].numpy()
        if bits.shape != wanted.bits.shape or bits.dtype != np.uint8:
            raise ValueError("other grids")
        return Packed(len(classes), side, bits)

    found, _ = cached(
        "voxels", facts, lambda: {"bits": torch.from_numpy(decode_grids(stream, classes, side).bits)}, packed
    )
    return found


def _settled(real: CloudSource, order: Tensor, side: int, on_progress: Report | None = None) -> Settled:
    """Grids and bits of the clouds of a set in an order, class by class; read some at a time."""
    _checked_side(side)
    done = 0

    def offer(block: Ints) -> Offer:
        nonlocal done
        done += len(block)
        if on_progress is not None:
            on_progress(done, "")
        places = order[torch.from_numpy(block)]
        ascending = places.argsort()
        return offered(real.batch(places[ascending])[ascending.argsort()], side)

    return settled(offer, real.hard_labels[order].numpy(), side)


def _checked_side(side: int) -> int:
    if side not in SIDES:
        raise InputError("side", str(side), f"{SIDES[0]} to {SIDES[-1]} cells")
    return side


def _check_classes(class_names: tuple[str, ...]) -> None:
    if (count := len(class_names)) > MOST_CLASSES:
        raise InputError("class_names", f"{count} classes", f"at most {MOST_CLASSES} in storage 'voxels'")


def _check_points(points: int, stream: Bytes) -> None:
    if points > POINTS_PER_BYTE * len(stream):
        raise InputError("points", f"{points} of all clouds", f"at most {POINTS_PER_BYTE} a byte of {len(stream)}")


def axis_bits(side: int) -> int:
    """Bits of a cell's number along an axis."""
    return (side - 1).bit_length()


def _centres(cells: Tensor, side: int) -> Tensor:
    return (cells + 0.5) * (2 / side) - 1


def _random(values: Tensor) -> np.random.Philox:
    """A source of numbers that follows from `values`: the same everywhere, and for equal values."""
    return np.random.Philox(key=int.from_bytes(sha256(values.contiguous().numpy().tobytes()).digest()[:16], "little"))


def _noise(random: np.random.Philox, count: int) -> Tensor:
    """`(count, 3)` float64, uniform over `NOISE` cells around 0."""
    drawn = (random.random_raw(3 * count) >> np.uint64(11)).astype(np.float64) / 2.0**53 - 0.5
    return torch.from_numpy(NOISE * drawn).view(count, 3)


def _padded(clouds: list[Tensor]) -> Tensor:
    """Clouds of unequal size as one tensor: smaller ones repeat their points."""
    most = torch.arange(max(map(len, clouds)))
    return torch.stack([cloud[most % len(cloud)] for cloud in clouds])


def _moved(cells: Tensor, side: int) -> Tensor:
    """`(V, 3)` float64, in cells: from centres of occupied cells to the mean of those around, half a cell at most."""
    offsets, weights = _kernel()
    wide = side + 2 * REACH
    grid = torch.zeros(wide**3, dtype=torch.long)
    steps = torch.tensor([wide * wide, wide, 1])
    places = (cells + REACH) @ steps
    grid[places] = 1
    there = (grid[places[:, None] + offsets @ steps] * weights).double()  # integers: their sums hang on no order
    mean = there @ offsets.double() / there.sum(1, keepdim=True)
    return mean.clamp(-0.5, 0.5)


@cache
def _kernel() -> tuple[Tensor, Tensor]:
    """Offsets `(K, 3)` of the cells around one, itself included, and their weights `(K,)` of 65536."""
    steps = torch.arange(-REACH, REACH + 1)
    offsets = torch.cartesian_prod(steps, steps, steps)
    squares = offsets.square().sum(1)
    near = squares <= REACH**2 + 1
    return offsets[near], torch.exp(-squares[near].double() / (2 * SPREAD**2)).mul(65536).round().long()

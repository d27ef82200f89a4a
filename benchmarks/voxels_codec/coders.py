"""Other ways to store occupied voxels: a function each, from grids and classes to the bytes that they all take.

Grids are `(N, n, n, n)` int8, 1 where a cell is occupied, class after class; classes `(N,)`. Ideal ones write no
stream: their bytes are what an arithmetic coder that loses nothing would take for their model.
"""

import lzma
import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.special import gammaln

from pcdistill.storage.coding import Ints, encode_sets
from pcdistill.storage.grids import Cells
from pcdistill.storage.occupancy import NEAR
from pcdistill.storage.voxels import axis_bits

Coder = Callable[[Cells, Ints], float]

PRIORS = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # what each symbol counts for before it is seen
LONGEST = 255  # of runs: longer ones are cut, and go on
LEVELS = range(11)  # of compression that Draco knows


def ideal(counts: np.ndarray[Any, Any]) -> float:
    """Bytes of symbols that are coded with an adaptive model of order 0: the sum of -log2 p, with the best of `PRIORS`.

    Of A symbols, one that came c times among n has p = (c + prior) / (n + A prior), so that the sum follows from how
    often each comes, in whatever order.

    Args:
        counts: `(contexts, A)`; every context learns on its own.
    """
    return min(_nats(counts, prior) for prior in PRIORS) / math.log(2) / 8


def _nats(counts: np.ndarray[Any, Any], prior: float) -> float:
    symbols, seen = counts.shape[1] * prior, counts.sum(1)
    every = gammaln(seen + symbols) - gammaln(symbols)
    return float(every.sum() - (gammaln(counts + prior) - gammaln(prior)).sum())


def raw(grids: Cells, classes: Ints) -> float:
    """A bit a cell."""
    return len(_packed(grids)[0])


def zstd(grids: Cells, classes: Ints) -> float:
    """Zstandard, level 22."""
    import zstandard

    return min(len(zstandard.compress(content, 22)) for content in _packed(grids))


def xz(grids: Cells, classes: Ints) -> float:
    """LZMA, preset 9 extreme."""
    return min(len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)) for content in _packed(grids))


def _packed(grids: Cells) -> list[bytes]:
    """A bit a cell, in two orders of which the better counts: cloud after cloud, and cell after cell of all clouds."""
    cells = grids.reshape(len(grids), -1)
    return [np.packbits(order).tobytes() for order in (cells, cells.T)]


def run_lengths(grids: Cells, classes: Ints) -> float:
    """Lengths of runs of empty and of occupied cells, cloud after cloud, with a model each."""
    cells = grids.ravel()
    ends = np.flatnonzero(np.diff(cells, append=1 - cells[-1])) + 1
    runs = np.diff(ends, prepend=0)
    return sum(ideal(_lengths(runs[first::2])[None]) for first in (0, 1))


def _lengths(runs: Ints) -> Ints:
    """How often symbols 0 to `LONGEST` come, of which the last says that a run goes on."""
    counts = np.bincount(runs % LONGEST, minlength=LONGEST + 1)
    counts[LONGEST] += (runs // LONGEST).sum()
    return counts


def octree(grids: Cells, classes: Ints) -> float:
    """Which of the eight children of every occupied node are occupied, breadth first, with a model for every level."""
    side = 1 << axis_bits(grids.shape[-1])
    level = np.zeros((len(grids), side, side, side), np.int8)
    cut = grids.shape[-1]
    level[:, :cut, :cut, :cut] = grids
    total = 0.0
    while level.shape[-1] > 1:
        half = level.shape[-1] // 2
        eight = level.reshape(len(level), half, 2, half, 2, half, 2).transpose(0, 1, 3, 5, 2, 4, 6)
        symbols = np.packbits(eight.reshape(-1, 8), axis=1)
        level = (symbols > 0).astype(np.int8).reshape(len(level), half, half, half)
        total += ideal(np.bincount(symbols.ravel(), minlength=256)[None, 1:])  # empty nodes have no children
    return total


def draco(grids: Cells, classes: Ints) -> float:
    """A file for each cloud."""
    bits = axis_bits(grids.shape[-1])
    return sum(_draco_file(np.argwhere(grid), bits) for grid in grids)


def draco_at_once(grids: Cells, classes: Ints) -> float:
    """One file for all clouds, side by side in a larger cube."""
    bits, more = axis_bits(grids.shape[-1]), -(-axis_bits(len(grids)) // 3)
    places = np.argwhere(grids)
    corners = np.stack(np.unravel_index(places[:, 0], (1 << more,) * 3), 1) << bits
    return _draco_file(corners + places[:, 1:], bits + more)


def _draco_file(cells: Ints, bits: int) -> int:
    """Bytes of the smallest file of all levels, which is checked to be without loss."""
    import DracoPy

    given: dict[str, Any] = {"quantization_bits": bits, "quantization_range": float((1 << bits) - 1)}
    given |= {"quantization_origin": np.zeros(3), "create_metadata": False}
    points = cells.astype(np.float32)
    smallest = min((DracoPy.encode(points, compression_level=level, **given) for level in LEVELS), key=len)
    found = np.rint(DracoPy.decode(smallest).points).astype(np.int64)
    ordered = [part[np.lexsort(part.T)] for part in (found, cells)]
    assert np.array_equal(ordered[0], ordered[1])
    return len(smallest)


def sets(grids: Cells, classes: Ints) -> float:
    """The coder of sets of points (`storage.coding`): a stream for all clouds of equally many voxels."""
    clouds = [np.argwhere(grid) for grid in grids]
    sizes = np.array([len(cloud) for cloud in clouds])
    groups = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    bits = axis_bits(grids.shape[-1])
    return sum(len(encode_sets(np.stack([clouds[i] for i in group]), classes[group], bits)) for group in groups)


def one_share(grids: Cells, classes: Ints) -> float:
    """One probability for all cells."""
    occupied = grids.sum(dtype=np.int64)
    return ideal(np.array([[grids.size - occupied, occupied]]))


def cell_shares(grids: Cells, classes: Ints) -> float:
    """A probability for each cell and class."""
    cells = grids.reshape(len(grids), -1)
    own = [cells[classes == label] for label in np.unique(classes)]
    counts = [np.stack([(part == what).sum(0) for what in (0, 1)], 1) for part in own]
    return ideal(np.concatenate(counts))


def neighbours(grids: Cells, classes: Ints) -> float:
    """A probability for each state of those 13 of the 26 cells around one that come before it."""
    side = grids.shape[-1]
    padded = np.pad(grids, ((0, 0), (1, 1), (1, 1), (1, 1)))
    states = np.zeros(grids.shape, np.int64)
    for x, y, z in NEAR:
        states = states << 1 | padded[:, 1 + x :, 1 + y :, 1 + z :][:, :side, :side, :side]
    return ideal(np.bincount((states << 1 | grids).ravel(), minlength=2 << len(NEAR)).reshape(-1, 2))


CODERS: dict[str, Coder] = {
    "raw bits": raw,
    "one probability (ideal)": one_share,
    "a probability per cell and class (ideal)": cell_shares,
    "run lengths (ideal)": run_lengths,
    "zstd": zstd,
    "LZMA": xz,
    "octree (ideal)": octree,
    "a probability per state of 13 neighbours (ideal)": neighbours,
    "Draco, a file per cloud": draco,
    "Draco, one file": draco_at_once,
    "storage `coded`": sets,
}
NEEDS = {"zstd": "zstandard", "Draco, a file per cloud": "DracoPy", "Draco, one file": "DracoPy"}


def missing() -> dict[str, str]:
    """Coders that cannot be measured here, and the package that they need."""
    return {name: package for name, package in NEEDS.items() if find_spec(package) is None}

"""Entropy coding of occupied voxels: one shape tells the next, and one voxel its neighbours.

A cloud is coded as the occupancy of an n x n x n grid. Grids of more than `FLAT` cells a side are halved until they are
smaller, the coarsest is coded first, and of every finer one only cells whose parent is occupied. Within a level cells
are coded in waves: every cell with the same z + 3 y + 9 x, in all clouds of a block at once, so that the neighbours of
a cell at lower x, y, z, up to two cells away, are known when its turn comes, as is half of its mirror images. The
probability of a cell comes from a small network: adaptive tables of contexts, the neighbours, the mirrored cells, the
parents and the density that the class had in clouds coded before go in, one hidden layer and weights of the class mix
them in the logistic domain, and after every wave the network learns from what was coded, so that nothing of it is
stored (context mixing: Mahoney, "Adaptive weighing of context models", 2005; contexts and mixing by a network for
voxels: Nguyen et al., "Learning-based lossless compression of 3D point cloud geometry", 2021; Kaya & Tabus 2022).

Every machine reads the same bits (`storage.mixing`). The range coder is that of `constriction` (Bamler 2022).
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import constriction
import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.storage.coding import Bytes, Ints, Reals, blocks
from pcdistill.storage.grids import Cells, Offer, Packed
from pcdistill.storage.mixing import ONE, SHARES, UNIT, Network, logit_tables, shares_of

# What follows is part of the format: other values are another storage.
FLAT = 12  # cells a side of the coarsest level, at most
GROWTH = 16  # clouds of every class, at most, that are coded before the density learns from them
VOXELS_PER_BYTE = 2048  # no stream holds more: its size bounds what a reader allocates
ROWS = 1 << 16  # cells at once: bounds memory

REACH = range(-2, 3)
EARLIER = [
    (x, y, z)
    for x in REACH for y in REACH for z in REACH
    if (x, y, z) < (0, 0, 0) and abs(x) + abs(y) + abs(z) <= 3
]  # fmt: skip
NEAR = [offset for offset in EARLIER if max(map(abs, offset)) == 1]
BEHIND = [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (-2, 0, 0), (0, -2, 0), (0, 0, -2)]
CROSS = [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
AHEAD = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
AROUND = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) != (0, 0, 0)]
SIBLINGS = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)]


def _outward(corner: int) -> list[tuple[int, int, int]]:
    """The seven parents that meet a cell, which is this one of its parent's eight."""
    x, y, z = (2 * (corner >> place & 1) - 1 for place in (2, 1, 0))
    return [(x, 0, 0), (0, y, 0), (0, 0, z), (x, y, 0), (x, 0, z), (0, y, z), (x, y, z)]


def _numbering(cells: list[tuple[int, int, int]], chosen: list[tuple[int, int, int]]) -> Reals:
    """Weights of `cells` whose sum over occupied ones is the binary number of the `chosen`, the first the highest."""
    return np.array([2.0 ** (len(chosen) - 1 - chosen.index(cell)) if cell in chosen else 0.0 for cell in cells])


CODES = np.stack([_numbering(EARLIER, NEAR), _numbering(EARLIER, BEHIND)], 1)
FACING = np.stack([_numbering(AROUND, _outward(corner)) for corner in range(8)], 1)
BINS = np.array([8, 20, 38, 64, 102, 141, 179, 210, 236])  # of the class's density, of 256
LEVELS = np.searchsorted(BINS, np.arange(SHARES), side="right")
WIDTH = len(EARLIER) + 2 * len(CROSS) + 4 + len(AHEAD) + 1 + 1 + 8  # features besides those of tables
BESIDE = len(AROUND) + 4  # and those of a level above
TABLES = {"near": 1 << 13, "behind": 640, "mirror": 2304, "class": 80, "both": 720, "parent": 8192, "beside": 10240}


def encode_grids(grids: Cells | Packed, classes: Ints) -> Bytes:
    """Occupancy of clouds as a stream.

    Args:
        grids: `(N, n, n, n)`, 1 where a cell is occupied, 0 elsewhere; n at least 2.
        classes: `(N,)` class of each cloud, which the reader knows.

    Returns:
        `(bytes,)` uint8: whole words of 4 bytes.
    """
    coder = constriction.stream.queue.RangeEncoder()

    def begin(block: Ints) -> Code:
        levels = [level.ravel() for level in pyramid(grids[block])]

        def code(level: int, places: Ints, probabilities: Ints) -> Ints:
            occupied = levels[level].take(places)
            coder.encode(occupied.astype(np.int32), MODEL, probabilities / ONE)
            return occupied.astype(np.int64)

        return code

    side = grids.shape[-1]
    for _ in _walk(classes, side, begin):
        pass
    return _written(coder, len(grids), side)


def decode_grids(stream: Bytes, classes: Ints, side: int) -> Packed:
    """The inverse of `encode_grids`.

    Any bytes are read without harm: work and memory grow with the length of the stream.

    Raises:
        InputError: more cells than `VOXELS_PER_BYTE` allows, no whole words, or a stream that no encoder writes.
    """
    least = _least(len(classes), side)
    if len(stream) % 4 or len(stream) < least:
        content = f"{len(classes)} grids of {side} cells a side"
        raise InputError("voxels", f"{len(stream)} bytes for {content}", f"whole words, at least {least} bytes")
    reader = constriction.stream.queue.RangeDecoder(np.frombuffer(stream.tobytes(), "<u4").astype(np.uint32))
    again = constriction.stream.queue.RangeEncoder()

    def code(level: int, places: Ints, probabilities: Ints) -> Ints:
        shares = probabilities / ONE
        try:
            occupied = np.asarray(reader.decode(MODEL, shares), np.int32)
        except AssertionError:  # how this library says that no symbol fits
            raise InputError("voxels", "a damaged stream", "one that an encoder wrote") from None
        again.encode(occupied, MODEL, shares)
        return occupied.astype(np.int64)

    grids = _packed(classes, side, lambda block: code)
    if _written(again, len(classes), side).tobytes() != stream.tobytes():
        raise InputError("voxels", "a damaged stream", "one that an encoder wrote")
    return grids


class Settled(NamedTuple):
    """Grids as the coder would rather have them."""

    grids: Packed
    bits: Reals  # (N,) that each cloud takes, coded where it stands


def settled(offer: Callable[[Ints], Offer], classes: Ints, side: int) -> Settled:
    """Grids near those that are offered, and cheaper: what of the shape nobody misses is decided by what it costs.

    As the coder goes along, a cell is flipped where this saves more bits than its price; the model learns from what
    was chosen, so that like clouds come to be chosen alike. Bits are those of the cell itself: what it does to those
    that are coded after it is left out of account.

    Args:
        offer: gives grids and prices of the clouds at some indices, the coder's next block.
        classes: `(N,)` class of each cloud.
        side: cells a side.
    """
    bits = np.zeros(len(classes))

    def begin(block: Ints) -> Code:
        grids, prices = offer(block)
        levels = [level.ravel() for level in pyramid(grids)]

        def code(level: int, places: Ints, probabilities: Ints) -> Ints:
            occupied = levels[level].take(places).astype(np.int64)
            more = np.log2(probabilities / (ONE - probabilities)) * (1 - 2 * occupied)  # of this than of the other
            if level == len(levels) - 1:
                flipped = more > prices.take(places)
                occupied, more = np.where(flipped, 1 - occupied, occupied), np.where(flipped, -more, more)
            owners = places // (len(levels[level]) // len(block))
            bits[block] += np.bincount(owners, np.logaddexp2(0, more), len(block))
            return occupied

        return code

    return Settled(_packed(classes, side, begin), bits)


MODEL = constriction.stream.model.Bernoulli(perfect=False)
Code = Callable[[int, Ints, Ints], Ints]  # level, places in the block's grids, probabilities -> what is there


def pyramid(grids: Cells) -> list[Cells]:
    """The levels of grids, the coarsest first: a cell is occupied where one of its eight is."""
    levels = [grids]
    for side in reversed(_sides(grids.shape[-1])[:-1]):
        fine = np.zeros((len(grids), 2 * side, 2 * side, 2 * side), np.int8)
        cut = levels[-1].shape[-1]
        fine[:, :cut, :cut, :cut] = levels[-1]
        levels.append(fine.reshape(len(grids), side, 2, side, 2, side, 2).max((2, 4, 6)))
    return levels[::-1]


def _written(coder: constriction.stream.queue.RangeEncoder, clouds: int, side: int) -> Bytes:
    """The stream of a coder, no shorter than `VOXELS_PER_BYTE` allows."""
    stream: Bytes = np.frombuffer(coder.get_compressed().astype("<u4").tobytes(), np.uint8)
    return np.pad(stream, (0, max(0, _least(clouds, side) - len(stream))))


def _sides(side: int) -> list[int]:
    """Cells a side of all levels, the coarsest first."""
    sides = [side]
    while sides[0] > FLAT:
        sides.insert(0, -(-sides[0] // 2))
    return sides


def _least(clouds: int, side: int) -> int:
    """Bytes of the shortest stream of so many grids: whole words."""
    return -(-clouds * side**3 // (4 * VOXELS_PER_BYTE)) * 4


def _walk(classes: Ints, side: int, begin: Callable[[Ints], Code]) -> Iterator[tuple[Ints, Cells]]:
    """Go through the cells of all clouds as coder and reader do; blocks of clouds, and their finest grids."""
    count = int(classes.max()) + 1
    levels = [_Level(size, number > 0, count) for number, size in enumerate(_sides(side))]
    for block in blocks(classes, GROWTH):
        code = begin(block)
        above: Cells | None = None
        for number, level in enumerate(levels):
            above = level.coded(classes[block], above, partial(code, number))
            level.settle(classes[block], above)
        assert above is not None
        yield block, above


def _packed(classes: Ints, side: int, begin: Callable[[Ints], Code]) -> Packed:
    """What a walk comes to."""
    grids = Packed(len(classes), side)
    for block, found in _walk(classes, side, begin):
        grids[block] = found
    return grids


class _Wave(NamedTuple):
    """Cells that are coded at once, K of them; places in padded grids, and what is always so of them."""

    places: Ints  # (K,) in a grid
    seen: Ints  # (K, 4) in a grid: the cell and the next ones, which are not known yet
    padded: Ints  # (K,) in a grid with a margin of two
    mirrored: Ints  # (K, 2) the same of the images across the middle of x and of y
    known: Ints  # (K, 2) 1 where the image was coded before
    parents: Ints  # (K,) in the grid of the level above, with a margin of one
    corners: Ints  # (K,) 0 to 7: which of its parent's eight a cell is
    first: Ints  # (K,) of the parent's eight, in a grid with a margin of two
    fixed: Reals  # (K, F) features


class _Level:
    """What is known of one level: the density of its cells, the tables, and the network that guesses its cells."""

    def __init__(self, side: int, parents: bool, classes: int) -> None:
        self.side, self.wide, self.high = side, side + 4, -(-side // 2) + 2
        self.waves = _waves(side)
        self.density = np.zeros((classes, side**3), np.int32)
        self.seen = np.zeros(classes, np.int64)
        self._share()
        sizes = [size * (classes if name == "class" else 1) for name, size in TABLES.items()][: 7 if parents else 5]
        self.starts = np.cumsum([0, *sizes[:-1]])  # of the tables, which are one array
        self.tries, self.hits = np.zeros((2, sum(sizes)), np.int64)
        self.network = Network(WIDTH + len(sizes) + (BESIDE if parents else 0), len(sizes), classes)
        self.earlier, self.cross, self.eight = (_steps(each, self.wide) for each in (EARLIER, CROSS, SIBLINGS))
        self.around = _steps(AROUND, self.high)

    def coded(self, classes: Ints, above: Cells | None, code: Callable[[Ints, Ints], Ints]) -> Cells:
        """The grids of a block of clouds, coded wave by wave; `above` are those of the level above."""
        clouds, wide = len(classes), self.wide
        grids = np.zeros((clouds, wide, wide, wide), np.int8)
        flat = grids.reshape(-1)
        upper = None if above is None else np.pad(above, ((0, 0), (1, 1), (1, 1), (1, 1))).reshape(-1)
        for wave in self.waves:
            owners, cells = np.divmod(np.arange(clouds * len(wave.places)), len(wave.places))
            if upper is not None:
                alive = upper.take(owners * self.high**3 + wave.parents[cells]) > 0
                owners, cells = owners[alive], cells[alive]
            learnt = []
            for start in range(0, len(owners), ROWS):
                own, cell = owners[start : start + ROWS], cells[start : start + ROWS]
                features, contexts, shares = self._features(wave, own, cell, classes[own], flat, upper)
                guess = self.network.guess(features, shares, classes[own])
                occupied = code(own * self.side**3 + wave.places[cell], guess.probabilities)
                learnt.append((self.network.gradients(guess, occupied), contexts, occupied, own, cell))
            for gradients, contexts, occupied, own, cell in learnt:
                self.network.learn(gradients)
                np.add.at(self.tries, contexts.ravel(), 1)
                np.add.at(self.hits, contexts[occupied > 0].ravel(), 1)
                flat[own * wide**3 + wave.padded[cell]] = occupied
            if learnt:
                self.network.step()
        return np.ascontiguousarray(grids[:, 2:-2, 2:-2, 2:-2])

    def settle(self, classes: Ints, grids: Cells) -> None:
        """Let the density learn from a block of clouds."""
        order = np.argsort(classes, kind="stable")
        labels, starts = np.unique(classes[order], return_index=True)
        self.density[labels] += np.add.reduceat(grids.reshape(len(grids), -1)[order], starts, dtype=np.int32)
        self.seen += np.bincount(classes, minlength=len(self.seen))
        self._share()

    def _share(self) -> None:
        """Shares, of `SHARES`, of the clouds seen that occupy a cell: of every class, and of all."""
        self.shares = shares_of(self.density.astype(np.int64), self.seen[:, None], 20, 1, 12).astype(np.uint8).ravel()
        self.all_shares = shares_of(self.density.sum(0, dtype=np.int64), self.seen.sum(), 10, 3, 20)

    def _features(
        self, wave: _Wave, owners: Ints, cells: Ints, classes: Ints, flat: Cells, upper: Cells | None
    ) -> tuple[Reals, Ints, Reals]:
        """What the network sees of cells `(K, F)`, their contexts in the tables `(K, T)`, and what these say."""
        stretch, third = logit_tables()[:2]
        start = owners * self.wide**3
        around = flat.take((start + wave.padded[cells])[:, None] + self.earlier).astype(np.float64)
        near, behind = (around @ CODES).astype(np.int64).T
        images = flat.take((start[:, None] + wave.mirrored[cells])[..., None] + self.cross)
        images *= wave.known[cells, :, None]
        flags = wave.known[cells] * (1 + images[..., 0])  # 0: not known, 1: empty, 2: occupied
        share = self.shares.take((classes * self.side**3)[:, None] + wave.seen[cells])
        level = LEVELS.take(share[:, 0])
        image = flags[:, 0] * np.int64(3) + flags[:, 1]
        faces = np.minimum(images[:, 0, 1:].sum(1, dtype=np.int64), 3)
        contexts = [
            near, behind * 10 + level, (image * 4 + faces) * 64 + behind,
            (classes * 10 + level) * 8 + (behind >> 3), (image * 10 + level) * 8 + (behind >> 3),
        ]  # fmt: skip
        beside = []
        if upper is not None:
            parents, bits, more = self._beside(wave, owners, cells, flat, upper)
            beside = [parents, bits]
            contexts += [more[0], more[1] * 80 + (behind >> 3) * 10 + level]
        places = np.stack(contexts, 1) + self.starts
        said = shares_of(self.hits.take(places), self.tries.take(places), 10, 3, 6)
        sure = stretch.take(share[:, :1]) * np.minimum(self.seen[classes], 8)[:, None] // 24
        marks = (flags[..., None] == np.array([1, 2])).reshape(len(cells), 4)
        parts = [
            around * UNIT, images.reshape(len(cells), -1) * UNIT, marks * UNIT, third.take(share),
            third.take(self.all_shares.take(wave.places[cells]))[:, None], sure, wave.fixed[cells], third.take(said),
            *beside,
        ]  # fmt: skip
        return np.concatenate(parts, 1, dtype=np.float64), places, stretch.take(said).astype(np.float64)

    def _beside(
        self, wave: _Wave, owners: Ints, cells: Ints, flat: Cells, upper: Cells
    ) -> tuple[Reals, Ints, tuple[Ints, Ints]]:
        """Features of the level above and of the cells of the same parent; a context, and the parents that meet."""
        around = upper.take((owners * self.high**3 + wave.parents[cells])[:, None] + self.around).astype(np.float64)
        corner = wave.corners[cells]
        facing = (around @ FACING)[np.arange(len(cells)), corner].astype(np.int64)
        eight = flat.take((owners * self.wide**3 + wave.first[cells])[:, None] + self.eight)
        siblings = np.minimum(eight.sum(1, dtype=np.int64), 7)
        bits = [(corner >> 2) & 1, (corner >> 1) & 1, corner & 1, (siblings == 0) & (corner == 7)]
        return around * UNIT, np.stack(bits, 1) * UNIT, ((facing * 8 + corner) * 8 + siblings, facing)


def _waves(side: int) -> list[_Wave]:
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    turns = cells @ np.array([9, 3, 1])
    order = np.argsort(turns, kind="stable")
    return [_wave(part, side) for part in np.split(cells[order], np.flatnonzero(np.diff(turns[order])) + 1)]


def _wave(cells: Ints, side: int) -> _Wave:
    x, y, z = cells.T
    wide, high = side + 4, -(-side // 2) + 2

    def padded(x: Ints, y: Ints, z: Ints) -> Ints:
        return ((x + 2) * wide + y + 2) * wide + z + 2

    seen = np.minimum(cells[:, None] + np.array(AHEAD), side - 1) @ np.array([side * side, side, 1])
    halves = (2 * cells[:, :2] >= side).astype(np.int64)
    middle = np.abs(2 * cells[:, :2] - (side - 1)) * UNIT // (2 * side)
    fixed = [np.full((len(x), 1), UNIT), cells * UNIT // side, middle, halves * UNIT]
    return _Wave(
        seen[:, 0], seen, padded(x, y, z), np.stack([padded(side - 1 - x, y, z), padded(x, side - 1 - y, z)], 1),
        halves.astype(np.int8), ((x // 2 + 1) * high + y // 2 + 1) * high + z // 2 + 1, x % 2 * 4 + y % 2 * 2 + z % 2,
        padded(x // 2 * 2, y // 2 * 2, z // 2 * 2), np.concatenate(fixed, 1).astype(np.float64),
    )  # fmt: skip


def _steps(offsets: list[tuple[int, int, int]], wide: int) -> Ints:
    """Distances of neighbours in a flattened grid of `wide` cells a side."""
    return np.array([(x * wide + y) * wide + z for x, y, z in offsets])

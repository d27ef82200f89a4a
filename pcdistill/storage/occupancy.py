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

Every machine reads the same bits: products are of integers that float64 holds exactly, in whatever order they are
summed, weights are rounded to integers before they are used and changed by single operations that IEEE 754 fixes, and
logarithms are tables made with decimal arithmetic. The range coder is that of `constriction` (Bamler 2022).
"""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache, partial
from typing import Any, NamedTuple

import constriction
import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.storage.coding import Bytes, Ints, Reals, blocks

Cells = np.ndarray[Any, np.dtype[np.int8]]

# What follows is part of the format: other values are another storage.
FLAT = 12  # cells a side of the coarsest level, at most
GROWTH = 16  # clouds of every class, at most, that are coded before the density learns from them
HIDDEN = 16
RATE, FORGET = 0.03, 0.998  # of AdaGrad, and how its sums fade from wave to wave
CLASS_RATE, CLASS_CALM = 0.02, 10  # of the weights of a class: of a step, and cells that it is calmed by
UNIT = 32  # of a feature: 1 is 32
WEIGHT = 4096  # of a weight
LOGIT, STEP = 12, 256  # largest logit, and steps of the table of probabilities to a logit of 1
ONE, LEAST = 65536, 8  # probabilities are of 65536, and at least 8
SHARES = 256  # steps of the table of logits to a share of 1
VOXELS_PER_BYTE = 2048  # no stream holds more: its size bounds what a reader allocates
ROWS = 1 << 16  # cells at once: bounds memory
SCALE = 2.0**-21  # of gradients, which are integers: features of 32 times errors of 65536

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


def encode_grids(grids: Cells, classes: Ints) -> Bytes:
    """Occupancy of clouds as a stream.

    Args:
        grids: `(N, n, n, n)`, 1 where a cell is occupied, 0 elsewhere; n at least 2.
        classes: `(N,)` class of each cloud, which the reader knows.

    Returns:
        `(bytes,)` uint8: whole words of 4 bytes.
    """
    levels = [level.ravel() for level in pyramid(grids)]
    coder = constriction.stream.queue.RangeEncoder()

    def code(level: int, places: Ints, probabilities: Ints) -> Ints:
        occupied = levels[level].take(places)
        coder.encode(occupied.astype(np.int32), MODEL, probabilities / ONE)
        return occupied.astype(np.int64)

    _walk(classes, grids.shape[-1], code)
    return _written(coder, len(grids), grids.shape[-1])


def decode_grids(stream: Bytes, classes: Ints, side: int) -> Cells:
    """The inverse of `encode_grids`: occupancy `(N, side, side, side)`.

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

    grids = _walk(classes, side, code)
    if _written(again, len(classes), side).tobytes() != stream.tobytes():
        raise InputError("voxels", "a damaged stream", "one that an encoder wrote")
    return grids


MODEL = constriction.stream.model.Bernoulli(perfect=False)
Code = Callable[[int, Ints, Ints], Ints]  # level, places in all its grids, probabilities -> what is there


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


def _walk(classes: Ints, side: int, code: Code) -> Cells:
    """Go through the cells of all clouds as coder and reader do; the finest grids."""
    grids = np.empty((len(classes), side, side, side), np.int8)
    count = int(classes.max()) + 1
    levels = [_Level(size, number > 0, count) for number, size in enumerate(_sides(side))]
    for block in blocks(classes, GROWTH):
        above: Cells | None = None
        for number, level in enumerate(levels):
            above = level.coded(block, classes[block], above, partial(code, number))
            level.settle(classes[block], above)
        assert above is not None
        grids[block] = above
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
        self.network = _Network(WIDTH + len(sizes) + (BESIDE if parents else 0), len(sizes), classes)
        self.earlier, self.cross, self.eight = (_steps(each, self.wide) for each in (EARLIER, CROSS, SIBLINGS))
        self.around = _steps(AROUND, self.high)

    def coded(self, block: Ints, classes: Ints, above: Cells | None, code: Callable[[Ints, Ints], Ints]) -> Cells:
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
                occupied = code(block[own] * self.side**3 + wave.places[cell], guess.probabilities)
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
        self.shares = _shares(self.density.astype(np.int64), self.seen[:, None], 20, 1, 12).astype(np.uint8).ravel()
        self.all_shares = _shares(self.density.sum(0, dtype=np.int64), self.seen.sum(), 10, 3, 20)

    def _features(
        self, wave: _Wave, owners: Ints, cells: Ints, classes: Ints, flat: Cells, upper: Cells | None
    ) -> tuple[Reals, Ints, Reals]:
        """What the network sees of cells `(K, F)`, their contexts in the tables `(K, T)`, and what these say."""
        stretch, third = _tables()[:2]
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
        said = _shares(self.hits.take(places), self.tries.take(places), 10, 3, 6)
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


class _Guess(NamedTuple):
    """What a network made of cells."""

    features: Reals
    hidden: Reals
    shares: Reals
    classes: Ints
    probabilities: Ints


class _Network:
    """Features to a probability: one hidden layer, and what the tables say by the weights of the class."""

    def __init__(self, width: int, tables: int, classes: int) -> None:
        self.inner = _scattered(width, HIDDEN) * (2.0 / 8)
        self.outer = _scattered(1, HIDDEN)[0] * (1.0 / 4)
        self.mixed = np.tile(np.array([0.5, 0.4, 0.3, 0.2, 0.2, 0.4, 0.3][:tables]) / 2, (classes, 1))
        self.sums = [np.full(part.shape, 1e-3) for part in (self.inner, self.outer)]
        self._reset()

    def _reset(self) -> None:
        self.steps = [np.zeros_like(self.inner), np.zeros_like(self.outer)]
        self.class_steps, self.class_cells = np.zeros_like(self.mixed), np.zeros(len(self.mixed))

    def guess(self, features: Reals, shares: Reals, classes: Ints) -> _Guess:
        hidden = np.floor(np.maximum(_product(features, np.rint(self.inner * WEIGHT)), 0) / WEIGHT)
        total = _product(hidden, np.rint(self.outer * WEIGHT)) + (shares * np.rint(self.mixed * WEIGHT)[classes]).sum(1)
        places = np.floor(total / (UNIT * WEIGHT // STEP)).clip(-LOGIT * STEP, LOGIT * STEP).astype(np.int64)
        return _Guess(features, hidden, shares, classes, _tables()[2][places + LOGIT * STEP])

    def gradients(self, guess: _Guess, occupied: Ints) -> list[Reals]:
        """Sums over cells, integers all: of the inner and outer weights, of those of classes, and cells of these."""
        errors = (occupied * ONE - guess.probabilities).astype(np.float64)
        back = np.floor(errors[:, None] * np.rint(self.outer * WEIGHT) / WEIGHT) * (guess.hidden > 0)
        count = len(self.mixed)
        tables = guess.shares.shape[1]
        places = guess.classes[:, None] * tables + np.arange(tables)
        weights = (errors[:, None] * guess.shares).ravel()
        by_class = np.bincount(places.ravel(), weights, count * tables).astype(np.float64)
        cells = np.bincount(guess.classes, minlength=count).astype(np.float64)
        return [
            _product(guess.features.T, back),
            _product(guess.hidden.T, errors),
            by_class.reshape(count, tables),
            cells,
        ]

    def learn(self, gradients: list[Reals]) -> None:
        """Add what a part of a wave tells."""
        inner, outer, by_class, cells = gradients
        self.steps[0] += inner
        self.steps[1] += outer
        self.class_steps += by_class
        self.class_cells += cells

    def step(self) -> None:
        """Change the weights after a wave."""
        for weights, sums, gradient in zip((self.inner, self.outer), self.sums, self.steps, strict=True):
            scaled = gradient * SCALE
            sums *= FORGET
            sums += scaled * scaled
            weights += RATE * scaled / np.sqrt(sums)
        self.mixed += CLASS_RATE * (self.class_steps * SCALE) / (self.class_cells[:, None] + CLASS_CALM)
        self._reset()


def _product(first: Reals, second: Reals) -> Reals:
    """A product of matrices of integers: below 2^53 every order of sums gives the same."""
    found: Reals = first @ second
    return found


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


def _scattered(rows: int, columns: int) -> Reals:
    """Numbers between -1 and 1 without a pattern that matters, the same everywhere."""
    numbers = (np.arange(rows * columns, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(2**32)
    mixed = (numbers ^ numbers >> np.uint64(13)) * np.uint64(1274126177) % np.uint64(2**32)
    return (mixed.astype(np.float64) / 2**31 - 1).reshape(rows, columns)


def _shares(hits: Ints, tries: Ints, scale: int, more: int, others: int) -> Ints:
    """`hits` of `tries`, with a prior, of `SHARES`: integers."""
    shares: Ints = np.minimum((scale * hits + more) * SHARES // (scale * tries + others), SHARES - 1)
    return shares


@cache
def _tables() -> tuple[Ints, Ints, Ints]:
    """Logits of shares, thirds of them, and probabilities of logits: decimal arithmetic is the same everywhere."""
    with localcontext() as context:
        context.prec = 30
        half = Decimal("0.5")
        logits = [((k + half) / (SHARES - k - half)).ln() for k in range(SHARES)]
        exponents = [Decimal(place) / STEP for place in range(-LOGIT * STEP, LOGIT * STEP + 1)]
        stretch = [int((logit * UNIT).to_integral_value()) for logit in logits]
        squash = [int((ONE / (1 + (-place).exp())).to_integral_value()) for place in exponents]
    return np.array(stretch), np.array(stretch) // 3, np.array(squash).clip(LEAST, ONE - LEAST)

"""Entropy coding of the parts that points belong to: one label tells the next, as one voxel does its neighbours.

Where the points are, in cells of a grid, is known to the reader; the labels of all clouds are one stream. Cells are
coded in waves, slice by slice, four waves a slice (by whether y and z are odd), in all clouds of a block at once,
so that the labels around a cell in the slice before, and in part in its own, are known when its turn comes. Several
points of a cell have their turns one after the other. A label is one of the parts of the cloud's class. They are
put in the order in which they are likely, and the coder says of one after the other whether it is this one, until
it is. How likely that is comes from the network that mixes what is known of voxels (`storage.mixing`): of the
labels around, of those that points of earlier clouds of the class have in that place, of all labels of the class
and of the cloud, and of adaptive tables. After every wave it learns from what was coded, so that nothing of it is
stored; every machine reads the same.
"""

from collections.abc import Callable
from typing import NamedTuple

import constriction
import numpy as np

from pcdistill.clouds import PartNames
from pcdistill.core.errors import InputError
from pcdistill.storage.coding import Bytes, Ints, Reals, blocks
from pcdistill.storage.mixing import ONE, SHARES, UNIT, Network, logit_tables, shares_of

# What follows is part of the format: other values are another storage.
DENSE = 8  # cells a side, at most, of the density that is learned of every class
GROWTH = 16  # clouds of every class, at most, that are coded before the density learns from them
LABELS_PER_BYTE = 512  # no stream holds more
AROUND = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) != (0, 0, 0)]
FAR = [(-2, 0, 0), (0, -2, 0), (0, 2, 0), (0, 0, -2), (0, 0, 2)]
WEIGHTS = np.array([{1: 8, 2: 2, 3: 1}[abs(x) + abs(y) + abs(z)] for x, y, z in AROUND] + [1] * len(FAR))
OWN = 8  # weight of a label in the same cell
BINS = np.array([8, 20, 38, 64, 102, 141, 179, 210, 236])  # of shares, of 256
LEVELS = np.searchsorted(BINS, np.arange(SHARES), side="right")
AMOUNTS = np.array([1, 8, 24])  # of what is known around a cell
RANKS = 4  # in the order of candidates that tables tell apart
TRUSTED = [6, 4, 0, 1, 3, 5, 2]  # of shares and tables, in the order of the weights that mixing starts from
MODEL = constriction.stream.model.Bernoulli(perfect=False)

Code = Callable[[Ints, Ints, Ints], Ints]  # points, the part that each may be, probabilities -> whether it is


class Places(NamedTuple):
    """Where M points are, cloud by cloud."""

    owner: Ints  # (M,) the cloud of each, ascending
    cells: Ints  # (M, 3) in a grid
    side: int  # cells a side


def encode_parts(parts: Ints, places: Places, classes: Ints, names: PartNames) -> Bytes:
    """Labels as a stream.

    Args:
        parts: `(M,)` part of every point, one that the class of its cloud has.
        places: of the points, which the reader knows.
        classes: `(N,)` class of each cloud, which the reader knows.
        names: which class has which part.

    Returns:
        `(bytes,)` uint8: whole words of 4 bytes.
    """
    coder = constriction.stream.queue.RangeEncoder()

    def code(points: Ints, candidates: Ints, probabilities: Ints) -> Ints:
        found: Ints = (parts[points] == candidates).astype(np.int64)
        coder.encode(found.astype(np.int32), MODEL, probabilities / ONE)
        return found

    _walk(places, classes, names, code)
    stream: Bytes = np.frombuffer(coder.get_compressed().astype("<u4").tobytes(), np.uint8)
    return np.pad(stream, (0, max(0, _least(len(parts)) - len(stream))))


def decode_parts(stream: Bytes, places: Places, classes: Ints, names: PartNames) -> Ints:
    """The inverse of `encode_parts`: `(M,)`.

    Raises:
        InputError: more labels than `LABELS_PER_BYTE` allows, no whole words, or a stream that no encoder writes.
    """
    least = _least(len(places.owner))
    if len(stream) % 4 or len(stream) < least:
        found = f"{len(stream)} bytes for labels of {len(places.owner)} points"
        raise InputError("parts", found, f"whole words, at least {least} bytes")
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream.tobytes(), "<u4").astype(np.uint32))

    def code(points: Ints, candidates: Ints, probabilities: Ints) -> Ints:
        try:
            found: Ints = np.asarray(coder.decode(MODEL, probabilities / ONE), np.int64)
            return found
        except AssertionError:  # how this library says that no symbol fits
            raise InputError("parts", "a damaged stream", "one that an encoder wrote") from None

    return _walk(places, classes, names, code)


def _least(points: int) -> int:
    """Bytes of the shortest stream of so many labels: whole words."""
    return -(-points // (4 * LABELS_PER_BYTE)) * 4


def _walk(places: Places, classes: Ints, names: PartNames, code: Code) -> Ints:
    """Go through the labels of all clouds as coder and reader do."""
    parts = np.empty(len(places.owner), np.int64)
    model = _Model(names, places.side)
    starts = np.searchsorted(places.owner, np.arange(len(classes) + 1))
    for block in blocks(classes, GROWTH):
        points = np.concatenate([np.arange(starts[cloud], starts[cloud + 1]) for cloud in block])
        owner = np.repeat(np.arange(len(block)), starts[block + 1] - starts[block])
        parts[points] = model.coded(points, owner, places.cells[points], classes[block], code)
    return parts


class _Model:
    """What is known of labels: how often every class and every place has which, tables, and the network."""

    def __init__(self, names: PartNames, side: int) -> None:
        self.side, self.dense = side, min(side, DENSE)
        self.sizes = np.array([len(own) for own in names.of_class])
        classes, most = len(self.sizes), int(self.sizes.max())
        self.slots = np.zeros((classes, most), np.int64)  # the parts of a class
        for label, own in enumerate(names.of_class):
            self.slots[label, : len(own)] = own
        self.there = np.arange(most) < self.sizes[:, None]
        self.density = np.zeros((classes, self.dense**3, most), np.int64)
        self.frequency = np.zeros((classes, most), np.int64)
        self.tables = np.cumsum([0, RANKS * 10 * 4, classes * most * 10])
        self.hits, self.tries = np.zeros((2, self.tables[-1] + RANKS * 1000), np.int64)
        self.network = Network(4 + 3 + 4 + 3 + 1, 7, classes)

    def coded(self, points: Ints, owner: Ints, cells: Ints, classes: Ints, code: Code) -> Ints:
        """The parts of a block's points, coded wave by wave; of classes with a single part nothing is coded."""
        label = classes[owner]
        slot = np.zeros(len(points), np.int64)
        cell, around = self._cells(owner, cells)
        dense = (cells * self.dense // self.side) @ np.array([self.dense**2, self.dense, 1])
        votes = np.zeros((len(around) + 1, self.there.shape[1]), np.int64)  # of every cell; the last has none
        own = np.zeros((len(classes), votes.shape[1]), np.int64)  # of every cloud
        for wave in _waves(cells, cell, np.flatnonzero(self.sizes[label] > 1)):
            near = (votes[around[cell[wave]]] * WEIGHTS[:, None]).sum(1) + OWN * votes[cell[wave]]
            known = [near, self.density[label[wave], dense[wave]], self.frequency[label[wave]], own[owner[wave]]]
            slot[wave] = self._wave(points[wave], label[wave], known, code)
            np.add.at(votes, (cell[wave], slot[wave]), 1)
            np.add.at(own, (owner[wave], slot[wave]), 1)
            np.add.at(self.frequency, (label[wave], slot[wave]), 1)
        np.add.at(self.density, (label, dense, slot), 1)
        return self.slots[label, slot]

    def _cells(self, owner: Ints, cells: Ints) -> tuple[Ints, Ints]:
        """The cell `(M,)` of every point among those of the block that are occupied, and the cells around each."""
        wide = self.side + 4
        steps = np.array([wide * wide, wide, 1])
        keys, cell = np.unique(owner * wide**3 + (cells + 2) @ steps, return_inverse=True)
        sought = keys[:, None] + np.array([*AROUND, *FAR]) @ steps
        found = np.searchsorted(keys, sought).clip(max=len(keys) - 1)
        return cell, np.where(keys[found] == sought, found, len(keys))

    def _wave(self, points: Ints, label: Ints, known: list[Ints], code: Code) -> Ints:
        """The slots of points whose turn has come, candidate by candidate."""
        there = self.there[label]
        shares = [shares_of(hits, hits.sum(1, keepdims=True), 4, 1, 4) for hits in known]
        likely = np.where(there, 4 * shares[0] + 2 * shares[1] + shares[2] + shares[3], -1)
        order = np.argsort(-likely, axis=1, kind="stable")
        found, left = order[:, 0].copy(), np.arange(len(points))
        rest = [hits.sum(1) for hits in known]
        rows = np.arange(len(points))
        for rank in range(there.shape[1]):
            last = left[self.sizes[label[left]] == rank + 1]
            found[last] = order[last, rank]  # nothing else is left
            left = left[self.sizes[label[left]] > rank + 1]
            if not len(left):
                break
            candidate = order[left, rank]
            hits = [each[left, candidate] for each in known]
            features, contexts, said = self._seen(label[left], candidate, rank, hits, [each[left] for each in rest])
            guess = self.network.guess(features, said, label[left])
            right = code(points[left], self.slots[label[left], candidate], guess.probabilities)
            self.network.learn(self.network.gradients(guess, right))
            self.network.step()
            np.add.at(self.tries, contexts.ravel(), 1)
            np.add.at(self.hits, contexts[right > 0].ravel(), 1)
            found[left[right > 0]] = candidate[right > 0]
            for each, counted in zip(rest, known, strict=True):
                each -= counted[rows, order[:, rank]]
            left = left[right == 0]
        return found

    def _seen(
        self, label: Ints, candidate: Ints, rank: int, hits: list[Ints], tries: list[Ints]
    ) -> tuple[Reals, Ints, Reals]:
        """What the network sees of points, their contexts in the tables, and what these and the counts say."""
        stretch, third = logit_tables()[:2]
        others = np.maximum(self.sizes[label] - rank, 2)
        shares = np.stack([shares_of(hit, total, others, 1, 1) for hit, total in zip(hits, tries, strict=True)], 1)
        levels = LEVELS.take(shares)
        amounts = np.stack([np.searchsorted(AMOUNTS, total, side="right") for total in tries], 1)
        turn = min(rank, RANKS - 1)
        contexts = np.stack([
            (turn * 10 + levels[:, 0]) * 4 + amounts[:, 0],
            self.tables[1] + (label * self.there.shape[1] + candidate) * 10 + levels[:, 1],
            self.tables[2] + turn * 1000 + levels[:, 0] * 100 + levels[:, 1] * 10 + levels[:, 3],
        ], 1)  # fmt: skip
        told = shares_of(self.hits.take(contexts), self.tries.take(contexts), 10, 3, 6)
        ranks = np.broadcast_to(np.arange(3) == turn, (len(label), 3)) * UNIT
        constant = np.full((len(label), 1), UNIT)
        features = [third.take(shares), ranks, amounts * UNIT // 3, third.take(told), constant]
        said = stretch.take(np.concatenate([shares, told], 1)[:, TRUSTED])
        return np.concatenate(features, 1).astype(np.float64), contexts, said.astype(np.float64)


def _waves(cells: Ints, cell: Ints, chosen: Ints) -> "list[Ints]":
    """The chosen points wave by wave: no two of them in one cell or, but for corners of a slice, side by side."""
    order = np.argsort(cell[chosen], kind="stable")
    ordered = cell[chosen[order]]
    first = np.searchsorted(ordered, ordered)
    turn = np.empty(len(chosen), np.int64)
    turn[order] = np.arange(len(chosen)) - first  # of the points of a cell
    x, y, z = cells[chosen].T
    places = (4 * x + 2 * (y % 2) + z % 2) * (int(turn.max(initial=0)) + 1) + turn
    order = np.argsort(places, kind="stable")
    return [chosen[part] for part in np.split(order, np.flatnonzero(np.diff(places[order])) + 1)] if len(chosen) else []

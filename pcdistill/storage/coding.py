"""Entropy coding of sets of quantised points: as few bits as a set without an order needs, or fewer.

A cloud is a set, so the order of its points is no information: log2(P!) bits are saved by not storing it. Here that
comes by itself. The cube is halved again and again, along one axis after the other, and of every box that holds points
the number in its upper half is coded, until boxes are single cells. Were points uniform, these numbers would be
binomial and take exactly the information limit of a multiset. They are not: from the clouds coded before, those of the
class first, the coder learns where points lie, and as points of one cloud keep together, numbers are coded as
beta-binomial (a Polya urn).

The halvings are those of Devillers & Gandoin ("Geometric compression for interactive transmission", 2000), who take all
numbers as equally likely; the model is our own. The range coder is that of `constriction` (Bamler 2022). Its
probabilities are made from integers by elementary operations in a fixed order, without logarithms or sums that are
rounded differently elsewhere, so that every machine with IEEE arithmetic reads the same codes.
"""

from collections.abc import Callable, Iterator
from typing import Any

import constriction
import numpy as np

from pcdistill.core.errors import InputError

Ints = np.ndarray[Any, np.dtype[np.int64]]
Reals = np.ndarray[Any, np.dtype[np.float64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Split = Callable[[Ints, Ints, int, Reals], Ints]  # boxes, their points, depth, weights -> points in upper halves

# What follows is part of the format, `ENTRIES` as well: a symbol that cannot occur still takes a little probability
# in its table, so that even the width of tables is seen in the stream. Other values are another storage.
AXES = (2, 0, 1)  # halved in turn: height first
LEARNED = 12  # levels whose density is learned: down to a sixteenth of the cube's edge
URN = 12.0  # concentration of the beta-binomial: the smaller, the more the points of a cloud keep together
CLASS_PRIOR = 8.0  # points that the density of all classes counts for in that of one class
CUBE_PRIOR = 4.0  # points that the uniform density counts for in that of all classes
BLOCK = 8  # clouds of every class, at most, that are coded before the density learns from them
POINTS_PER_BYTE = 64  # no stream holds more: its size bounds what a reader allocates
ENTRIES = 2**20  # of a table of weights: bounds memory
FREE_ENTRIES, ENTRIES_PER_BYTE = 2**24, 2**12  # of all tables of a stream: its size bounds the time that reading takes


def encode_sets(codes: Ints, classes: Ints, bits: int) -> Bytes:
    """Clouds of quantised points as a stream; the order of the points in a cloud is lost.

    Args:
        codes: `(N, P, 3)` integers in 0 .. 2^bits - 1; equal points are kept as often as they occur.
        classes: `(N,)` class of each cloud, which the reader knows.
        bits: per coordinate, 2 to 12.

    Returns:
        `(bytes,)` uint8: whole words of 4 bytes.
    """
    clouds, points = codes.shape[:2]
    keys = np.sort(_interleaved(codes, bits), axis=1)
    coder = constriction.stream.queue.RangeEncoder()

    def reader(block: Ints) -> Split:
        flat = (np.arange(len(block))[:, None] << (3 * bits) | keys[block]).ravel()

        def split(boxes: Ints, counts: Ints, depth: int, weights: Reals) -> Ints:
            shift = 3 * bits - depth - 1
            first, last = ((2 * boxes + half) << shift for half in (1, 2))
            upper: Ints = np.searchsorted(flat, last) - np.searchsorted(flat, first)
            coder.encode(upper.astype(np.int32), MODEL, weights)
            return upper

        return split

    work = _Work()
    _walk(classes, points, bits, reader, work.add)
    return written(coder, clouds * points, -(-(work.entries - FREE_ENTRIES) // ENTRIES_PER_BYTE))


def decode_sets(stream: Bytes, classes: Ints, points: int, bits: int) -> Ints:
    """The inverse of `encode_sets`: codes `(N, points, 3)`, those of each cloud in the order of the coder's boxes.

    Any bytes are read without harm: work and memory grow with the length of the stream.

    Raises:
        InputError: more points than `POINTS_PER_BYTE` allows, tables of more entries than `ENTRIES_PER_BYTE` does, no
            whole words, or a stream that no encoder writes.
    """
    read = reading(stream, "codes", len(classes) * points, f"{len(classes)} clouds of {points} points")

    def split(boxes: Ints, counts: Ints, depth: int, weights: Reals) -> Ints:
        upper = read(weights)
        if (upper > counts).any():
            raise InputError("codes", "a damaged stream", "one that an encoder wrote")
        return upper

    work = _Work(FREE_ENTRIES + ENTRIES_PER_BYTE * len(stream))
    return _separated(_walk(classes, points, bits, lambda block: split, work.add), bits)


class _Work:
    """Entries of the tables that were made for a stream, which is what its reading takes time for."""

    def __init__(self, most: float = float("inf")) -> None:
        self.entries, self.most = 0, most

    def add(self, entries: int) -> None:
        """Before they are made; `InputError` where there are too many for the stream."""
        self.entries += entries
        if self.entries > self.most:
            raise InputError("codes", f"{self.entries} entries of tables", f"at most {self.most:.0f} for its bytes")


def canonical_order(codes: Ints, bits: int) -> Ints:
    """`(N, P)` places of the points of each cloud in the order that `decode_sets` gives them."""
    return np.argsort(_interleaved(codes, bits), axis=1, kind="stable")


MODEL = constriction.stream.model.Categorical(perfect=False)


def written(coder: constriction.stream.queue.RangeEncoder, symbols: int, least: int = 0) -> Bytes:
    """A stream of coded `symbols`, or points: `least` bytes, and as many as `POINTS_PER_BYTE` asks for."""
    stream: Bytes = np.frombuffer(coder.get_compressed().astype("<u4").tobytes(), np.uint8)
    least = -(-max(least, -(-symbols // POINTS_PER_BYTE)) // 4) * 4
    return np.pad(stream, (0, max(0, least - len(stream))))


def reading(stream: Bytes, place: str, symbols: int, content: str) -> Callable[[Reals], Ints]:
    """A function that reads as many symbols as it gets rows of weights.

    Args:
        stream: not trusted.
        place: what errors name.
        symbols: that the whole stream holds, or points; `content` says it in words.

    Raises:
        InputError: no whole words, or more symbols than `POINTS_PER_BYTE` allows.
    """
    if len(stream) % 4 or symbols > POINTS_PER_BYTE * len(stream):
        wanted = f"whole words, at least {-(-symbols // POINTS_PER_BYTE)} bytes"
        raise InputError(place, f"{len(stream)} bytes for {content}", wanted)
    coder = constriction.stream.queue.RangeDecoder(np.frombuffer(stream.tobytes(), "<u4").astype(np.uint32))

    def read(weights: Reals) -> Ints:
        try:
            found: Ints = np.asarray(coder.decode(MODEL, weights), np.int64)
        except AssertionError:  # how this library says that no symbol fits
            raise InputError(place, "a damaged stream", "one that an encoder wrote") from None
        return found

    return read


def _walk(
    classes: Ints, points: int, bits: int, splitter: Callable[[Ints], Split], work: Callable[[int], None]
) -> Ints:
    """Go through the boxes of all clouds as coder and reader do; sorted keys `(N, points)`.

    `work` is told the entries of the tables of a depth before they are made: boxes times the most points, and 1.
    """
    keys = np.empty((len(classes), points), np.int64)
    density = _Density(int(classes.max()) + 1)
    for block in blocks(classes):
        split = splitter(block)
        boxes, counts = np.arange(len(block)), np.full(len(block), points)
        for depth in range(3 * bits):
            owners, places = classes[block][boxes >> depth], boxes & ((1 << depth) - 1)
            work(len(boxes) * (int(counts.max()) + 1))
            shares = density.shares(depth, owners, places)
            parts = [
                split(boxes[part], counts[part], depth, _weights(counts[part], shares[part]))
                for part in _parts(len(boxes), int(counts.max()) + 1)
            ]
            upper = np.concatenate(parts)
            density.learn(depth, owners, places, counts - upper, upper)
            boxes = np.stack([2 * boxes, 2 * boxes + 1], 1).ravel()
            counts = np.stack([counts - upper, upper], 1).ravel()
            boxes, counts = boxes[counts > 0], counts[counts > 0]
        keys[block] = np.repeat(boxes & ((1 << 3 * bits) - 1), counts).reshape(len(block), points)
    return keys


def blocks(classes: Ints, most: int = BLOCK) -> Iterator[Ints]:
    """Indices of clouds that are coded together: 1, 2, 4, ..., `most`, ... of a class, those left of larger ones."""
    ranks = np.empty(len(classes), np.int64)
    for label in np.unique(classes):
        own = np.flatnonzero(classes == label)
        ranks[own] = np.arange(len(own))
    start, step = 0, 1
    while start <= ranks.max():
        yield np.flatnonzero((ranks >= start) & (ranks < start + step))
        start, step = start + step, min(most, 2 * step)


def _parts(rows: int, columns: int) -> list[slice]:
    step = max(1, ENTRIES // columns)
    return [slice(start, start + step) for start in range(0, rows, step)]


class _Density:
    """How many points were seen in the halves of each box, of every class and of all."""

    def __init__(self, classes: int) -> None:
        self.own = [np.zeros((classes, 2 << depth)) for depth in range(LEARNED)]
        self.all = [np.zeros(2 << depth) for depth in range(LEARNED)]

    def shares(self, depth: int, owners: Ints, places: Ints) -> Reals:
        """Expected share of the upper half of each box, strictly between 0 and 1."""
        if depth >= LEARNED:
            return np.full(len(places), 0.5)
        lower, upper = (self.all[depth][2 * places + half] for half in (0, 1))
        prior = (upper + CUBE_PRIOR / 2) / (lower + upper + CUBE_PRIOR)
        lower, upper = (self.own[depth][owners, 2 * places + half] for half in (0, 1))
        shares: Reals = (upper + CLASS_PRIOR * prior) / (lower + upper + CLASS_PRIOR)
        return shares

    def learn(self, depth: int, owners: Ints, places: Ints, lower: Ints, upper: Ints) -> None:
        if depth < LEARNED:
            for half, counts in enumerate((lower, upper)):
                np.add.at(self.all[depth], 2 * places + half, counts)
                np.add.at(self.own[depth], (owners, 2 * places + half), counts)


def _weights(counts: Ints, shares: Reals) -> Reals:
    """Beta-binomial weights `(boxes, max count + 1)` of 0 .. n points in the upper half, that of the mode about 1.

    From the ratio of neighbouring weights, up and down from near the mode, where they fall and cannot overflow.
    """
    n, k = counts[:, None].astype(np.float64), np.arange(int(counts.max()), dtype=np.float64)
    above, below = URN * shares[:, None], URN * (1 - shares[:, None])
    mode = np.floor(n * shares[:, None])
    inside = k < n
    ratio = np.where(inside, (n - k) * (above + k), 0.0) / np.where(inside, (k + 1) * (below + n - k - 1), 1.0)
    rising = np.ones((len(counts), len(k) + 1))
    rising[:, 1:] = np.where(k >= mode, ratio, 1.0)
    falling = np.ones_like(rising)
    falling[:, :-1] = np.where(k < mode, 1.0 / np.where(k < mode, ratio, 1.0), 1.0)
    weights: Reals = np.cumprod(rising, axis=1) * np.cumprod(falling[:, ::-1], axis=1)[:, ::-1]
    return weights


def _interleaved(codes: Ints, bits: int) -> Ints:
    """Keys `(N, P)`: the bits of the three coordinates in the order in which the cube is halved."""
    keys = np.zeros(codes.shape[:2], np.int64)
    for place in range(bits - 1, -1, -1):
        for axis in AXES:
            keys = keys << 1 | (codes[..., axis] >> place) & 1
    return keys


def _separated(keys: Ints, bits: int) -> Ints:
    """The inverse of `_interleaved`."""
    codes = np.zeros((*keys.shape, 3), np.int64)
    for place in range(bits):
        for turn, axis in enumerate(AXES):
            codes[..., axis] |= (keys >> (3 * place + 2 - turn) & 1) << place
    return codes

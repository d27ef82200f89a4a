"""Entropy coding of soft labels: a teacher's probabilities in a few bits each.

A label is a level 0 .. 15 for every class. What a level is likely to be follows from the labels that were coded before:
from the mean level that the class has in clouds of the same class, and from how far the cloud's levels so far lie
above or below theirs, as a cloud that is hard to tell has many classes that are likely. Levels that are expected to be
alike share a table of how often each was seen. No table is stored.

The range coder, the order of clouds, and what keeps weights the same on all machines are those of `storage.coding`:
sums are of integers, or taken in a fixed order.
"""

from collections.abc import Callable

import constriction
import numpy as np

from pcdistill.storage.coding import MODEL, Bytes, Ints, Reals, blocks, reading, written

LEVELS = 16

# What follows is part of the format, as in `storage.coding`.
PAIR_PRIOR = 0.5  # clouds that the mean level of all pairs counts for in that of one pair of classes
ACTIVITY_PRIOR = 2.0  # levels that count as expected in every cloud
SHAPE_PRIOR = 4.0  # weight of the likeliest level of a table before anything was seen
EDGES = np.array([2.0**k for k in range(-4, -1)] + [k / 2 for k in range(1, 29)])  # of the tables, in expected levels

Step = Callable[[Ints, Ints, Reals], Ints]  # clouds, class of each, weights -> levels


def encode_levels(levels: Ints, classes: Ints) -> Bytes:
    """Levels of soft labels as a stream.

    Args:
        levels: `(N, C)` integers in 0 .. 15.
        classes: `(N,)` class that each cloud stands under, which the reader knows.

    Returns:
        `(bytes,)` uint8: whole words of 4 bytes.
    """
    coder = constriction.stream.queue.RangeEncoder()

    def step(clouds: Ints, columns: Ints, weights: Reals) -> Ints:
        found: Ints = levels[clouds, columns]
        coder.encode(found.astype(np.int32), MODEL, weights)
        return found

    _walk(classes, levels.shape[1], step)
    return written(coder, levels.size)


def decode_levels(stream: Bytes, classes: Ints, names: int) -> Ints:
    """The inverse of `encode_levels`: levels `(N, names)`.

    Any bytes are read without harm: work and memory grow with the length of the stream.

    Raises:
        InputError: more levels than `POINTS_PER_BYTE` allows, no whole words, or a stream that no encoder writes.
    """
    read = reading(stream, "labels", len(classes) * names, f"{len(classes)} clouds of {names} classes")
    return _walk(classes, names, lambda clouds, columns, weights: read(weights))


def _walk(classes: Ints, names: int, step: Step) -> Ints:
    """Go through the levels of all clouds as coder and reader do: first the own class of each, then those after it."""
    levels = np.zeros((len(classes), names), np.int64)
    means, seen = _Means(names), np.zeros((len(EDGES) + 1, LEVELS))
    for block in blocks(classes):
        own = classes[block]
        above, wanted = np.full(len(block), ACTIVITY_PRIOR), np.full(len(block), ACTIVITY_PRIOR)
        for turn in range(names):
            columns = (own + turn) % names
            mean = means.expected(own, columns)
            expected = np.minimum(mean * (above / wanted), LEVELS - 1.0)
            table = np.searchsorted(EDGES, expected, side="right")
            found = step(block, columns, seen[table] + _shape(expected))
            np.add.at(seen, (table, found), 1)
            levels[block, columns] = found
            if turn:  # the own class is near the top whatever the others are
                above, wanted = above + found, wanted + mean
        means.learn(own, levels[block])
    return levels


class _Means:
    """Mean level of every class in the clouds of each, as far as they were seen."""

    def __init__(self, names: int) -> None:
        self.sums, self.clouds = np.zeros((names, names)), np.zeros(names)
        self.others = 0

    def expected(self, own: Ints, columns: Ints) -> Reals:
        """Of the level of class `columns` in clouds of class `own`, above 0."""
        others = (self.others + 1.0) / (self.clouds.sum() * (len(self.clouds) - 1) + 1.0)
        prior = np.where(own == columns, LEVELS - 1.0, others)
        mean: Reals = (self.sums[own, columns] + PAIR_PRIOR * prior) / (self.clouds[own] + PAIR_PRIOR)
        return mean

    def learn(self, own: Ints, levels: Ints) -> None:
        np.add.at(self.sums, own, levels)
        np.add.at(self.clouds, own, 1)
        self.others += int(levels.sum() - levels[np.arange(len(own)), own].sum())


def _shape(expected: Reals) -> Reals:
    """Weights `(N, 16)` of levels before any was seen: a Cauchy density around what is expected of each."""
    spread = 0.05 + 0.5 * expected[:, None]
    gap = np.arange(LEVELS) - expected[:, None]
    weights: Reals = SHAPE_PRIOR * (spread / (spread + gap * gap))
    return weights

"""A network that learns as it guesses, the same on every machine: how the coder of voxels mixes what it knows.

Products are of integers that float64 holds exactly, in whatever order they are summed, weights are rounded to integers
before they are used and changed by single operations that IEEE 754 fixes, and logarithms are tables made with decimal
arithmetic.
"""

from decimal import Decimal, localcontext
from functools import cache
from typing import NamedTuple

import numpy as np

from pcdistill.storage.coding import Ints, Reals

# What follows is part of the format: other values are another storage.
HIDDEN = 16
RATE, FORGET = 0.03, 0.998  # of AdaGrad, and how its sums fade from wave to wave
CLASS_RATE, CLASS_CALM = 0.02, 10  # of the weights of a class: of a step, and cells that it is calmed by
UNIT = 32  # of a feature: 1 is 32
WEIGHT = 4096  # of a weight
LOGIT, STEP = 12, 256  # largest logit, and steps of the table of probabilities to a logit of 1
ONE, LEAST = 65536, 8  # probabilities are of 65536, and at least 8
SHARES = 256  # steps of the table of logits to a share of 1
SCALE = 2.0**-21  # of gradients, which are integers: features of 32 times errors of 65536


class Guess(NamedTuple):
    """What a network made of cells."""

    features: Reals
    hidden: Reals
    shares: Reals
    classes: Ints
    probabilities: Ints


class Network:
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

    def guess(self, features: Reals, shares: Reals, classes: Ints) -> Guess:
        hidden = np.floor(np.maximum(_product(features, np.rint(self.inner * WEIGHT)), 0) / WEIGHT)
        total = _product(hidden, np.rint(self.outer * WEIGHT)) + (shares * np.rint(self.mixed * WEIGHT)[classes]).sum(1)
        places = np.floor(total / (UNIT * WEIGHT // STEP)).clip(-LOGIT * STEP, LOGIT * STEP).astype(np.int64)
        return Guess(features, hidden, shares, classes, logit_tables()[2][places + LOGIT * STEP])

    def gradients(self, guess: Guess, occupied: Ints) -> list[Reals]:
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


def _scattered(rows: int, columns: int) -> Reals:
    """Numbers between -1 and 1 without a pattern that matters, the same everywhere."""
    numbers = (np.arange(rows * columns, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(2**32)
    mixed = (numbers ^ numbers >> np.uint64(13)) * np.uint64(1274126177) % np.uint64(2**32)
    return (mixed.astype(np.float64) / 2**31 - 1).reshape(rows, columns)


def shares_of(hits: Ints, tries: Ints, scale: int, more: int, others: int) -> Ints:
    """`hits` of `tries`, with a prior, of `SHARES`: integers."""
    shares: Ints = np.minimum((scale * hits + more) * SHARES // (scale * tries + others), SHARES - 1)
    return shares


@cache
def logit_tables() -> tuple[Ints, Ints, Ints]:
    """Logits of shares, thirds of them, and probabilities of logits: decimal arithmetic is the same everywhere."""
    with localcontext() as context:
        context.prec = 30
        half = Decimal("0.5")
        logits = [((k + half) / (SHARES - k - half)).ln() for k in range(SHARES)]
        exponents = [Decimal(place) / STEP for place in range(-LOGIT * STEP, LOGIT * STEP + 1)]
        stretch = [int((logit * UNIT).to_integral_value()) for logit in logits]
        squash = [int((ONE / (1 + (-place).exp())).to_integral_value()) for place in exponents]
    return np.array(stretch), np.array(stretch) // 3, np.array(squash).clip(LEAST, ONE - LEAST)

"""Whether one arm beats another: a paired interval of the difference of two accuracies."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.evaluation.scores import hits
from pcdistill.results.record import WHOLE, Record

RESAMPLES = 10_000
TESTED = ("dataset", "split", "condition", "test_points", "test_set")  # fields that say of which clouds a record is
BLOCK = 500  # resamples at once: 500 x 2468 counts of clouds that are all unlike are 10 MB
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Outcomes(NamedTuple):
    """The test of an arm.

    Attributes:
        right: `(distillation seeds, training seeds, clouds)` bool: whether each cloud was recognised.
        place: the arm's name in messages.
    """

    right: Tensor
    place: str = "an arm"


@dataclass(frozen=True)
class Difference:
    """How much more accurate one arm is than another, as fractions.

    Attributes:
        mean: of the accuracies of the first less that of the second.
        low, high: percentile interval.
        p: two-sided: twice the share of resamples on the far side of zero, as the interval has it. None where an arm
            has one set: of what another one would have given nothing is known.
        confidence: of the interval.
        resamples: how many.
        runs: networks of the arm that has fewer.
    """

    mean: float
    low: float
    high: float
    p: float | None
    confidence: float = 0.95
    resamples: int = RESAMPLES
    runs: int = 1

    @property
    def clear(self) -> bool:
        """Whether the first is the better one: an interval above zero, and not one of clouds alone."""
        return self.low > 0 and self.runs > 1


def difference(
    a: Record, b: Record, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """By how much record `a` is more accurate than record `b`; see `paired_bootstrap`.

    Raises:
        InputError: records of different data or test clouds, or from before outcomes were recorded.
    """
    for field in TESTED:
        left, right = (getattr(one, field) for one in (a, b))
        if left != right:
            raise InputError("difference", f"{field} {left} of {a.arm} and {right} of {b.arm}", "the same")
    first, second = outcomes(a), outcomes(b)
    # Records from before test sets were named may still agree on this, and then be of different clouds.
    if _test_counts(a) != _test_counts(b):
        raise InputError("difference", f"{a.arm} and {b.arm} of other numbers of test clouds", "the same test clouds")
    apart = paired_bootstrap(first, second, resamples=resamples, confidence=confidence, seed=seed)
    single = any(one.arm != WHOLE and len(one.distill_seeds) == 1 for one in (a, b))  # the whole set is not drawn
    return replace(apart, p=None) if single else apart


def has_outcomes(record: Record) -> bool:
    """Whether `difference` can compare it."""
    return bool(record.right and record.confusion)


def clear_best(records: Sequence[Record]) -> Record | None:
    """The record that is better than every other one, as far as intervals tell (`Difference.clear`); None: none is.

    Raises:
        InputError: as `difference`.
    """
    ranked = sorted(records, key=lambda record: -record.accuracy_mean)
    if len(ranked) < 2 or not all(map(has_outcomes, ranked)):
        return None
    return ranked[0] if all(difference(ranked[0], other).clear for other in ranked[1:]) else None


def outcomes(record: Record) -> Outcomes:
    """Every run's outcomes on every test cloud.

    Raises:
        InputError: a record without them, damaged ones, or runs that are not seeds x seeds.
    """
    place = f"{record.benchmark}, {record.arm}"
    texts, groups = record.right, len(record.distill_seeds)
    if not texts or not record.confusion:
        raise InputError(place, "no outcomes of single test clouds", "a record that has them (measured since they are)")
    clouds, left = divmod(sum(_confused(record)), len(texts))
    try:
        if left or len({len(text) for text in texts}) > 1 or len(texts[0]) != 2 * -(-clouds // 8):
            raise ValueError
        runs = [hits(text, clouds).tolist() for text in texts]
    except ValueError:
        raise InputError(place, "'right' that does not fit 'confusion'", "a bit per run and test cloud") from None
    if not groups or len(runs) % groups:
        raise InputError(place, f"{len(runs)} runs of {groups} distillation seeds", "equally many of each")
    return Outcomes(torch.tensor(runs).view(groups, len(runs) // groups, clouds), place)


def paired_bootstrap(
    a: Outcomes, b: Outcomes, *, resamples: int = RESAMPLES, confidence: float = 0.95, seed: int = 0
) -> Difference:
    """Percentile interval of the difference of two arms' mean accuracies over test clouds and over seeds.

    Test clouds are drawn with replacement, the same for both arms, which makes the difference a paired one. Runs are
    drawn for each arm on its own: distillation seeds, then training seeds within each (of an arm with one distillation
    seed, training seeds). Drawing clouds and runs crosswise is Owen's pigeonhole bootstrap ("The pigeonhole bootstrap",
    Annals of Applied Statistics 1, 2007), drawing within what was drawn Davison & Hinkley's ("Bootstrap methods and
    their application", 1997, 3.8). Of n outer seeds n - 1 are drawn, which keeps the variance of few from being
    underestimated (Rao & Wu, JASA 83, 1988).

    What to expect: drawing crosswise counts chance in single outcomes up to three times, and intervals are a little too
    wide where there is much of it (in simulations 95 to 97 % of them hold the truth). Of three distillations with one
    network each they are too narrow where seeds matter as much as clouds (85 %); an arm of one run counts as if every
    other run of it would be the same.

    Interval and p value change sign with the order of the arms, exactly.

    Args:
        a, b: outcomes on the same clouds in the same order; numbers of seeds may differ.
        resamples: how many.
        confidence: share of resamples between the ends.
        seed: of all draws.

    Raises:
        InputError: outcomes on different numbers of clouds.
    """
    clouds = a.right.shape[2]
    if clouds != b.right.shape[2]:
        found = f"{clouds} test clouds of {a.place} and {b.right.shape[2]} of {b.place}"
        raise InputError("difference", found, "the same test clouds")
    arms = [arm.right.numpy().astype(np.float64) for arm in (a, b)]
    # In an order of their own, so that the draws do not depend on the one they are given in.
    turned = (arms[0].shape, arms[0].tobytes()) > (arms[1].shape, arms[1].tobytes())
    first, second = reversed(arms) if turned else arms
    random = np.random.default_rng(seed)
    flat = np.concatenate([arm.reshape(-1, clouds) for arm in (first, second)])
    kinds, sizes = np.unique(flat, axis=1, return_counts=True)  # clouds on which all runs did the same are alike
    parts = np.split(kinds, [first.shape[0] * first.shape[1]])
    groups = [(part, arm.shape[0]) for part, arm in zip(parts, (first, second), strict=True)]
    drawn = np.concatenate(
        [_drawn(groups, sizes, min(BLOCK, resamples - start), random) for start in range(0, resamples, BLOCK)]
    )
    drawn = -drawn if turned else drawn
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    mean = arms[0].mean() - arms[1].mean()
    runs = min(len(part) for part in parts)
    return Difference(float(mean), float(low), float(high), float(p), confidence, resamples, runs)


def _drawn(arms: Sequence[tuple[Floats, int]], sizes: Ints, resamples: int, random: np.random.Generator) -> Floats:
    """Differences `(resamples,)`: products of how often clouds and runs were drawn.

    Args:
        arms: of both, outcomes `(runs, K)` on K kinds of clouds, and in how many groups runs are drawn.
        sizes: `(K,)` clouds of every kind.
        resamples: how many.
        random: of all draws.
    """
    shares = random.multinomial(sizes.sum(), sizes / sizes.sum(), size=resamples) / sizes.sum()
    means = [
        (_run_weights(groups, len(right) // groups, resamples, random) * (shares @ right.T)).sum(1)
        for right, groups in arms
    ]
    return np.asarray(means[0] - means[1])


def _run_weights(groups: int, each: int, resamples: int, random: np.random.Generator) -> Floats:
    """`(resamples, groups * each)`: the weight of every run, 1 in all."""
    if groups == 1:
        groups, each = each, 1
    outer = random.multinomial(max(1, groups - 1), np.full(groups, 1 / groups), size=resamples)
    inner = random.multinomial(outer * each, np.full(each, 1 / each))
    return inner.reshape(resamples, -1) / (max(1, groups - 1) * each)


def _confused(record: Record) -> list[int]:
    """Tested clouds of every class, runs together."""
    return [sum(row) for row in record.confusion]


def _test_counts(record: Record) -> list[float]:
    return [count / len(record.right) for count in _confused(record)]

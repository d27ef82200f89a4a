"""Whether one arm beats another: a paired interval of the difference of two accuracies."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.evaluation.scores import hits
from pcdistill.results.record import Record

RESAMPLES = 10_000
TESTED = ("dataset", "split", "condition", "test_points", "test_set")  # fields that say of which clouds a record is
BLOCK = 500  # resamples at once: 500 x 2468 clouds of counts are 10 MB
Floats = NDArray[np.float64]


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
        p: two-sided: twice the share of resamples on the far side of zero, as the interval has it.
        confidence: of the interval.
        resamples: how many.
    """

    mean: float
    low: float
    high: float
    p: float
    confidence: float = 0.95
    resamples: int = RESAMPLES


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
    return paired_bootstrap(first, second, resamples=resamples, confidence=confidence, seed=seed)


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
    drawn = np.concatenate(
        [_drawn(first, second, min(BLOCK, resamples - start), random) for start in range(0, resamples, BLOCK)]
    )
    drawn = -drawn if turned else drawn
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (resamples + 1))
    mean = arms[0].mean() - arms[1].mean()
    return Difference(float(mean), float(low), float(high), float(p), confidence, resamples)


def _drawn(first: Floats, second: Floats, resamples: int, random: np.random.Generator) -> Floats:
    """Differences `(resamples,)`: products of how often clouds and runs were drawn."""
    clouds = first.shape[2]
    places = random.integers(clouds, size=(resamples, clouds)) + clouds * np.arange(resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=resamples * clouds).reshape(resamples, clouds) / clouds
    means = [
        (_run_weights(arm.shape[0], arm.shape[1], resamples, random) * (counts @ arm.reshape(-1, clouds).T)).sum(1)
        for arm in (first, second)
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

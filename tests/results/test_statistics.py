"""Paired intervals against SciPy's, against the truth of simulated experiments, and where there is nothing to draw."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.results.record import Record
from pcdistill.results.statistics import Outcomes, _run_weights, clear_best, difference, outcomes, paired_bootstrap

FIELDS: dict[str, Any] = {
    "benchmark": "compare", "dataset": "some", "arm": "random", "distilled": False, "objective": None,
    "storage": "points", "clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0,
    "protocol": "tuned v2", "network": "pointnet", "distill_network": None, "accuracy": [], "accuracy_mean": 0.0,
    "accuracy_std": 0.0, "class_accuracy_mean": 0.0, "distill_seeds": [0], "train_seeds": [0], "distill_seconds": 1.0,
    "prepare_seconds": 0.0, "train_seconds": 2.0, "peak_mib": 300, "command": "python x.py", "commit": "abc",
    "versions": {}, "hardware": "a processor", "date": "2026-01-01",
}  # fmt: skip


def measured(hit: Tensor, **changes: Any) -> Record:
    """An arm with outcomes `(distillation seeds, training seeds, clouds)`, the clouds of two classes in turn."""
    runs = hit.flatten(0, 1)
    packed = [np.packbits(run.numpy()).tobytes().hex() for run in runs]
    confusion = [[0, 0], [0, 0]]
    for run in runs:
        for cloud, found in enumerate(run.tolist()):
            confusion[cloud % 2][cloud % 2 if found else 1 - cloud % 2] += 1
    accuracy = runs.double().mean(1).tolist()
    facts = {"accuracy": accuracy, "distill_seeds": list(range(len(hit))), "right": packed, "confusion": confusion}
    return Record(**{**FIELDS, **facts, **changes})


# Deviations of what decides whether a cloud is recognised: the cloud, what an arm makes of it, its two seeds, the rest.
CLOUD, OWN, DISTILLED, TRAINED, REST = 1.0, 0.7, 0.15, 0.1, 0.4
TOTAL = (CLOUD**2 + OWN**2 + DISTILLED**2 + TRAINED**2 + REST**2) ** 0.5


def drawn(random: np.random.Generator, seeds: tuple[int, int], hard: NDArray[Any], level: float) -> Tensor:
    """An arm that recognises what is above zero; `hard` is shared by arms, all else its own."""
    groups, each, clouds = *seeds, len(hard)
    parts = ((OWN, (1, 1, clouds)), (DISTILLED, (groups, 1, 1)), (TRAINED, (groups, each, 1)))
    sums = level + CLOUD * hard + sum(deviation * random.standard_normal(size) for deviation, size in parts)
    return torch.from_numpy(sums + REST * random.standard_normal((groups, each, clouds)) > 0)


def test_one_network_an_arm_is_scipys_paired_bootstrap() -> None:
    random = np.random.default_rng(0)
    hard = random.standard_normal(80)
    a, b = (drawn(random, (1, 1), hard, level) for level in (1.0, 0.5))
    found = paired_bootstrap(Outcomes(a), Outcomes(b), confidence=0.9)
    x, y = (arm[0, 0].double().numpy() for arm in (a, b))
    other = stats.bootstrap(
        (x, y), lambda x, y: np.mean(x) - np.mean(y), paired=True, method="percentile", vectorized=False,
        n_resamples=5000, confidence_level=0.9, rng=1,
    ).confidence_interval  # fmt: skip
    assert found.mean == pytest.approx((x - y).mean())
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.015)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of clouds, distillations and trainings that are all new in every experiment."""
    random = np.random.default_rng(1)
    truth = stats.norm.cdf(1.2 / TOTAL) - stats.norm.cdf(0.9 / TOTAL)
    covered, trials = 0, 150
    for _ in range(trials):
        hard = random.standard_normal(120)
        a, b = (drawn(random, (6, 2), hard, level) for level in (1.2, 0.9))
        found = paired_bootstrap(Outcomes(a), Outcomes(b), resamples=300)
        covered += found.low <= truth <= found.high
    assert 0.9 <= covered / trials < 1


def test_the_share_of_seeds_is_not_underestimated() -> None:
    """Clouds that are all alike leave only the seeds: the variance of a mean of n seeds is s² / n."""
    levels = torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    expected = levels.var().item() / 5
    rng = np.random.default_rng(2)
    for groups, each in ((5, 1), (1, 5)):
        weights = _run_weights(groups, each, 20_000, rng)
        assert weights.sum(1) == pytest.approx(1)
        assert weights.mean(0) == pytest.approx(0.2, abs=0.01)
        assert (weights @ levels.numpy()).var() == pytest.approx(expected, rel=0.05)


def test_trainings_are_drawn_within_their_distillation() -> None:
    weights = _run_weights(3, 2, 20_000, np.random.default_rng(3)).reshape(-1, 3, 2)
    of_groups = weights.sum(2)
    assert set(np.unique(of_groups)) == {0, 0.5, 1}  # two of three are drawn
    inside = (weights[of_groups == 1] * 4).round().astype(int)[:, 0]
    assert np.bincount(inside, minlength=5) / len(inside) == pytest.approx(stats.binom(4, 0.5).pmf(range(5)), abs=0.02)


bits = st.lists(st.booleans(), min_size=12, max_size=12)


@given(bits, bits, st.integers(0, 3))
def test_the_other_order_of_arms_changes_the_sign_and_nothing_else(one: list[bool], two: list[bool], seed: int) -> None:
    a, b = Outcomes(torch.tensor(one).view(2, 2, 3)), Outcomes(torch.tensor(two).view(4, 1, 3))
    found, turned = (paired_bootstrap(*arms, resamples=99, seed=seed) for arms in ((a, b), (b, a)))
    assert (turned.mean, turned.p) == (-found.mean, found.p)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert found == paired_bootstrap(a, b, resamples=99, seed=seed)
    assert -1 <= found.low <= found.high <= 1


def test_arms_that_never_differ_and_arms_that_always_do() -> None:
    right = torch.tensor([True, False, True, True, False]).expand(3, 2, 5)
    same = paired_bootstrap(Outcomes(right), Outcomes(right[:1]), resamples=500)
    # Sums in another order: not quite zero.
    assert (same.mean, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)
    assert same.p == 1
    every = torch.ones(1, 1, 5, dtype=torch.bool)
    most = paired_bootstrap(Outcomes(every), Outcomes(~every), resamples=500)
    assert (most.mean, most.low, most.high, most.p) == (1, 1, 1, 2 / 501)


@pytest.mark.parametrize("level", [0.5, 0.7, 0.9, 1.1, 1.3])
def test_the_p_value_agrees_with_the_interval(level: float) -> None:
    random = np.random.default_rng(5)
    hard = random.standard_normal(60)
    a, b = (drawn(random, (3, 2), hard, one) for one in (level, 0.5))
    for confidence in (0.5, 0.8, 0.95):
        found = paired_bootstrap(Outcomes(a), Outcomes(b), resamples=2000, confidence=confidence)
        assert (found.low > 0 or found.high < 0) == (found.p < 1 - confidence)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    hard = torch.arange(40) % 2 == 0
    worse = hard.clone()
    worse[0] = False
    found = paired_bootstrap(Outcomes(hard.view(1, 1, -1)), Outcomes(worse.view(1, 1, -1)))
    assert found.mean == pytest.approx(1 / 40)
    assert found.high < 0.1  # unpaired, two arms of 40 clouds differ by some 0.2 by chance


def test_records_give_back_the_outcomes_of_every_run() -> None:
    random = np.random.default_rng(6)
    a, b = (drawn(random, seeds, np.zeros(13), 0.6) for seeds in ((2, 3), (1, 2)))
    left, right = measured(a), measured(b, arm="whole")
    assert torch.equal(outcomes(left).right, a)
    assert difference(left, right, resamples=200) == paired_bootstrap(Outcomes(a), Outcomes(b), resamples=200)


def test_of_one_set_there_is_an_interval_and_no_p_value() -> None:
    """Nobody knows what another one would have given; but of the whole set there is no other."""
    random = np.random.default_rng(7)
    several, single = (drawn(random, seeds, np.zeros(30), 0.6) for seeds in ((2, 1), (1, 3)))
    apart = difference(measured(several), measured(single), resamples=99)
    assert apart.p is None
    assert apart.low <= apart.mean <= apart.high
    assert apart.runs == 2
    assert difference(measured(several), measured(single, arm="whole"), resamples=99).p is not None
    assert difference(measured(single, arm="whole"), measured(single), resamples=99).p is None


def shares(*levels: float, runs: int = 3) -> Tensor:
    """Runs that recognise this share of 200 clouds, the easiest ones, give or take one."""
    return torch.stack([torch.arange(200) < 200 * levels[run % len(levels)] + run for run in range(runs)])[:, None]


def record_of(hit: Tensor, **changes: Any) -> Record:
    return measured(hit, accuracy_mean=hit.double().mean().item(), **changes)


def test_the_best_is_clear_where_every_interval_is_above_zero() -> None:
    best, far, near = (record_of(shares(level)) for level in (0.8, 0.5, 0.79))
    assert clear_best([far, best]) is best
    assert clear_best([far, best, near]) is None  # 0.79 may be as good
    assert difference(far, best).high < 0
    assert not difference(far, best).clear
    noisy = record_of(shares(0.9, 0.4))  # the best on average, and one of its runs the worst
    assert clear_best([noisy, record_of(shares(0.6))]) is None


def test_nothing_is_clear_of_single_runs_without_outcomes_or_rivals() -> None:
    best, far = (record_of(shares(level, runs=1)) for level in (0.9, 0.3))
    assert difference(best, far).low > 0  # the interval is of clouds alone
    assert clear_best([best, far]) is None
    best, far = (record_of(shares(level)) for level in (0.9, 0.3))
    assert clear_best([best]) is clear_best([]) is None
    assert clear_best([best, far.model_copy(update={"right": []})]) is None


RIGHT = torch.tensor([[[True, False, True, True, False]] * 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "difference: dataset some of random and other of krr, expected the same"),
        ({"split": "0.2 of train held out"}, "split test of random and 0.2 of train held out of krr"),
        ({"test_points": 512}, "test_points 1024 of random and 512 of krr"),
        ({"condition": "corrupted"}, "condition clean of random and corrupted of krr"),
        ({"test_set": "abc"}, "test_set None of random and abc of krr"),
        ({"right": []}, "compare, krr: no outcomes of single test clouds"),
        ({"right": ["e8", "e800"]}, "compare, krr: 'right' that does not fit 'confusion'"),
        ({"right": ["e", "e"]}, "'right' that does not fit"),
        ({"right": ["zz", "zz"]}, "'right' that does not fit"),
        ({"right": ["e8"] * 3}, "'right' that does not fit"),
        ({"distill_seeds": [0, 1, 2]}, "2 runs of 3 distillation seeds, expected equally many of each"),
        ({"confusion": [[4, 0], [6, 0]]}, "difference: random and krr of other numbers of test clouds"),
    ],
)
def test_records_that_cannot_be_compared(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        difference(measured(RIGHT), measured(RIGHT, arm="krr", **changes))


def test_arms_of_other_numbers_of_clouds() -> None:
    with pytest.raises(InputError, match="difference: 5 test clouds of random and 4 of krr, expected the same"):
        paired_bootstrap(Outcomes(RIGHT, "random"), Outcomes(RIGHT[..., 1:], "krr"))

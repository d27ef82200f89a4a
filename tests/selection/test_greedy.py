"""The lazy greedy choice against the naive one and against the optimum."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.selection.facility import likeness
from pcdistill.selection.greedy import POWER, cover, foremost

quick = settings(max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covered(affinity: Tensor, chosen: tuple[int, ...] | list[int]) -> float:
    """What the rows get of chosen columns, from the definition."""
    return sum(max(float(row[column]) for column in chosen) for row in affinity)


def naive(affinity: Tensor, count: int, costs: Tensor | None) -> list[int]:
    """All gains reckoned at every turn, as sums of the same order."""
    chosen: list[int] = []
    got = torch.zeros(len(affinity), dtype=torch.float64)
    for _ in range(count):
        gains = [float((affinity[:, j] - got).clamp_min(0).numpy().sum()) for j in range(affinity.shape[1])]
        worth = [gain if costs is None else gain / float(costs[j] ** POWER) for j, gain in enumerate(gains)]
        best = max((j for j in range(len(worth)) if j not in chosen), key=lambda j: (worth[j], -j))
        chosen.append(best)
        got = torch.maximum(got, affinity[:, best])
    return chosen


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 12), st.booleans(), st.booleans())
def test_lazy_is_naive(seed: int, rows: int, columns: int, priced: bool, coarse: bool) -> None:
    """Also where many gains are equal."""
    affinity = drawn(seed, rows, columns)
    if coarse:
        affinity = (affinity * 3).round()
    costs = drawn(seed + 1, columns) + 0.1 if priced else None
    found = cover(affinity, columns, costs)
    assert found.chosen.tolist() == naive(affinity, columns, costs)
    worth = torch.ones(columns, dtype=torch.float64) if costs is None else costs**POWER
    total = (found.gains * worth[found.chosen]).cumsum(0)
    for turn in range(columns):
        assert float(total[turn]) == pytest.approx(covered(affinity, found.chosen[: turn + 1].tolist()))


@quick
@given(seeds, st.integers(2, 8), st.data())
def test_greedy_covers_at_least_the_bound_of_the_optimum(seed: int, size: int, data: st.DataObject) -> None:
    affinity, count = likeness(drawn(seed, size, 3) - 0.5), data.draw(st.integers(1, size))
    found = covered(affinity, cover(affinity, count).chosen.tolist())
    best = max(covered(affinity, chosen) for chosen in combinations(range(size), count))
    assert (1 - 1 / math.e) * best <= found <= best + 1e-9


def test_gains_fall() -> None:
    gains = cover(likeness(drawn(0, 40, 5) - 0.5), 40).gains
    assert bool((gains[1:] <= gains[:-1]).all())
    assert bool((gains >= 0).all())


def test_the_foremost_are_those_of_most_gain_for_the_root_of_their_cost() -> None:
    gains = torch.tensor([1.0, 3, 2, 3])
    assert foremost(gains, 3).tolist() == [1, 3, 2]
    assert foremost(gains, 4, torch.tensor([1.0, 9, 1, 16])).tolist() == [2, 0, 1, 3]  # 1, 1, 2, 0.75

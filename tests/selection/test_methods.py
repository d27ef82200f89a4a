"""The selection methods on features: known cases, definitions, and the contract of the registry."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.selection import medoid, selectors
from pcdistill.selection.base import asked_by
from pcdistill.selection.greedy import POWER
from pcdistill.selection.herding import select_herding
from pcdistill.selection.kcenter import select_kcenter
from pcdistill.selection.medoid import select_medoid
from pcdistill.selection.random import select_random
from pcdistill.selection.thrift import select_thrift

GREEDY = {"herding": select_herding, "kcenter": select_kcenter, "medoid": select_medoid, "thrift": select_thrift}
quick = settings(max_examples=25)
seeds = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(seed: int, count: int = 30, channels: int = 4) -> Tensor:
    return torch.randn(count, channels, generator=generator(seed), dtype=torch.float64)


def facts(method: str, count: int, seed: int = 0) -> dict[str, Tensor]:
    """What a method asks for of so many clouds, at random."""
    asked = sorted(asked_by(selectors[method]) & {"costs", "el2n", "aum"})
    return {name: torch.rand(count, generator=generator(seed + k)) + 0.1 for k, name in enumerate(asked)}


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def cost(values: Tensor, chosen: Tensor | tuple[int, ...]) -> float:
    """Sum of the distances to the nearest chosen, from the definition."""
    rows = [min(float((value - values[int(c)]).norm()) for c in chosen) for value in values]
    return sum(rows)


def optimum(values: Tensor, count: int) -> float:
    return min(cost(values, chosen) for chosen in combinations(range(len(values)), count))


# The contract, for whatever is registered


@pytest.mark.parametrize("method", list(selectors))
@quick
@given(seeds, st.integers(1, 25), st.data())
def test_every_method_gives_different_indices_and_repeats_itself(
    method: str, seed: int, size: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, size))
    values, given = features(seed, size).float(), facts(method, size, seed % 1000)
    chosen = selectors[method](values, count, generator(seed), **given)
    assert chosen.shape == (count,)
    assert chosen.dtype == torch.int64
    assert len(set(chosen.tolist())) == count
    assert 0 <= int(chosen.min()) <= int(chosen.max()) < size
    assert torch.equal(selectors[method](values, count, generator(seed), **given), chosen)


@pytest.mark.parametrize("method", list(selectors))
def test_every_method_copes_with_coinciding_features(method: str) -> None:
    for values in (torch.zeros(6, 3), torch.full((6, 3), 0.1), column(1, 1, 1, 2, 2, 2)):
        given = {name: torch.ones(6) for name in facts(method, 6)}
        assert sorted(selectors[method](values, 6, generator(), **given).tolist()) == list(range(6))


@pytest.mark.parametrize("method", list(selectors))
def test_every_method_leaves_its_input_alone(method: str) -> None:
    values = features(0).requires_grad_()
    before = values.detach().clone()
    given = facts(method, len(values))
    asked = {name: fact.clone() for name, fact in given.items()}
    assert not selectors[method](values, 3, generator(), **given).requires_grad
    assert torch.equal(values.detach(), before)
    assert all(torch.equal(given[name], asked[name]) for name in given)


@pytest.mark.parametrize("method", list(selectors))
@pytest.mark.parametrize(
    ("values", "count", "message"),
    [
        (torch.zeros(5, 2), 0, "count 0, expected 1 to 5"),
        (torch.zeros(5, 2), 6, "count 6, expected 1 to 5"),
        (torch.zeros(5), 2, r"features of shape \(5,\), expected \(clouds, channels\)"),
        (torch.tensor([[0.0], [float("nan")]]), 1, "NaN or infinite"),
    ],
)
def test_every_method_refuses_what_it_cannot_use(method: str, values: Tensor, count: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        selectors[method](values, count, generator(), **facts(method, len(values)))


def test_the_methods_of_the_literature_are_registered() -> None:
    assert {"random", "herding", "kcenter", "medoid", "facility", "el2n", "aum", "window", "ccs"} <= set(selectors)


# Random


def test_random_depends_on_the_seed_and_not_on_the_features() -> None:
    first = select_random(features(0), 5, generator(0))
    assert torch.equal(select_random(features(1), 5, generator(0)), first)
    assert not torch.equal(select_random(features(0), 5, generator(1)), first)


def test_random_is_uniform() -> None:
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[select_random(torch.zeros(10, 1), 3, generator(seed))] += 1
    # 600 expected of each, standard deviation 20.5
    assert bool(((counts - 600).abs() < 100).all())


# The greedy methods


@pytest.mark.parametrize("method", list(GREEDY))
def test_the_seed_does_not_matter_to_greedy_methods(method: str) -> None:
    assert torch.equal(GREEDY[method](features(0), 4, generator(0)), GREEDY[method](features(0), 4, generator(1)))


@pytest.mark.parametrize("method", list(GREEDY))
@quick
@given(seeds)
def test_greedy_methods_follow_order_shift_scale_and_rotation(method: str, seed: int) -> None:
    # Three groups of ten. (A pair of outliers that serves only itself would tie, either medoid as good.)
    values = (20 * features(seed + 1, 3)[:, None] + features(seed).view(3, 10, 4)).flatten(0, 1)
    expected = GREEDY[method](values, 3, generator())
    order = torch.randperm(30, generator=generator(seed))
    assert torch.equal(order[GREEDY[method](values[order], 3, generator())], expected)
    turn = torch.linalg.qr(features(seed, 4)).Q
    assert torch.equal(GREEDY[method](values @ turn * 3 + 5, 3, generator()), expected)


@pytest.mark.parametrize(
    ("method", "priced"),
    [(method, priced) for priced in (False, True) for method in ("el2n", "aum", "window")]
    + [("facility", True), ("thrift", True)],  # at equal costs two clouds that stand for one another tie
)
@quick
@given(seeds)
def test_what_is_chosen_does_not_hang_on_the_order_of_the_clouds(method: str, priced: bool, seed: int) -> None:
    values, order = features(seed, 12), torch.randperm(12, generator=generator(seed))
    given = {name: fact for name, fact in facts(method, 12, seed % 1000).items() if priced or name != "costs"}
    moved = {name: fact[order] for name, fact in given.items()}
    expected = selectors[method](values, 5, generator(), **given)
    assert torch.equal(order[selectors[method](values[order], 5, generator(), **moved)], expected)


@pytest.mark.parametrize("method", ["random", "herding", "kcenter"])
@quick
@given(seeds, st.integers(1, 30))
def test_smaller_choices_are_prefixes(method: str, seed: int, count: int) -> None:
    whole = selectors[method](features(seed), 30, generator(seed))
    assert torch.equal(selectors[method](features(seed), count, generator(seed)), whole[:count])


def test_herding_and_kcenter_of_one_are_the_cloud_nearest_to_the_mean() -> None:
    for seed in range(20):
        values = features(seed)
        nearest = [int((values - values.mean(dim=0)).norm(dim=1).argmin())]
        assert select_herding(values, 1, generator()).tolist() == nearest
        assert select_kcenter(values, 1, generator()).tolist() == nearest


def test_herding_of_a_known_set() -> None:
    # The mean is 3, so 4 comes first; 1 makes it 2.5 (0: 2, 10: 7); 0 makes it 1.67 (10: 5); then
    # 10 makes it 3.75, where the other 0 would make it 1.25.
    assert select_herding(column(0, 1, 4, 10, 0), 4, generator()).tolist() == [2, 1, 0, 3]


@quick
@given(seeds, st.integers(1, 8))
def test_herding_agrees_with_its_definition(seed: int, count: int) -> None:
    values = features(seed, 12, 3)
    mean, chosen = values.mean(dim=0), list[int]()
    for _ in range(count):
        free = [i for i in range(12) if i not in chosen]
        chosen.append(min(free, key=lambda i: float((values[[*chosen, i]].mean(dim=0) - mean).norm())))
    assert select_herding(values, count, generator()).tolist() == chosen


def test_herding_keeps_the_mean_better_than_chance() -> None:
    values = features(0, 200, 8)

    def miss(chosen: Tensor) -> float:
        return float((values[chosen].mean(dim=0) - values.mean(dim=0)).norm())

    by_chance = [miss(select_random(values, 10, generator(seed))) for seed in range(50)]
    assert miss(select_herding(values, 10, generator())) < min(by_chance)


def test_kcenter_of_a_known_set() -> None:
    # The mean is 4.2, so 5 comes first; 12 is 7 away, then 0 is 5 away, then 3 is 2 away.
    assert select_kcenter(column(0, 1, 3, 5, 12), 5, generator()).tolist() == [3, 4, 0, 2, 1]


@quick
@given(seeds, st.integers(1, 4))
def test_kcenter_covers_within_twice_the_optimum(seed: int, count: int) -> None:
    values = features(seed, 8, 2)
    gaps = torch.cdist(values, values)

    def radius(chosen: list[int]) -> float:
        return float(gaps[:, chosen].amin(dim=1).max())

    best = min(radius(list(chosen)) for chosen in combinations(range(8), count))
    assert radius(select_kcenter(values, count, generator()).tolist()) <= 2 * best + 1e-12


# Medoids


def test_medoid_of_known_sets() -> None:
    assert select_medoid(column(0, 1, 2, 3, 100), 1, generator()).tolist() == [2]  # the median, not the mean
    clusters = column(0, 1, 2, 10, 11, 12, 13, 14, 50)
    assert select_medoid(clusters, 3, generator()).tolist() == [5, 8, 1]  # best first


@quick
@given(seeds, st.integers(2, 8))
def test_one_medoid_and_all_medoids_are_optimal(seed: int, size: int) -> None:
    values = features(seed, size, 2)
    assert cost(values, select_medoid(values, 1, generator())) == pytest.approx(optimum(values, 1))
    assert cost(values, select_medoid(values, size, generator())) == 0


@quick
@given(seeds, st.integers(3, 8), st.data())
def test_no_single_swap_improves_the_medoids(seed: int, size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size - 1))
    values = features(seed, size, 2)
    chosen = select_medoid(values, count, generator()).tolist()
    best = cost(values, tuple(chosen))
    for out in range(count):
        for other in set(range(size)) - set(chosen):
            assert cost(values, (*chosen[:out], other, *chosen[out + 1 :])) >= best - 1e-9


@pytest.mark.parametrize("count", [1, 2, 5])
def test_costs_of_all_swaps_agree_with_their_definition(count: int) -> None:
    values = features(0, 12, 2)
    chosen = torch.tensor([7, 0, 3, 11, 4])[:count]
    costs = medoid._swap_costs(torch.cdist(values, values), chosen)
    for out in range(count):
        for other in range(12):
            swapped = chosen.clone()
            swapped[out] = other
            assert float(costs[out, other]) == pytest.approx(cost(values, swapped))


def test_medoids_are_nearly_always_the_optimum_of_small_sets() -> None:
    cases = [(features(seed, 8, 2), 2 + seed % 3) for seed in range(60)]
    ratios = [cost(v, select_medoid(v, k, generator())) / optimum(v, k) for v, k in cases]
    assert sum(ratio < 1 + 1e-9 for ratio in ratios) >= 42  # of 60; without swaps it is less than half
    assert sum(ratios) / len(ratios) < 1.02


def test_swaps_mend_a_greedy_start() -> None:
    # Greedily the one in the middle comes first; two medoids belong in the two groups.
    values = column(-12, -11, -10, -9, -8, 0, 8, 9, 10, 11, 12)
    assert select_medoid(values, 1, generator()).tolist() == [5]
    assert min(cost(values, (5, other)) for other in range(11)) > optimum(values, 2) + 10
    assert cost(values, select_medoid(values, 2, generator())) == pytest.approx(optimum(values, 2))


@quick
@given(seeds)
def test_medoids_come_in_the_order_of_their_worth(seed: int) -> None:
    values = features(seed, 20, 2)
    chosen = select_medoid(values, 4, generator()).tolist()
    for turn in range(4):
        best = min(cost(values, (*chosen[:turn], other)) for other in chosen[turn:])
        assert cost(values, tuple(chosen[: turn + 1])) == pytest.approx(best)


def test_medoids_find_separated_groups() -> None:
    centres = 50 * features(0, 6, 5)
    values = (centres[:, None] + features(1, 60, 5).view(6, 10, 5)).flatten(0, 1)
    chosen = select_medoid(values, 6, generator())
    assert sorted((chosen // 10).tolist()) == list(range(6))
    for group in range(6):
        members = values[10 * group : 10 * group + 10]
        inner = [int(c) - 10 * group for c in chosen if int(c) // 10 == group]
        assert cost(members, tuple(inner)) == pytest.approx(optimum(members, 1))


# Thrift


@quick
@given(seeds, st.integers(1, 12), st.integers(0, 2**16))
def test_thrift_takes_the_greatest_gain_for_the_root_of_its_cost(seed: int, count: int, other: int) -> None:
    """From the definition, turn by turn."""
    values = features(seed, 12)
    costs = torch.rand(12, generator=generator(other), dtype=torch.float64) + 0.1
    chosen = select_thrift(values, count, generator(), costs=costs).tolist()
    apart = [[float((a - b).norm()) for b in values] for a in values]
    nearest = [max(map(max, apart))] * 12
    for turn, taken in enumerate(chosen):
        gains = [sum(max(0.0, near - row[j]) for near, row in zip(nearest, apart, strict=True)) for j in range(12)]
        worth = [gain / float(costs[j]) ** POWER for j, gain in enumerate(gains)]
        left = [worth[j] for j in range(12) if j not in chosen[:turn]]
        assert worth[taken] >= max(left) - 1e-9
        nearest = [min(near, row[taken]) for near, row in zip(nearest, apart, strict=True)]


def test_thrift_prefers_what_is_cheap() -> None:
    values = column(0, 0.1, 5, 5.1)
    assert select_thrift(values, 2, generator(), costs=torch.tensor([9.0, 1, 1, 9])).tolist() == [1, 2]
    assert select_thrift(values, 2, generator(), costs=torch.tensor([1.0, 9, 9, 1])).tolist() == [0, 3]


@pytest.mark.parametrize("costs", [torch.ones(3), torch.tensor([1.0, 0, 1, 1]), torch.tensor([1.0, -1, 1, 1])])
def test_thrift_refuses_costs_that_are_none(costs: Tensor) -> None:
    with pytest.raises(InputError, match=r"costs of shape .* expected \(4,\), all positive"):
        select_thrift(column(0, 1, 2, 3), 2, generator(), costs=costs)

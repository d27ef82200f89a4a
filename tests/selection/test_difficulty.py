"""How hard clouds are: scores by hand, what is watched of networks, and the methods that select by it."""

import copy
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from pcdistill.clouds import PointClouds
from pcdistill.models import Network, build
from pcdistill.selection import dynamics, network_descriptor, select, watch
from pcdistill.selection.aum import select_aum
from pcdistill.selection.base import without_hardest
from pcdistill.selection.ccs import STRATA, select_ccs
from pcdistill.selection.dynamics import error_norm, margin
from pcdistill.selection.el2n import select_el2n
from pcdistill.selection.window import select_window
from pcdistill.training.loop import predict, train

quick = settings(max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(count: int) -> Tensor:
    """That these methods do not look at."""
    return torch.zeros(count, 1)


# Scores


def test_el2n_by_hand() -> None:
    """Probabilities 1/2, 1/4, 1/4 are off class 0 by (1/2, 1/4, 1/4), and off class 2 by (1/2, 1/4, 3/4)."""
    logits = torch.tensor([[math.log(2), 0, 0]] * 2)
    assert_close(error_norm(logits, torch.tensor([0, 2])), torch.tensor([math.sqrt(6) / 4, math.sqrt(14) / 4]))


def test_margins_by_hand() -> None:
    logits = torch.tensor([[3.0, 1, -2], [3, 1, -2], [3, 1, -2]])
    assert margin(logits, torch.tensor([0, 1, 2])).tolist() == [2, -2, -5]
    assert margin(torch.tensor([[4.0]]), torch.tensor([0])).tolist() == [0]  # of one class


def test_what_is_watched_is_the_mean_over_networks_and_looks(
    tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two networks of four steps, looked at twice: their trainings are those that nobody looks at."""
    recipe = dynamics.RECIPE.model_copy(update={"steps": 4})
    for name, value in {"NETWORKS": 2, "LOOKS": 2, "POINTS": 16, "RECIPE": recipe}.items():
        monkeypatch.setattr(dynamics, name, value)
    found = watch(tiny_clouds, 5)
    thin = tiny_clouds.with_points(tiny_clouds.points[:, :16])
    el2n, aum, described = list[Tensor](), list[Tensor](), list[Tensor]()
    for number in range(2):
        network, copies = build("pointnet-tiny", 3, 5000 + number), list[Network]()

        def keep(step: int, loss: float, network: Network = network, copies: list[Network] = copies) -> None:
            copies.append(copy.deepcopy(network))

        train(network, thin, recipe, 5000 + number, keep)
        for looked_at in (copies[1], network):
            logits = predict(looked_at, thin.points)
            el2n.append((logits.softmax(1) - torch.eye(3)[thin.labels]).square().sum(1).sqrt())
            own = logits[torch.arange(24), thin.labels]
            others = logits.masked_fill(torch.eye(3)[thin.labels].bool(), -1e9)
            aum.append(own - others.max(1).values)
        described.append(network_descriptor(thin, network))
    assert_close(found.el2n, torch.stack(el2n).mean(0))
    assert_close(found.aum, torch.stack(aum).mean(0))
    assert_close(found.features, torch.cat(described, dim=1))


def test_what_was_watched_is_kept_by_content_and_seed(
    tiny_clouds: PointClouds, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = watch(tiny_clouds, 0)
    other = watch(tiny_clouds, 1)
    assert not torch.equal(first.el2n, other.el2n)
    assert len(list((own_cache / "dynamics").iterdir())) == 2
    monkeypatch.setattr(dynamics, "train", None)  # nothing is trained again
    again = watch(tiny_clouds[torch.arange(24)], 0)
    assert all(torch.equal(one, two) for one, two in zip(again, first, strict=True))


# Methods


def test_the_hardest_come_first() -> None:
    el2n = torch.tensor([0.1, 0.9, 0.5, 0.7])
    assert select_el2n(features(4), 3, generator(), el2n=el2n).tolist() == [1, 3, 2]
    assert select_el2n(features(4), 2, generator(), el2n=el2n, costs=torch.tensor([1.0, 9, 1, 9])).tolist() == [2, 1]
    assert select_aum(features(4), 3, generator(), aum=-el2n).tolist() == [1, 3, 2]
    # 0.73, 0.5 and 0.27 over 1, 1 and 3
    margins, costs = torch.tensor([1.0, 0, -1]), torch.tensor([1.0, 1, 9])
    assert select_aum(features(3), 3, generator(), aum=margins, costs=costs).tolist() == [1, 0, 2]


@quick
@given(seeds, st.floats(0, 0.99), st.integers(1, 20))
def test_what_is_left_out_are_the_hardest_where_enough_others_are_there(seed: int, skip: float, count: int) -> None:
    hardness = torch.rand(20, generator=generator(seed))
    left = without_hardest(hardness, skip, count)
    out = sorted(set(range(20)) - set(left.tolist()))
    assert left.tolist() == sorted(left.tolist())
    assert len(out) == min(int(20 * skip), 20 - count)
    assert not out or float(hardness[out].min()) >= float(hardness[left].max())


def test_a_window_starts_after_the_hardest() -> None:
    el2n = torch.tensor([0.8, 0.1, 0.6, 0.2, 0.4, 0.3, 0.7, 0.5])
    assert select_window(features(8), 3, generator(), el2n=el2n, skip=0.25).tolist() == [2, 7, 4]
    assert select_window(features(8), 3, generator(), el2n=el2n, skip=0.9).tolist() == [5, 3, 1]  # there are no more
    assert select_window(features(8), 8, generator(), el2n=el2n, skip=0.9).tolist() == [0, 6, 2, 7, 4, 5, 3, 1]
    plain = select_el2n(features(8), 5, generator(), el2n=el2n)
    assert torch.equal(select_window(features(8), 5, generator(), el2n=el2n, skip=0.0), plain)


def shares(counts: list[int], budget: int) -> list[int]:
    """How algorithm 1 of Zheng et al. shares a budget between strata: the smallest first, each up to an even part."""
    given, left = [0] * len(counts), budget
    for turn, stratum in enumerate(sorted(range(len(counts)), key=counts.__getitem__)):
        given[stratum] = min(counts[stratum], left // (len(counts) - turn))
        left -= given[stratum]
    return given


@quick
@given(seeds, st.integers(1, 120), st.sampled_from([0.0, 0.3]))
def test_ccs_takes_equally_many_of_every_stratum(seed: int, count: int, skip: float) -> None:
    scores = torch.randn(120, generator=generator(seed), dtype=torch.float64)
    chosen = select_ccs(features(120), count, generator(seed), aum=scores, skip=skip)
    left = scores.sort(descending=True).values[: max(count, 120 - int(120 * skip))]
    assert bool((scores[chosen] >= left.min()).all())
    edges = torch.linspace(float(left.min()), float(left.max()), STRATA + 1, dtype=torch.float64)[1:-1]
    held = Counter(torch.bucketize(left, edges, right=True).tolist())
    taken = Counter(torch.bucketize(scores[chosen], edges, right=True).tolist())
    strata = sorted(held)
    expected = shares([held[stratum] for stratum in strata], count)
    assert sum(taken.values()) == count
    # What remains of equal parts goes to the largest strata in the paper, and to random ones here.
    assert all(abs(taken[stratum] - part) <= 1 for stratum, part in zip(strata, expected, strict=True))


def test_ccs_draws_within_a_stratum() -> None:
    """Two strata of ten: of each one is drawn, uniformly, or the likelier the fewer bytes it takes."""
    scores = torch.tensor([0.0] * 10 + [1.0] * 10)
    costs = torch.tensor(([1.0] * 5 + [16.0] * 5) * 2)
    plain, priced = torch.zeros(20), torch.zeros(20)
    for seed in range(600):
        for counts, asked in ((plain, None), (priced, costs)):
            chosen = select_ccs(features(20), 2, generator(seed), aum=scores, costs=asked, skip=0.0)
            assert sorted((chosen // 10).tolist()) == [0, 1]
            counts[chosen] += 1
    assert bool(((plain - 60).abs() < 40).all())
    # Of independent arrivals with rates 1 and 1/4, the first one is dear with a probability of a fifth.
    assert float(priced.view(2, 2, 5)[:, 1].sum()) == pytest.approx(1200 / 5, abs=70)


def test_methods_watch_networks_by_themselves(tiny_clouds: PointClouds) -> None:
    said = watch(tiny_clouds, 2)
    chosen = select(tiny_clouds, "el2n", 1, seed=2)
    for label in range(3):
        own = said.el2n[8 * label : 8 * label + 8]
        assert torch.equal(chosen.points[label], tiny_clouds.points[8 * label + int(own.argmax())])

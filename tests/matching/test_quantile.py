"""Quantile matching against loops over layers, channels, classes and pairs of clouds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig, Objective
from pcdistill.matching.kernels import mmd
from pcdistill.matching.quantile import QuantileMatching

Configure = Callable[..., BankConfig]
AsDouble = Callable[[Objective], Any]
Q = 6


def guess(points: int = 10) -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, points, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


@pytest.fixture
def build(tiny_clouds: PointClouds, configure: Configure, as_double: AsDouble) -> Callable[..., Any]:
    """A matching in float64 over a bank of one network, all of whose channels it sees."""

    def make(**settings: Any) -> Any:
        given: dict[str, Any] = {"channels": 10_000, "pooled_weight": 0.0, **settings}
        made = QuantileMatching(configure(networks=1, quantiles=Q), seed=0, **given)
        made.prepare(tiny_clouds)
        return as_double(made)

    return make


def quantiles(values: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    return np.sort(np.repeat(values, count)).reshape(count, -1).mean(1)


def naive_profiles(clouds: PointClouds, real: PointClouds, network: Any, count: int) -> float:
    """Both sides from the clouds themselves: nothing of the bank but its network."""
    total = 0.0
    layers = zip(
        network.point_features(clouds.points.double()), network.point_features(real.points.double()), strict=True
    )
    for synthetic, truth in layers:
        one, two = synthetic.detach().numpy(), truth.detach().numpy()
        terms = []
        for channel in range(one.shape[2]):
            errors = []
            for label in clouds.labels.unique().tolist():
                mean = np.mean([quantiles(c[:, channel], count) for c in one[clouds.labels == label]], axis=0)
                target = np.mean([quantiles(c[:, channel], count) for c in two[real.labels == label]], axis=0)
                errors.append(((mean - target) ** 2).mean())
            terms.append(np.mean(errors) / max(two[:, :, channel].var(), 1e-6))
        total += float(np.mean(terms))
    return total


def test_profiles_term(build: Callable[..., Any], tiny_clouds: PointClouds, decoded: Any) -> None:
    objective = build()
    clouds = guess()
    found = objective.loss(decoded(clouds.points.double(), clouds.labels), 0)
    expected = naive_profiles(clouds, tiny_clouds, objective.bank.members[0].network, Q)
    assert found.item() == pytest.approx(expected, rel=1e-3)


def test_pooled_term(build: Callable[..., Any], tiny_clouds: PointClouds, decoded: Any) -> None:
    clouds = guess()
    given = decoded(clouds.points.double(), clouds.labels)
    with_term, without = build(pooled_weight=0.7), build()
    network = without.bank.members[0].network
    pooled = network.point_features(given.points)[-1].amax(1).relu()
    real = network.point_features(tiny_clouds.points.double())[-1].amax(1).relu()
    terms = [mmd(pooled[clouds.labels == label], real[tiny_clouds.labels == label]) for label in (0, 2)]
    expected = 0.7 * sum(term.item() for term in terms) / 2
    found = with_term.loss(given, 0) - without.loss(given, 0)
    assert found.item() == pytest.approx(expected, rel=1e-3)


def test_classes_are_averaged(build: Callable[..., Any], decoded: Any) -> None:
    clouds = guess()
    points, labels = clouds.points.double(), clouds.labels
    objective = build(pooled_weight=1.0)
    parts = [objective.loss(decoded(points[labels == label], labels[labels == label]), 0) for label in (0, 2)]
    torch.testing.assert_close(objective.loss(decoded(points, labels), 0), torch.stack(parts).mean())


def test_channels_are_drawn_anew_at_every_step(tiny_clouds: PointClouds, configure: Configure, decoded: Any) -> None:
    """The mean over many draws of one channel is the loss over all of them."""
    clouds = guess()
    losses = {}
    for channels in (1, 10_000):
        objective = QuantileMatching(configure(networks=1), channels=channels, pooled_weight=0.0, seed=0)
        objective.prepare(tiny_clouds)
        losses[channels] = [objective.loss(clouds, step).item() for step in range(300 if channels == 1 else 2)]
    assert losses[10_000][0] == pytest.approx(losses[10_000][1], rel=1e-5)
    mean, deviation = np.mean(losses[1]), np.std(losses[1]) / 300**0.5
    assert abs(mean - losses[10_000][0]) < 4 * deviation < mean

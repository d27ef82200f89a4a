"""Attention matching against loops over clouds, and against the paper's norm of maps of equal size."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.datadam import AttentionMatching
from pcdistill.matching.gathering import BankRequest
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


@pytest.fixture
def build(tiny_clouds: PointClouds, configure: Configure) -> Callable[..., Any]:
    def make(quantiles: int, **settings: Any) -> Any:
        made = AttentionMatching(configure(networks=1, quantiles=quantiles), **settings)
        made.prepare(tiny_clouds)
        return made

    return make


def guess(points: int = 10) -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, points, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


def paper_maps(features: torch.Tensor, power: float) -> list[Any]:
    """Sorted downwards, each of Euclidean norm 1."""
    maps = (np.abs(features.double().numpy()) ** power).sum(2)
    return [np.sort(map)[::-1] / np.linalg.norm(map) for map in maps]


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_full_resolution_is_the_papers_norm(power: float, build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective, clouds = build(64, power=power, pooled_weight=0.0), guess(64)
    network = objective.bank.members[0].network
    expected = 0.0
    for label in (0, 2):
        synthetic, real = (network.point_features(of_class(part, label).points) for part in (clouds, tiny_clouds))
        for one, two in zip(synthetic[:-1], real[:-1], strict=True):
            distance = np.mean(paper_maps(one, power), axis=0) - np.mean(paper_maps(two, power), axis=0)
            expected += float((distance**2).sum())
    assert objective.loss(clouds, 0).item() == pytest.approx(expected, rel=1e-3)


def test_unequal_sizes_are_compared_by_quantiles(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective, clouds = build(6, power=2.0, pooled_weight=0.0), guess(10)
    network = objective.bank.members[0].network

    def profile(points: torch.Tensor, layer: int) -> Any:
        maps = paper_maps(network.point_features(points)[layer], 2.0)
        return np.mean([np.repeat(map, 6).reshape(6, -1).mean(1) * np.sqrt(len(map)) for map in maps], axis=0)

    expected = 0.0
    for label in (0, 2):
        for layer in (0, 1):
            own, real = (profile(of_class(part, label).points, layer) for part in (clouds, tiny_clouds))
            expected += float(((own - real) ** 2).mean())
    assert objective.loss(clouds, 0).item() == pytest.approx(expected, rel=1e-3)


def test_pooled_term_is_that_of_distribution_matching(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    with_term, without = (build(6, pooled_weight=weight) for weight in (0.5, 0.0))
    network = without.bank.members[0].network
    expected = 0.0
    for label in (0, 2):
        own, real = (network(of_class(part, label).points).global_feature.mean(0) for part in (guess(), tiny_clouds))
        expected += 0.5 * (own - real).square().sum().item()
    assert (with_term.loss(guess(), 0) - without.loss(guess(), 0)).item() == pytest.approx(expected, rel=1e-3)


def test_bank_follows_the_power(configure: Configure) -> None:
    assert AttentionMatching(configure(), power=3).bank_config().attention == 3
    assert AttentionMatching(configure(networks=3), power=3).bank_config() == BankRequest.of(
        configure(networks=3), attention=3.0
    )

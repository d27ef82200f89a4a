"""Sorted matching against the released loss written out for one class, and its variants against theirs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.kernels import mmd
from pcdistill.matching.sadm import SortedKernelMatching, SortedMatching
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


@pytest.fixture
def build(tiny_clouds: PointClouds, configure: Configure) -> Callable[..., Any]:
    """Over one network, at full resolution of the 64 real points."""

    def make(kind: Any = SortedMatching, quantiles: int = 64, **settings: Any) -> Any:
        made = kind(configure(networks=1, quantiles=quantiles), **settings)
        made.prepare(tiny_clouds)
        return made

    return make


def guess(points: int = 64) -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, points, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


def sides(objective: Any, label: int, real: PointClouds) -> list[Tensor]:
    """Features `(clouds, points, channels)` before ReLU and pooling of synthetic and real clouds."""
    network = objective.bank.members[0].network
    return [network.point_features(of_class(clouds, label).points)[-1] for clouds in (guess(), real)]


def mmd_of_max(one: Tensor, two: Tensor) -> float:
    return 5 * mmd(one.amax(1).relu(), two.amax(1).relu()).item()


def flat(features: Tensor) -> Tensor:
    return features.sort(dim=1, descending=True).values.flatten(1)


def test_default_is_the_released_loss(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective = build()
    expected = 0.0
    for label, count in ((0, 3), (2, 2)):
        one, two = sides(objective, label, tiny_clouds)
        a, b = (side.sort(dim=1, descending=True).values.mean(0) for side in (one, two))
        expected += count * (0.2 * (a - b).square().sum(1).mean().item() + 0.001 * mmd_of_max(one, two))
    assert objective.loss(guess(), 0).item() == pytest.approx(expected, rel=1e-4)
    assert objective.bank.members[0].maps.numel() == 0


def test_paper_compares_whole_maps_by_kernels(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective = build(SortedKernelMatching)
    expected = 0.0
    for label, count in ((0, 3), (2, 2)):
        one, two = sides(objective, label, tiny_clouds)
        expected += count * (0.002 * 5 * mmd(flat(one), flat(two)).item() + 0.001 * mmd_of_max(one, two))
    assert objective.loss(guess(), 0).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_absolute_values_are_sorted(kernel: str, build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective = build(kernel=kernel, abs=True, map_weight=1.0, pooled_weight=0.0)
    expected = 0.0
    for label, count in ((0, 3), (2, 2)):
        one, two = (flat(side.abs()) for side in sides(objective, label, tiny_clouds))
        linear = (one.mean(0) - two.mean(0)).square().sum().item() / 64
        expected += count * (linear if kernel == "linear" else 5 * mmd(one, two).item())
    assert objective.loss(guess(), 0).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", [SortedMatching, SortedKernelMatching])
def test_some_channels_stand_for_all(kind: Any, build: Callable[..., Any]) -> None:
    """The mean over draws of half the channels is about the loss over all of them; draws differ."""
    half, whole = (build(kind, quantiles=4, channels=channels, pooled_weight=0.0) for channels in (128, None))
    losses = torch.stack([half.loss(guess(), step) for step in range(20)])
    assert losses.mean().item() == pytest.approx(whole.loss(guess(), 0).item(), rel=0.1)
    assert losses.std() > 0


def test_settings_of_both() -> None:
    assert SortedMatching().options.kernel == "linear"
    assert SortedKernelMatching().options.kernel == "rbf"
    for kind in (SortedMatching, SortedKernelMatching):
        assert kind().options.bank.trained_steps == (0, 0)
        assert kind(kernel="rbf", map_samples=3).bank_config().map_samples == 3
        assert kind(kernel="linear").bank_config().map_samples == 0

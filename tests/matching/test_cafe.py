"""Feature alignment against means over all points of all real clouds."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.matching import BankConfig
from pcdistill.matching.cafe import FeatureAlignment, discrimination
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


@pytest.fixture
def build(tiny_clouds: PointClouds, configure: Configure) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        made = FeatureAlignment(configure(networks=1, quantiles=3), **settings)
        made.prepare(tiny_clouds)
        return made

    return make


def guess() -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, 10, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


def test_layers_equal_means_over_points_and_clouds(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective = build(discrimination=0.0)
    network = objective.bank.members[0].network
    expected = 0.0
    for label in (0, 2):
        synthetic, real = (of_class(part, label).points for part in (guess(), tiny_clouds))
        for one, two in zip(network.point_features(synthetic), network.point_features(real), strict=True):
            expected += float(np.mean((one.numpy().mean((0, 1)) - two.numpy().mean((0, 1))) ** 2))
        one, two = network(synthetic).global_feature, network(real).global_feature
        expected += float(np.mean((one.numpy().mean(0) - two.numpy().mean(0)) ** 2))
    assert objective.loss(guess(), 0).item() == pytest.approx(expected, rel=1e-3)


def test_discrimination_equals_a_loop(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    network = build().bank.members[0].network
    centres = {label: network(of_class(guess(), label).points).global_feature.mean(0) for label in (0, 2)}
    errors = []
    for label, other in ((0, 2), (2, 0)):
        for real in network(of_class(tiny_clouds, label).points).global_feature.double():
            errors.append(np.logaddexp(0, (real @ (centres[other] - centres[label]).double()).item()))
    found = build(discrimination=0.3).loss(guess(), 0) - build(discrimination=0.0).loss(guess(), 0)
    assert found.item() == pytest.approx(0.3 * np.mean(errors), rel=1e-3)


def test_discrimination_wants_centres_apart() -> None:
    real = torch.eye(3)[:, None].expand(3, 4, 3)
    assert discrimination(torch.ones(3, 3), real).item() == pytest.approx(np.log(3))
    assert discrimination(10 * torch.eye(3), real).item() < 1e-3


def test_bank_without_profiles_is_refused(configure: Configure) -> None:
    with pytest.raises(InputError, match=r"^objective cafe: bank.quantiles = 0, expected at least 1$"):
        FeatureAlignment(configure(quantiles=0))

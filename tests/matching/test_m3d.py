"""M3D against the discrepancy of one class after another."""

from collections.abc import Callable

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.kernels import mmd
from pcdistill.matching.m3d import MeanDiscrepancy
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


@pytest.fixture
def objective(tiny_clouds: PointClouds, configure: Configure) -> MeanDiscrepancy:
    made = MeanDiscrepancy(configure(networks=1, quantiles=0))
    made.prepare(tiny_clouds)
    return made


def test_loss_is_the_sum_over_classes(objective: MeanDiscrepancy, tiny_clouds: PointClouds) -> None:
    random = torch.Generator().manual_seed(0)
    clouds = PointClouds(torch.rand(5, 10, 3, generator=random) - 0.5, [2, 0, 0, 2, 0], ("ball", "box", "ring"))
    network = objective.bank.members[0].network
    expected = 0.0
    for label in (0, 2):
        synthetic, real = (network(of_class(part, label).points).global_feature for part in (clouds, tiny_clouds))
        expected += mmd(synthetic, real).item()
    assert objective.loss(clouds, 0).item() == pytest.approx(expected, rel=1e-4)


def test_mean_alone_is_not_enough(objective: MeanDiscrepancy, tiny_clouds: PointClouds) -> None:
    """Clouds that are all alike cannot have a class's distribution, those of two thirds of it nearly can."""
    alike = tiny_clouds[[0] * 6 + [8] * 6 + [16] * 6]
    varied = tiny_clouds[[*range(6), *range(8, 14), *range(16, 22)]]
    assert objective.loss(alike, 0) > 5 * objective.loss(varied, 0)

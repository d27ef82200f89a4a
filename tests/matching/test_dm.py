"""Distribution matching against means over the whole real set."""

from collections.abc import Callable

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.dm import DistributionMatching
from pcdistill.training.augment import Augmentation
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


def guess() -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, 10, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


@pytest.fixture
def objective(tiny_clouds: PointClouds, configure: Configure) -> DistributionMatching:
    made = DistributionMatching(configure(networks=1), seed=0)
    made.prepare(tiny_clouds)
    return made


def test_loss_is_the_squared_distance_of_class_means(objective: DistributionMatching, tiny_clouds: PointClouds) -> None:
    network = objective.bank.members[0].network
    expected = 0.0
    for label in (0, 2):
        synthetic = [
            network(guess().points[k : k + 1]).global_feature[0] for k in range(5) if guess().labels[k] == label
        ]
        real = [network(cloud[None]).global_feature[0] for cloud in of_class(tiny_clouds, label).points]
        expected += (torch.stack(synthetic).mean(0) - torch.stack(real).mean(0)).square().sum().item()
    assert objective.loss(guess(), 0).item() == pytest.approx(expected, rel=1e-3)


def test_classes_are_added(objective: DistributionMatching) -> None:
    parts = [objective.loss(of_class(guess(), label), 0) for label in (0, 2)]
    torch.testing.assert_close(objective.loss(guess(), 0), parts[0] + parts[1])


def test_networks_are_random_by_default() -> None:
    assert DistributionMatching().options.bank.trained_steps == (0, 0)


def test_augmentation_is_drawn_anew_at_every_step(tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = DistributionMatching(configure(networks=1), augmentation=Augmentation(stretch=1.5))
    objective.prepare(tiny_clouds)
    losses = [objective.loss(guess(), step).item() for step in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]

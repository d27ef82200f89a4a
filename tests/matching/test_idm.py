"""Improved distribution matching against loops over clouds and classes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.dm import DistributionMatching
from pcdistill.matching.idm import ImprovedDistributionMatching, accuracy
from tests.conftest import of_class

Configure = Callable[..., BankConfig]


def guess() -> PointClouds:
    """3 clouds of class 0 and 2 of class 2."""
    random = torch.Generator().manual_seed(0)
    return PointClouds(torch.rand(5, 10, 3, generator=random) - 0.5, [0, 0, 0, 2, 2], ("ball", "box", "ring"))


@pytest.fixture
def build(tiny_clouds: PointClouds, configure: Configure) -> Callable[..., Any]:
    """Over one network, trained for 5 steps."""

    def make(kind: Any = ImprovedDistributionMatching, **settings: Any) -> Any:
        made = kind(configure(networks=1, trained_steps=(5, 5)), **settings)
        made.prepare(tiny_clouds)
        return made

    return make


def test_terms_equal_loops(build: Callable[..., Any], tiny_clouds: PointClouds) -> None:
    objective, clouds = build(cross_entropy=0.7), guess()
    network = objective.bank.members[0].network
    right = [network(cloud[None]).logits.argmax() == label
             for cloud, label in zip(tiny_clouds.points, tiny_clouds.labels, strict=True)]  # fmt: skip
    share = float(sum(right)) / 24
    assert accuracy(objective.bank.members[0]) == pytest.approx(share)
    assert share > 0
    expected = build(DistributionMatching).loss(clouds, 0).item()
    for label in (0, 2):
        errors = [-network(cloud[None]).logits[0].log_softmax(0)[label] for cloud in of_class(clouds, label).points]
        expected += 0.7 * share * float(sum(errors)) / len(errors)
    assert objective.loss(clouds, 0).item() == pytest.approx(expected, rel=1e-4)


def test_soft_labels_share_the_error(build: Callable[..., Any]) -> None:
    """The cross-entropy is linear in the labels, and labels can be learned through it."""
    objective, clouds = build(), guess()
    labels = torch.nn.functional.one_hot(clouds.labels, 3).float()
    mixed = (0.8 * labels + 0.2 * labels.roll(1, 1)).requires_grad_()

    def of(given: torch.Tensor) -> torch.Tensor:
        return objective.loss(PointClouds(clouds.points, given, clouds.class_names), 0)

    (slope,) = torch.autograd.grad(of(mixed), mixed)
    torch.testing.assert_close(of(mixed) - of(labels), (slope * (mixed - labels)).sum(), rtol=1e-3, atol=1e-4)
    assert slope.any()


def test_networks_are_semi_trained_and_the_bank_is_cheap_by_default() -> None:
    bank = ImprovedDistributionMatching().options.bank
    assert bank.trained_steps == BankConfig().trained_steps
    assert bank.quantiles == 0

"""Objectives on points with parts: their formulas against naive twins, and runs that move points and keep labels."""

from typing import Any

import pytest
import torch
from torch import nn

from pcdistill.clouds import PointClouds
from pcdistill.condense import distill
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from pcdistill.matching import objectives
from pcdistill.matching.gm import head_gradients
from pcdistill.matching.krr import weighted_ridge_predictions
from pcdistill.matching.segments import PartBank, PartMember
from pcdistill.models import build

SEEING = [name for name in objectives if objectives[name].sees_parts]
SMALL = {"bank": {"networks": 2, "trained_steps": (2, 4), "trained_clouds": 3, "pooled_samples": 4}}
UNITS = torch.tensor([[0, 0], [0, 2], [2, 1], [2, 2], [2, 3]])


@pytest.fixture(scope="module")
def real() -> PointClouds:
    return shapes.generate("train", 4, 96, parts=True)


def test_points_find_their_units() -> None:
    member = PartMember(build("pointnet-tiny-seg", 3, 0, 4), UNITS, torch.zeros(5, 1, 1), torch.zeros(5, 1))
    found = member.unit_of(torch.tensor([0, 2]), torch.tensor([[0, 2, 2], [3, 1, 2]]))
    assert found.tolist() == [[0, 1, 1], [4, 2, 3]]


def test_ridge_of_many_weighted_points_is_that_of_repeated_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    features, targets = (torch.randn(6, size, generator=generator, dtype=torch.float64) for size in (4, 2))
    queries, times = torch.randn(3, 4, generator=generator, dtype=torch.float64), torch.tensor([1, 3, 2, 1, 1, 2])
    found = weighted_ridge_predictions(features, targets, times.double(), queries, 0.3)
    rows, values = features.repeat_interleave(times, 0), targets.repeat_interleave(times, 0)
    penalty = 0.3 * (rows.T @ rows).diagonal().mean()
    stacked = torch.cat([rows, penalty.sqrt() * torch.eye(4, dtype=torch.float64)])
    solved = torch.linalg.lstsq(stacked, torch.cat([values, torch.zeros(4, 2, dtype=torch.float64)])).solution
    torch.testing.assert_close(found, queries @ solved)


def test_gradients_of_a_classifier_of_points_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(1)
    head, place = nn.Linear(6, 4), torch.tensor([0, 0, 0, 1, 2, 3, 3, 4])
    features = torch.randn(8, 6, generator=generator)
    found = head_gradients(head, features, place, UNITS)
    for number, (label, of_class) in enumerate(((0, [0, 1]), (2, [2, 3, 4]))):
        losses = [
            nn.functional.cross_entropy(
                head(features[place == unit]), UNITS[unit, 1].expand(int((place == unit).sum()))
            )
            for unit in of_class
        ]
        (gradient,) = torch.autograd.grad(torch.stack(losses).mean(), [head.weight])
        torch.testing.assert_close(found[number], gradient, msg=f"class {label}")


def test_banks_know_the_points_of_every_part_of_every_class(real: PointClouds) -> None:
    config = objectives["krr"](**SMALL).options.bank
    bank = PartBank.of(real, config)
    member = bank.members[0]
    classes, parts = real.labels[:, None].expand_as(real.parts), real.parts
    pairs = torch.stack([classes, parts], 2).flatten(0, 1).unique(dim=0)
    assert torch.equal(member.units, pairs)
    features = member.features(real.points, real.labels)
    unit = member.unit_of(real.labels, real.parts)
    for number in (0, len(pairs) // 2, len(pairs) - 1):
        own = features[unit == number]
        torch.testing.assert_close(member.means[number], own.mean(0), atol=1e-4, rtol=1e-4)
        assert (torch.cdist(member.samples[number], own).amin(1) < 1e-2).all()
    assert PartBank.is_cached(real, config)
    again, first = PartBank.of(real, config).members[1], bank.members[1]
    assert torch.equal(again.samples, first.samples)
    two = real.points[:2], real.labels[:2]
    assert torch.equal(again.features(*two), first.features(*two))


@pytest.mark.parametrize("name", SEEING)
def test_objectives_fall_and_points_keep_their_parts(name: str, real: PointClouds) -> None:
    objective = objectives[name](**SMALL)
    objective.prepare(real)
    some = real[::2].at_points(slice(24))
    points = some.points.clone().requires_grad_()
    loss = objective.loss(some.with_points(points), 3)
    (gradient,) = torch.autograd.grad(loss, [points])
    assert gradient.abs().sum((1, 2)).min() > 0
    assert objective.loss(some.with_points(points - 1e-3 * gradient / gradient.norm()), 3) < loss
    assert torch.equal(objective.loss(some, 3), loss.detach())  # what it draws follows from the step


def test_a_set_is_distilled_with_its_parts(real: PointClouds) -> None:
    asked: dict[str, Any] = {"clouds_per_class": 1, "points": 24, "storage": "points", "options": SMALL}
    made = distill(real, steps=3, **asked)
    first = distill(real, steps=0, **asked)
    assert torch.equal(made.clouds.parts, first.clouds.parts)
    assert not torch.equal(made.clouds.points, first.clouds.points)
    assert made.metadata.protocol["network"] == "pointnet-seg"
    assert len(made.losses) == 3


def test_what_does_not_know_parts_says_so(real: PointClouds) -> None:
    for name in objectives:
        if name not in SEEING:
            with pytest.raises(
                InputError, match=rf"objective: '{name}' of points with parts, expected one of dm, gm, krr"
            ):
                distill(real, objective=name, clouds_per_class=1, points=16)

"""Networks trained at once are networks trained one after the other, up to rounding."""

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.models import Dropout, Network, Output, build, networks, seeded
from pcdistill.models.pointnet import PointNet
from pcdistill.training import loop as training
from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import stack_size, train, train_networks
from pcdistill.training.recipe import Recipe
from pcdistill.training.stack import Stack

EVERYTHING = Augmentation(scale=1.2, stretch=1.2, shift=0.1, jitter=0.01, tilt=8, rotate="z", mirror=True, drop=0.3)
STACKABLE = [name for name in networks if build(name, 3, 0).stackable]


def doubled(clouds: PointClouds, points: int) -> PointClouds:
    """In float64, which the constructor would make float32: there rounding cannot be taken for a difference."""
    made = copy.copy(clouds)
    object.__setattr__(made, "points", clouds.points[:, :points].double())
    return made


def recipe(**changes: Any) -> Recipe:
    settings: dict[str, Any] = {"name": "brief", "steps": 4, "batch": 6, "lr": 0.01, "augmentation": EVERYTHING}
    return Recipe(**{**settings, **changes})


def one_by_one(fresh: Sequence[Network], clouds: PointClouds, how: Recipe) -> list[list[float]]:
    losses = [train(network, clouds, how, seed) for seed, network in enumerate(fresh)]
    return [list(step) for step in zip(*losses, strict=True)]


def assert_same(ones: Sequence[Network], others: Sequence[Network]) -> None:
    for one, other in zip(ones, others, strict=True):
        assert not other.training
        torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", STACKABLE)
def test_every_network_that_says_so_can_be_stacked(name: str, tiny_clouds: PointClouds) -> None:
    clouds, how = doubled(tiny_clouds, 24), recipe(label_smoothing=0.1)
    fresh = [[build(name, 3, seed).double() for seed in range(3)] for _ in range(2)]
    expected = one_by_one(fresh[0], clouds, how)
    found = training._fit(fresh[1], clouds, how, range(3), None)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
    assert found[0][0] != found[0][1]
    assert_same(*fresh)


@pytest.mark.parametrize(
    "changes",
    [{"ema": 0.9}, {"optimizer": "sgd", "schedule": "halfway"}, {"fill": False, "batch": 10}, {"normalise": True},
     {"balanced": True}, {"points": 9}],
)  # fmt: skip
def test_recipes(changes: dict[str, Any], tiny_clouds: PointClouds) -> None:
    clouds, how = doubled(tiny_clouds, 16), recipe(**changes)

    def made() -> list[Network]:
        with seeded(0):
            return [PointNet(3, widths=(8, 16), head=(8,), dropout=0.4).double() for _ in range(2)]

    ones, others = made(), made()
    expected = one_by_one(ones, clouds, how)
    torch.testing.assert_close(torch.tensor(training._fit(others, clouds, how, range(2), None)), torch.tensor(expected))
    assert_same(ones, others)


def test_soft_labels(tiny_clouds: PointClouds) -> None:
    soft = torch.rand(24, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    clouds = doubled(PointClouds(tiny_clouds.points, soft, tiny_clouds.class_names), 16)
    fresh = [[build("pointnet-small", 3, seed).double() for seed in range(2)] for _ in range(2)]
    expected = one_by_one(fresh[0], clouds, recipe())
    found = training._fit(fresh[1], clouds, recipe(), range(2), None)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))


def test_bf16_in_a_stack_finds_maxima_as_alone(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcdistill.models.pointnet.bf16_available", lambda: True)
    how = recipe(bf16=True, steps=1)
    fresh = [[build("pointnet-small", 3, seed) for seed in range(2)] for _ in range(2)]
    expected = one_by_one(fresh[0], tiny_clouds, how)
    torch.testing.assert_close(
        torch.tensor(training._fit(fresh[1], tiny_clouds, how, range(2), None)), torch.tensor(expected)
    )
    assert fresh[1][0].bf16


def test_a_loss_that_is_not_finite_is_told_of_any_network(tiny_clouds: PointClouds) -> None:
    fresh = [build("pointnet-small", 3, seed) for seed in range(2)]
    with torch.no_grad():
        fresh[1].get_parameter("head.2.bias").fill_(torch.nan)
    with pytest.raises(InputError, match="training, step 1: loss nan"):
        training._fit(fresh, tiny_clouds, recipe(), range(2), None)


def test_as_many_are_trained_at_once_as_fit(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build("pointnet-small", 3, 0)
    assert stack_size(network, tiny_clouds, recipe(), 7) == 7
    weights = sum(value.nbytes for value in network.state_dict().values())
    monkeypatch.setattr(training, "memory", lambda: 4 * 12 * weights)
    few = stack_size(network, tiny_clouds, recipe(batch=2), 7)
    assert 1 <= few < 7
    assert stack_size(network, tiny_clouds, recipe(batch=24), 7) <= few  # larger batches keep more
    monkeypatch.setattr(training, "memory", lambda: 1)
    assert stack_size(network, tiny_clouds, recipe(), 7) == 1


def test_seeds_in_parts_are_all_trained(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "stack_size", lambda *_: 2)
    monkeypatch.setattr(training, "build", lambda *given: build(*given).double())
    told: list[tuple[int, str]] = []
    clouds = doubled(tiny_clouds, 16)
    found = train_networks("pointnet-small", clouds, recipe(), [5, 6, 7], lambda *words: told.append(words))
    alone = [build("pointnet-small", 3, seed).double() for seed in (5, 6, 7)]
    for seed, network in zip([5, 6, 7], alone, strict=True):
        train(network, clouds, recipe(), seed)
    assert_same(alone, found)
    assert [done for done, _ in told] == [2, 4, 6, 8, 9, 10, 11, 12]
    assert told[0][1].startswith("network 1 to 2 of 3, loss ")
    assert told[-1][1].startswith("network 3 of 3, loss ")


class Moody(Network):
    """Draws from the global generator, which a stack could not give to each of its networks."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3))

    def forward(self, points: Tensor) -> Output:
        pooled = points.mean(1)
        return Output(self.head(pooled), pooled)


def test_networks_that_cannot_be_stacked_are_trained_one_by_one(
    tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(networks._entries, "moody", lambda classes: Moody())
    found = train_networks("moody", tiny_clouds, recipe(), [0, 1])
    for seed, network in enumerate(found):
        alone = build("moody", 3, seed)
        train(alone, tiny_clouds, recipe(), seed)
        assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), network.parameters(), strict=True))


def test_dropout_masks() -> None:
    dropout = Dropout(0.25, 1000)
    mask = dropout.draw(50, torch.Generator().manual_seed(0))
    assert mask.unique().tolist() == pytest.approx([0, 4 / 3])
    assert mask.mean().item() == pytest.approx(1, abs=0.01)
    features = torch.ones(50, 1000)
    assert dropout.eval()(features) is features
    assert torch.equal(torch.func.functional_call(dropout.train(), {"mask": mask}, (features,)), mask)
    with seeded(0):
        assert dropout(features).mean().item() == pytest.approx(1, abs=0.01)  # none drawn: a mask of its own


def test_a_stack_of_one_is_the_network() -> None:
    network = build("pointnet-small", 3, 0)
    stack = Stack([network])
    assert all(one is other for one, other in zip(stack.parameters(), network.parameters(), strict=True))
    points = torch.randn(1, 4, 10, 3)
    assert torch.equal(stack.logits(points, [torch.Generator()]), network(points[0]).logits[None])


@pytest.mark.parametrize("most", [1, 2, 5])
def test_where_memory_is_short_fewer_are_trained_at_once(
    most: int, tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = recipe(steps=2, optimizer="sgd", bf16=False)
    expected = train_networks("pointnet-nano", tiny_clouds, how, range(5))
    fit, sizes, notes = training._fit, list[int](), list[str]()

    def short(networks: Sequence[Network], *arguments: Any) -> Any:
        sizes.append(len(networks))
        if len(networks) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fit(networks, *arguments)

    monkeypatch.setattr(training, "_fit", short)
    found = train_networks("pointnet-nano", tiny_clouds, how, range(5), lambda step, note: notes.append(note))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)
    assert sizes == {1: [5, 2, 1, 1, 1, 1, 1], 2: [5, 2, 2, 1], 5: [5]}[most]
    assert notes[-1].endswith(f"(memory is short: {most} at once)") == (most < 5)


def test_memory_that_is_short_for_one_is_one_line(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*arguments: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "_fit", short)
    with pytest.raises(InputError, match=r"^training: memory of cpu is short for 6 clouds, expected"):
        train_networks("pointnet-nano", tiny_clouds, recipe(), range(2))

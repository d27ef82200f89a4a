"""Gradients of groups of clouds against one `torch.autograd.grad` each, and distances between them against NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pcdistill.matching.gradients import (
    Distance,
    Groups,
    Weights,
    gradient_distance,
    group_gradients,
    mean_gradient,
    one_hot,
    parameters,
)
from pcdistill.models import Network, build, seeded
from pcdistill.models.pointnet import PointNet

LABELS = torch.tensor([2, 0, 2, 1, 2, 0])  # groups of 2, 1 and 3


@pytest.fixture(params=["layer", "instance", "batch"])
def network(request: pytest.FixtureRequest) -> Network:
    with seeded(0):
        made = PointNet(3, widths=(8, 16), head=(8,), tnet=False, norm=request.param, dropout=0.0)
    return made.double().eval()


def clouds(seed: int = 0, count: int = 6, points: int = 12) -> Tensor:
    return torch.randn(count, points, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) / 2


def soft(seed: int = 0) -> Tensor:
    return torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).softmax(1)


def naive(network: Network, points: Tensor, targets: Tensor) -> Weights:
    """Gradient of torch's own mean cross-entropy with respect to the module's own weights."""
    weights = dict(network.named_parameters())
    loss = nn.functional.cross_entropy(network(points).logits, targets)
    return dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("joint", [False, True])
def test_groups_are_one_gradient_per_class(network: Network, kind: str, joint: bool) -> None:
    targets = one_hot(LABELS if kind == "hard" else soft(), 3, clouds())
    found = group_gradients(network, parameters(network), clouds(), targets, Groups.of(LABELS, joint))
    parts = [torch.arange(6)] if joint else [(label == LABELS).nonzero()[:, 0] for label in range(3)]
    for group, own in enumerate(parts):
        expected = naive(network, clouds()[own], LABELS[own] if kind == "hard" else targets[own])
        torch.testing.assert_close({name: value[group] for name, value in found.items()}, expected)


def test_groups_are_those_of_the_classes_that_occur() -> None:
    groups = Groups.of(torch.tensor([7, 3, 7]))
    assert groups.places[:, 0].tolist() == [1, 0]
    torch.testing.assert_close(groups.weight, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    assert groups.places[1].tolist() == [0, 2]


def test_mean_gradient_is_that_of_all_clouds(network: Network) -> None:
    values = {name: value + 0.1 for name, value in parameters(network).items()}
    found = mean_gradient(network, values, clouds(), soft())
    assert not any(value.requires_grad for value in found.values())
    network.load_state_dict(values, strict=False)
    torch.testing.assert_close(found, naive(network, clouds(), soft()))


def test_mean_gradient_with_a_graph_is_differentiable_in_all_its_inputs(network: Network) -> None:
    names, values = zip(*parameters(network).items(), strict=True)
    inputs = [clouds(1, 2, 4), soft()[:2], *(value.clone() for value in values)]

    def slope(points: Tensor, targets: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        made = mean_gradient(network, dict(zip(names, weights, strict=True)), points, targets, create_graph=True)
        return tuple(made.values())

    leaves = [value.requires_grad_() for value in inputs]
    assert torch.autograd.gradcheck(slope, leaves, fast_mode=True)


def test_critical_points_give_the_same_gradients(network: Network) -> None:
    points, many = clouds(points=60), Groups.of(LABELS)
    whole, few = (
        group_gradients(network, parameters(network), part, soft(), many) for part in (points, network.critical(points))
    )
    torch.testing.assert_close(few, whole)


# Distances


def numbers(seed: int, zero_row: bool = False) -> Weights:
    """Gradients of two groups: a matrix, a second one, and a bias."""
    random = torch.Generator().manual_seed(seed)
    shapes = {"first": (2, 4, 3), "second": (2, 2, 4), "bias": (2, 4)}
    made = {name: torch.randn(shape, dtype=torch.float64, generator=random) for name, shape in shapes.items()}
    if zero_row:
        made["first"][0, 1] = 0
    return made


def expected_distance(ours: Weights, theirs: Weights, distance: Distance) -> float:
    total = 0.0
    for group in range(2):
        one, two = ({name: value[group].numpy() for name, value in part.items()} for part in (ours, theirs))
        if distance == "layer":
            for name in ("first", "second"):
                rows = [1 - cosine(a, b) for a, b in zip(one[name], two[name], strict=True)]
                total += sum(rows) / len(rows) / 2
        else:
            a, b = (np.concatenate([value.ravel() for value in part.values()]) for part in (one, two))
            total += (1 - cosine(a, b) if distance == "cosine" else ((a - b) ** 2).sum() / (b**2).sum()) / 2
    return total


def cosine(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    if not a.any() or not b.any():
        return float(not a.any() and not b.any())
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


DISTANCES: list[Distance] = ["layer", "cosine", "mse"]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("zeros", [(False, False), (True, False), (False, True), (True, True)])
def test_distances_are_those_of_numpy(distance: Distance, zeros: tuple[bool, bool]) -> None:
    ours, theirs = numbers(0, zeros[0]), numbers(1, zeros[1])
    found = gradient_distance(ours, theirs, distance)
    assert found.item() == pytest.approx(expected_distance(ours, theirs, distance), rel=1e-8)
    assert gradient_distance(ours, ours, distance).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_of_zeros_are_smooth(distance: Distance) -> None:
    """Units that no cloud excites have gradients of zero; those of the loss are then finite."""
    leaves = {name: value.requires_grad_() for name, value in numbers(0, zero_row=True).items()}
    found = torch.autograd.grad(gradient_distance(leaves, numbers(1, True), distance), list(leaves.values()),
                                materialize_grads=True)  # fmt: skip
    assert all(value.isfinite().all() for value in found)


def test_lengths_count_for_mse_only() -> None:
    ours, theirs = numbers(0), numbers(1)
    longer = {name: 3 * value for name, value in ours.items()}
    for distance in DISTANCES:
        same = gradient_distance(longer, theirs, distance).isclose(gradient_distance(ours, theirs, distance))
        assert bool(same) == (distance != "mse")


def test_biases_count_for_whole_gradients_only() -> None:
    ours, theirs = numbers(0), numbers(1)
    changed = {**ours, "bias": -ours["bias"]}
    for distance in DISTANCES:
        same = gradient_distance(changed, theirs, distance).isclose(gradient_distance(ours, theirs, distance))
        assert bool(same) == (distance == "layer")


@pytest.mark.parametrize("name", ["pointnet-small-layernorm", "pointnet-small"])
@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_is_differentiable_in_points_and_targets(name: str, distance: Distance) -> None:
    network = build(name, 3, 0).double().eval()
    groups = Groups.of(LABELS)
    real = group_gradients(network, parameters(network), clouds(5), one_hot(LABELS, 3, clouds()), groups)

    def loss(points: Tensor, targets: Tensor) -> Tensor:
        found = group_gradients(network, parameters(network), network.critical(points), targets, groups)
        return gradient_distance(found, real, distance)

    assert torch.autograd.gradcheck(loss, (clouds(1).requires_grad_(), soft().requires_grad_()), fast_mode=True)

"""Groups of neighbours as rows, and the layers over them, against loops over groups."""

import pytest
import torch
from torch import Tensor, nn

from pcdistill.geometry import ball_query, farthest_point_sample
from pcdistill.models import seeded
from pcdistill.models.layers.grouping import (
    Groups,
    centre_counts,
    centres_first,
    edge_layer,
    group_max,
    groups_of,
    layer_max,
    neighbour_sums,
    residual_layer,
)
from pcdistill.models.layers.shared import SharedLayer

CLOUDS, POINTS, CENTRES = 3, 14, 6


def values_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def groups() -> Groups:
    points = values_of(CLOUDS, POINTS, 3)
    made = groups_of(ball_query(points[:, :CENTRES], points, 1.2, 7), POINTS)
    assert 1 < len(made.sizes) <= 7
    assert made.sizes[-1] < made.sizes[0] == CLOUDS * CENTRES
    return made


def members(groups: Groups) -> list[list[int]]:
    """Rows of every group, in the order of clouds and centres."""
    rows: list[list[int]] = [[] for _ in groups.order]
    start = 0
    for size in groups.sizes:
        for place in range(size):
            rows[groups.order[place]].append(start + place)
        start += size
    return rows


def test_groups_hold_the_points_within_the_ball_once(groups: Groups) -> None:
    points = values_of(CLOUDS, POINTS, 3)
    for group, rows in enumerate(members(groups)):
        cloud, centre = divmod(group, CENTRES)
        distances = (points[cloud] - points[cloud, centre]).norm(dim=1)
        nearest = distances.argsort()[:7]
        expected = nearest[distances[nearest] <= 1.2] + cloud * POINTS
        assert groups.neighbours[rows].tolist() == expected.tolist()


@pytest.mark.parametrize(("points", "strides", "expected"), [
    (1024, (2, 4), [512, 128]), (4096, (2, 4), [512, 128]), (128, (2, 2, 2, 2), [64, 32, 16, 8]),
    (5, (2, 2, 2, 2), [2, 1, 1, 1]), (1, (2, 4), [1, 1]),
])  # fmt: skip
def test_numbers_of_centres(points: int, strides: tuple[int, ...], expected: list[int]) -> None:
    assert centre_counts(points, strides) == expected


def test_first_centres_are_the_sample_of_the_sample() -> None:
    points = values_of(CLOUDS, 40, 3)
    _, centres = centres_first(points, 20)
    first = torch.zeros(CLOUDS, dtype=torch.int64)
    assert torch.equal(farthest_point_sample(centres, 5, first), torch.arange(5).expand(CLOUDS, 5))


def norm_layer(inputs: int, outputs: int, training: bool) -> SharedLayer:
    with seeded(0):
        layer = SharedLayer(inputs, outputs, "batch").double()
        for value in (layer.norm.scale, layer.norm.bias, layer.norm.running_mean):
            nn.init.normal_(value)
        nn.init.uniform_(layer.norm.running_var, 0.2, 3)
    return layer.train(training)


@pytest.mark.parametrize("training", [False, True])
def test_edge_layer_is_a_layer_on_differences(groups: Groups, training: bool) -> None:
    """A linear layer on [neighbour - centre, neighbour's features], and torch's batch norm over all pairs."""
    points, features = values_of(CLOUDS, POINTS, 3) + 5, values_of(CLOUDS, POINTS, 4, seed=1)
    leaves = [points.requires_grad_(), features.requires_grad_()]
    layer, twin = norm_layer(7, 5, training), norm_layer(7, 5, training)
    weight, centres = layer.linear.weight, points[:, :CENTRES]
    inputs = torch.cat([points, features], -1)
    found = edge_layer(layer.norm, inputs, weight, -centres @ weight[:, :3].T, groups)
    owners = torch.empty(len(found), dtype=torch.int64)
    for group, rows in enumerate(members(groups)):
        owners[rows] = group
    flat = inputs.flatten(0, 1)[groups.neighbours]
    relative = flat[:, :3] - centres.flatten(0, 1)[owners]
    expected = twin(torch.cat([relative, flat[:, 3:]], -1))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(dict(layer.named_buffers()), dict(twin.named_buffers()))
    probe = values_of(*found.shape, seed=2)
    one = torch.autograd.grad((found * probe).sum(), [*leaves, *layer.parameters()], retain_graph=True)
    two = torch.autograd.grad((expected * probe).sum(), [*leaves, *twin.parameters()])
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("mode", ["training", "evaluation", "prediction"])
def test_maxima_of_groups(groups: Groups, mode: str) -> None:
    values = values_of(len(groups.neighbours), 4)
    layer, twin = norm_layer(4, 6, mode == "training"), norm_layer(4, 6, mode == "training")
    with torch.set_grad_enabled(mode != "prediction"):
        plain, pooled = group_max(values, groups, mode == "training"), layer_max(layer, values, groups)
        normed = twin.normed(values)
    plain, pooled = groups.restore(plain, CLOUDS), groups.restore(pooled, CLOUDS)
    assert plain.shape == (CLOUDS, CENTRES, 4)
    for group, rows in enumerate(members(groups)):
        torch.testing.assert_close(plain.flatten(0, 1)[group], values[rows].amax(0))
        torch.testing.assert_close(pooled.flatten(0, 1)[group], normed[rows].amax(0))
    torch.testing.assert_close(dict(layer.named_buffers()), dict(twin.named_buffers()))


@pytest.mark.parametrize("training", [False, True])
def test_sums_over_neighbours(groups: Groups, training: bool) -> None:
    values = values_of(CLOUDS, POINTS, 4)
    found = neighbour_sums(values, groups, training)
    for group, rows in enumerate(members(groups)):
        torch.testing.assert_close(found[group], values.flatten(0, 1)[groups.neighbours[rows]].sum(0))


@pytest.mark.parametrize("training", [False, True])
def test_residual_layer_adds_before_the_relu(training: bool) -> None:
    layer, twin = norm_layer(4, 6, training), norm_layer(4, 6, training)
    values, residual = values_of(2, 9, 4), values_of(2, 9, 6, seed=1)
    torch.testing.assert_close(residual_layer(layer, values, residual), (twin.normed(values) + residual).relu())
    torch.testing.assert_close(dict(layer.named_buffers()), dict(twin.named_buffers()))

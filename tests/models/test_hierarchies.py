"""PointNet++, PointNeXt and PointMLP against twins that follow the papers cloud by cloud, group by group."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdistill.models import build, seeded

NAMES = ("pointnet2", "pointnet2-msg-half", "pointnext-s", "pointmlp-elite")
Twin = Callable[[Any, Tensor], Tensor]


def sampled(points: Tensor, count: int) -> Tensor:
    """Farthest point sampling of one cloud `(N, 3)`, from the point farthest from the mean."""
    chosen = [int((points - points.mean(0)).norm(dim=1).argmax())]
    while len(chosen) < count:
        chosen.append(int(torch.cdist(points, points[chosen]).amin(1).argmax()))
    return torch.tensor(chosen)


def nearest(points: Tensor, centre: Tensor, k: int, radius: float = float("inf")) -> Tensor:
    distances = (points - centre).norm(dim=1)
    order = distances.argsort()[:k]
    return order[distances[order] <= radius]


def normed(layer: Any, rows: Tensor) -> Tensor:
    norm = layer.norm
    return nn.functional.batch_norm(
        rows @ layer.linear.weight.T, norm.running_mean.clone(), norm.running_var.clone(), norm.scale, norm.bias,
        norm.training, 0.1, norm.eps,
    )  # fmt: skip


def through(layers: Any, rows: Tensor) -> Tensor:
    """All layers, the last one without its ReLU."""
    for layer in layers[:-1]:
        rows = normed(layer, rows).relu()
    return normed(layers[-1], rows)


def abstracted(module: Any, points: Tensor, features: Tensor, centres: Tensor, factor: float) -> Tensor:
    radius = factor * module.radius
    length = radius if module.unit else 1.0
    pairs = [
        (cloud, centre, int(point))
        for cloud in range(len(points))
        for centre in range(centres.shape[1])
        for point in nearest(points[cloud], centres[cloud, centre], module.k, radius)
    ]
    rows = [torch.cat([(points[b, j] - centres[b, i]) / length, features[b, j]]) for b, i, j in pairs]
    return pooled(through(module.layers, torch.stack(rows)), pairs, centres.shape[:2])


def pooled(rows: Tensor, pairs: list[tuple[int, int, int]], shape: tuple[int, ...]) -> Tensor:
    owners = torch.tensor([b * shape[1] + i for b, i, _ in pairs])
    return torch.stack([rows[owners == g].amax(0) for g in range(shape[0] * shape[1])]).view(*shape, -1)


def end(network: Any, centres: Tensor, features: Tensor) -> Tensor:
    rows = torch.cat([centres, features], -1)
    return through(network.trunk.layers, rows.flatten(0, 1)).view(*rows.shape[:2], -1).amax(1).relu()


def pointnet2(network: Any, points: Tensor) -> Tensor:
    clouds, size = points.shape[:2]
    index = torch.stack([sampled(cloud, size // 2) for cloud in points])
    everything = torch.stack([cloud[at] for cloud, at in zip(points, index, strict=True)])
    features = points.new_zeros(clouds, size, 0)
    for balls, count in zip(network.balls, (size // 2, size // 8), strict=True):
        centres = everything[:, :count]
        features = torch.cat(
            [abstracted(ball, points, features, centres, (1024 / size) ** 0.5) for ball in balls], -1
        ).relu()
        points = centres
    return end(network, points, features)


def pointnext(network: Any, points: Tensor) -> Tensor:
    index = torch.stack([sampled(cloud, points.shape[1] // 2) for cloud in points])
    features, factor = points @ network.stem.weight.T + network.stem.bias, (1024 / points.shape[1]) ** 0.5
    for number, stage in enumerate(network.steps):
        at = index if number == 0 else torch.arange(points.shape[1] // 2).expand(len(points), -1)
        centres = torch.stack([cloud[i] for cloud, i in zip(points, at, strict=True)])
        own = torch.stack([cloud[i] for cloud, i in zip(features, at, strict=True)])
        skip = own @ stage.skip.weight.T + stage.skip.bias
        features = (abstracted(stage.abstraction, points, features, centres, factor) + skip).relu()
        points = centres
    return end(network, points, features)


def pointmlp(network: Any, points: Tensor) -> Tensor:
    index = torch.stack([sampled(cloud, points.shape[1] // 2) for cloud in points])
    features = through([network.embedding], points.flatten(0, 1)).relu().view(*points.shape[:2], -1)

    def blocks(of: Any, rows: Tensor) -> Tensor:
        for block in of:
            rows = (normed(block.wide, normed(block.narrow, rows).relu()) + rows).relu()
        return rows

    for number, stage in enumerate(network.stages):
        size = points.shape[1]
        at = index if number == 0 else torch.arange(size // 2).expand(len(points), -1)
        centres = torch.stack([cloud[i] for cloud, i in zip(points, at, strict=True)])
        own = torch.stack([cloud[i] for cloud, i in zip(features, at, strict=True)])
        rows, pairs = [], []
        for b in range(len(points)):
            mine = [(b, i, int(j)) for i in range(size // 2) for j in nearest(points[b], centres[b, i], 24)]
            differences = torch.stack([features[b, j] - own[b, i] for _, i, j in mine])
            # The geometric affine module: differences over their root mean square, times alpha.
            relative = stage.scale * differences / differences.square().mean().sqrt()
            rows.append(torch.cat([relative, torch.stack([own[b, i] for _, i, _ in mine])], -1))
            pairs += mine
        found = pooled(blocks(stage.before, through([stage.transfer], torch.cat(rows)).relu()), pairs, own.shape[:2])
        features = blocks(stage.after, found.flatten(0, 1)).view(found.shape)
        points = centres
    return features.amax(1)


TWINS: dict[str, Twin] = {
    "pointnet2": pointnet2, "pointnet2-msg-half": pointnet2, "pointnext-s": pointnext, "pointmlp-elite": pointmlp,
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_networks_are_those_of_the_papers(name: str, training: bool) -> None:
    points = 0.6 * torch.randn(4, 32, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = build(name, 5, 0).double()
    with torch.no_grad(), seeded(0):
        for key, value in network.named_parameters():
            if key.endswith(("scale", "bias")):
                value += 0.5 * torch.randn_like(value)
        network.train()(points.flip(1) * 1.1)  # running statistics of its own
    assert any(1 < len(nearest(cloud, cloud[0], 99, 0.2 * 32**0.5)) < 32 for cloud in points)
    network.train(training)
    twin = copy.deepcopy(network)
    found, expected = network(points).global_feature, TWINS[name](twin, points)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    learned = [key for key, _ in network.named_parameters() if not key.startswith("head.")]
    for module, value in ((network, found), (twin, expected)):
        value.square().mean().backward()
        assert all(dict(module.named_parameters())[key].grad is not None for key in learned)
    for key in learned:
        one, two = network.get_parameter(key).grad, twin.get_parameter(key).grad
        torch.testing.assert_close(one, two, rtol=1e-6, atol=2e-8, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize(("name", "count"), [
    ("pointnet2", 1_472_360),
    ("pointnet2-msg-half", 441_112),
    ("pointnext-s", 1_373_512),  # 1.374 M in the configuration file of the published code
    ("pointmlp-elite", 714_984),
])  # fmt: skip
def test_numbers_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        network = build(name, 40, 0)
    assert sum(value.numel() for value in network.parameters()) == count


def test_reference_counts_by_hand() -> None:
    """PointNet++ from its widths: weights, two numbers of batch norm per channel, and the last layer's biases."""
    layers = [(3, 64), (64, 64), (64, 128), (131, 128), (128, 128), (128, 256), (259, 256), (256, 512), (512, 1024),
              (1024, 512), (512, 256)]  # fmt: skip
    count = sum(a * b + 2 * b for a, b in layers) + 256 * 40 + 40
    assert count == 1_472_360
    assert (count + sum(b for _, b in layers)) / 1e6 == pytest.approx(1.48, abs=0.005)  # with biases everywhere


@pytest.mark.parametrize("name", NAMES)
def test_networks_learn_two_shapes(name: str) -> None:
    """Lines from balls, in a few steps."""
    random = torch.Generator().manual_seed(0)
    points = 0.5 * torch.randn(8, 24, 3, generator=random)
    points[::2, :, 1:] *= 0.1
    labels = torch.arange(8) % 2
    network = build(name, 2, 0)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    with seeded(0):
        for _ in range(12):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(network.train()(points).logits, labels)
            loss.backward()
            optimiser.step()
    assert loss < 0.3

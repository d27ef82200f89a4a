"""Networks that look at neighbours, thin clouds out or transform features: that they learn, and their parts."""

import pytest
import torch
from torch import Tensor, nn

from pcdistill.models import build, pointconv, seeded
from pcdistill.models.layers.shared import PointNorm
from pcdistill.models.point_transformer import Attention, PointTransformer
from pcdistill.models.pointconv import PointConv, density, scaled
from pcdistill.models.pointnet_full import PointNetFull

NAMES = {"dgcnn": 1.8, "pointconv": 19.6, "point-transformer": 2.2, "pointnet-full": 3.5, "pointnet-tiny": 0.06}
CLASSES = 5


def points_of(clouds: int, points: int) -> Tensor:
    generator = torch.Generator().manual_seed(clouds * points)
    return torch.randn(clouds, points, 3, dtype=torch.float64, generator=generator) / 2


@pytest.mark.parametrize(("name", "millions"), NAMES.items())
def test_parameters_with_forty_classes(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = build(name, 40, 0)
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("points", [1, 6, 40])
def test_every_parameter_learns_and_statistics_move(name: str, points: int) -> None:
    network = build(name, CLASSES, 0).train()
    before = {key: value.clone() for key, value in network.named_buffers()}
    loss = nn.functional.cross_entropy(network(points_of(3, points).float()).logits, torch.arange(3))
    loss.backward()
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert value.grad.isfinite().all(), key
    assert all(not torch.equal(value, before[key]) for key, value in network.named_buffers() if "running_var" in key)


@pytest.mark.parametrize("name", ["pointconv", "point-transformer", "dgcnn"])
def test_training_uses_the_same_function_as_evaluation(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluation with running statistics that are those of the batch gives what training gave."""
    network = build(name, CLASSES, 0).double().train()
    forward = PointNorm.forward

    def update(self: PointNorm, mean: Tensor, variance: Tensor, count: int) -> None:
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)  # biased, as the batch itself is normalised

    def normed(self: PointNorm, values: Tensor) -> Tensor:
        if self.training:
            flat = values.detach().flatten(0, -2)
            update(self, flat.mean(0), flat.var(0, unbiased=False), len(flat))
            self.momentum = 0.0
        return forward(self, values)

    monkeypatch.setattr(PointNorm, "update", update)
    monkeypatch.setattr(PointNorm, "forward", normed)
    points = points_of(6, 30)
    expected = network.pooled(points)
    torch.testing.assert_close(network.eval().pooled(points), expected)


@pytest.mark.parametrize(("count", "points", "expected"), [
    (512, 1024, 512), (512, 2048, 512), (512, 128, 64), (128, 100, 13), (512, 1, 1), (128, 1, 1), (512, 3, 2),
])  # fmt: skip
def test_centres_follow_the_size_of_a_cloud(count: int, points: int, expected: int) -> None:
    assert scaled(count, points) == expected <= points


def test_stages_of_the_full_sizes() -> None:
    points = points_of(1, 1024).float()
    with torch.no_grad():
        stages = build("pointconv", CLASSES, 0).eval().point_features(points)
        assert [tuple(stage.shape[1:]) for stage in stages] == [(512, 128), (128, 256), (1, 1024)]
        stages = build("point-transformer", CLASSES, 0).eval().point_features(points)
    assert [tuple(stage.shape[1:]) for stage in stages] == [(1024, 32), (256, 64), (64, 128), (16, 256), (4, 512)]


def test_density_is_the_kernel_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(3, 9)
    distance = torch.cdist(points, points)
    expected = (-distance.square() / (2 * 0.2**2)).exp().mean(2) / (2.5 * 0.2)
    torch.testing.assert_close(density(points, 0.2), expected)
    monkeypatch.setattr(pointconv, "CHUNK_ELEMENTS", 100)
    torch.testing.assert_close(density(points, 0.2), expected)


def test_pointconv_does_not_see_where_a_cloud_lies() -> None:
    network, points = build("pointconv", CLASSES, 0).double().eval(), points_of(2, 24)
    with torch.no_grad():
        torch.testing.assert_close(network.pooled(points + 0.7), network.pooled(points))


def applied(layers: nn.ModuleList, values: Tensor) -> Tensor:
    for layer in layers:
        values = layer(values)
    return values


def test_a_point_convolution_is_the_sum_over_neighbours_of_weights_times_features() -> None:
    """Equation 3 of the paper, one full weight matrix `(C, F)` per neighbour."""
    with seeded(0):
        layer = PointConv(4, (6, 5)).double().eval()
    offsets, features = points_of(2, 21).view(2, 7, 3, 3), torch.randn(2, 7, 3, 4, dtype=torch.float64)
    inverse = torch.rand(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    values = applied(layer.features, torch.cat([offsets, features], 3))
    scale = applied(layer.density, (inverse / inverse.max(2, keepdim=True).values)[..., None]).sigmoid()
    basis = applied(layer.weights, offsets)
    matrices = torch.einsum("bmkw,fcw->bmkfc", basis, layer.linear.linear.weight.view(5, 5, 16))
    factor, shift = layer.linear.norm.affine()
    summed = torch.einsum("bmkfc,bmkc->bmf", matrices, values * scale)
    torch.testing.assert_close(layer(offsets, features, inverse), (summed * factor + shift).relu())


def test_attention_is_that_of_the_paper() -> None:
    with seeded(0):
        layer = Attention(16).double().eval()
    points, features = points_of(2, 6), torch.randn(2, 6, 16, dtype=torch.float64)
    index = torch.stack([torch.stack([torch.randperm(6)[:4] for _ in range(6)]) for _ in range(2)])
    offsets = torch.stack([cloud[near] for cloud, near in zip(points, index, strict=True)]) - points[:, :, None]
    found = layer(offsets, features, index)
    key, value = layer.key_value(features).chunk(2, 2)
    for cloud in range(2):
        for i in range(6):
            place = layer.position(offsets[cloud, i][None])[0]
            relation = key[cloud, index[cloud, i]] - layer.query(features[cloud, i]) + place
            weights = layer.weights(layer.hidden(layer.norm(relation[None]).relu()))[0].softmax(0)
            expected = (weights.repeat_interleave(8, 1) * (value[cloud, index[cloud, i]] + place)).sum(0)
            torch.testing.assert_close(found[cloud, i], expected)


def test_far_away_points_are_no_neighbours() -> None:
    """One of two distant halves moved: features of the other half, before anything is pooled, stay."""
    with seeded(0):
        network = PointTransformer(CLASSES, widths=(8,), neighbours=4).double().eval()
    points = points_of(1, 20)
    points[:, 10:] += 50
    moved = points.clone()
    moved[:, 10:] *= 1.1
    one, two = network.point_features(points)[0], network.point_features(moved)[0]
    torch.testing.assert_close(one[:, :10], two[:, :10])
    assert not torch.allclose(one[:, 10:], two[:, 10:])


def test_the_feature_transform_starts_from_the_identity_and_is_applied() -> None:
    with seeded(0):
        network = PointNetFull(CLASSES).double().eval()
    points = points_of(2, 10)
    first = network.point_features(points)[1]
    matrix = network.feature_tnet(first, False)
    assert matrix.shape == (2, 64, 64)
    torch.testing.assert_close(network.point_features(points)[2], network.trunk.layers[0](first @ matrix))
    nn.init.zeros_(network.feature_tnet.head[-1].weight)
    nn.init.zeros_(network.feature_tnet.head[-1].bias)
    torch.testing.assert_close(network.feature_tnet(first, False), torch.eye(64).double().expand(2, 64, 64))

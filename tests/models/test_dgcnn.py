"""DGCNN: factorised edges against edge by edge layers of torch, and its pooling against the separate layers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pcdistill.models import dgcnn, seeded
from pcdistill.models.dgcnn import DGCNN, SLOPE, EdgeConv, edge_moments, largest_neighbours
from pcdistill.models.layers import fused
from pcdistill.models.layers.fused import LinearNormPool

EPS = 1e-5


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def stirred(layer: EdgeConv) -> EdgeConv:
    """In float64, with scales of both signs and running statistics of its own."""
    layer = layer.double()
    norm = layer.norm
    with torch.no_grad():
        norm.scale.copy_(random(len(norm.scale), seed=1))
        norm.bias.copy_(random(len(norm.scale), seed=2))
        norm.running_mean.copy_(random(len(norm.scale), seed=3))
        norm.running_var.copy_(random(len(norm.scale), seed=4).square() + 0.1)
    return layer


def naive(layer: EdgeConv) -> tuple[Callable[[Tensor, Tensor], Tensor], nn.BatchNorm2d, list[Tensor]]:
    """The same layer as the paper writes it: all edges, a 1 x 1 convolution, BatchNorm2d, LeakyReLU, max."""
    convolution = nn.Conv2d(layer.linear.in_features, layer.linear.out_features, 1, bias=False).double()
    norm = nn.BatchNorm2d(layer.linear.out_features).double()
    with torch.no_grad():
        convolution.weight.copy_(layer.linear.weight[:, :, None, None])
        for name, value in (("weight", "scale"), ("bias", "bias"), ("running_mean",) * 2, ("running_var",) * 2):
            getattr(norm, name).copy_(getattr(layer.norm, value))
    norm.train(layer.training)

    def forward(points: Tensor, index: Tensor) -> Tensor:
        near = torch.stack([cloud[places] for cloud, places in zip(points, index, strict=True)])  # (B, N, k, C)
        own = points[:, :, None].expand_as(near)
        edges = torch.cat([own, near - own], 3).permute(0, 3, 1, 2)
        return nn.functional.leaky_relu(norm(convolution(edges)), SLOPE).amax(3).transpose(1, 2)

    return forward, norm, [convolution.weight, norm.weight, norm.bias]


def edges_of(clouds: int, points: int, channels: int, k: int) -> tuple[Tensor, Tensor]:
    """Points and any neighbours at all: some point is nobody's, some are listed twice."""
    index = torch.randint(points - 1, (clouds, points, k), generator=torch.Generator().manual_seed(k))
    return random(clouds, points, channels).requires_grad_(), index


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("clouds", "points", "channels", "k"), [(3, 9, 3, 4), (2, 40, 5, 20), (2, 2, 1, 1)])
def test_edges_equal_those_computed_one_by_one(
    training: bool, clouds: int, points: int, channels: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dgcnn, "CACHED_ELEMENTS", 100)  # several pieces
    with seeded(0):
        layer = stirred(EdgeConv(channels, 7)).train(training)
    twin, norm, weights = naive(layer)
    given, index = edges_of(clouds, points, channels, k)
    found, expected = layer(given, index), twin(given, index)
    torch.testing.assert_close(found, expected)
    pull = random(*found.shape, seed=5)
    gradients = torch.autograd.grad(found, [given, layer.linear.weight, layer.norm.scale, layer.norm.bias], pull)
    wanted = torch.autograd.grad(expected, [given, *weights], pull)
    for one, two in zip(gradients, wanted, strict=True):
        if training and k == 1 and points == 2:  # constant channels: both are rounding, magnified
            continue
        torch.testing.assert_close(one, two.view(one.shape))
    torch.testing.assert_close(layer.norm.running_mean, norm.running_mean)
    torch.testing.assert_close(layer.norm.running_var, norm.running_var)


def test_moments_are_those_of_all_edges_far_from_the_origin() -> None:
    given, index = edges_of(2, 12, 3, 5)
    shifted = (given.detach() + 1000).float()
    flat = dgcnn._flat(index)
    near = shifted.flatten(0, 1)[flat].double()
    own = shifted.flatten(0, 1)[:, None].expand(-1, 5, -1).double()
    edges = torch.cat([own, near], 2).flatten(0, 1)
    centre, covariance = edge_moments(shifted.flatten(0, 1), flat)
    torch.testing.assert_close(centre.double(), edges.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(covariance.double(), edges.T.cov(correction=0), rtol=1e-4, atol=1e-4)


def test_the_first_of_equal_neighbours_is_taken() -> None:
    values = torch.tensor([[1.0], [3.0], [3.0], [2.0]])
    flat = torch.tensor([[0, 2, 1], [1, 2, 3], [3, 0, 0], [0, 0, 0]])
    assert largest_neighbours(values, flat).flatten().tolist() == [2, 1, 3, 0]


class Given:
    """Arguments of the pooled layer as leaves, and the same by torch's own layers."""

    def __init__(self, clouds: int, points: int, width: int, outputs: int) -> None:
        self.leaves = [
            random(clouds, points, width),
            random(outputs, width, seed=1),
            random(outputs, seed=2),
            random(outputs, seed=3),
        ]
        for leaf in self.leaves:
            leaf.requires_grad_()

    def separate(self) -> tuple[Tensor, Tensor]:
        hidden, weight, scale, bias = self.leaves
        flat = nn.functional.batch_norm((hidden @ weight.T).flatten(0, 1), None, None, scale, bias, True, 0.1, EPS)
        values = nn.functional.leaky_relu(flat.view(*hidden.shape[:2], -1), SLOPE)
        return values.amax(1), values.mean(1)


@pytest.mark.parametrize("shape", [(4, 10, 5, 7), (3, 1, 4, 6), (2, 50, 8, 33)])
@pytest.mark.parametrize("cached", [1, 300, 2**20])
def test_pooling_equals_the_separate_layers(
    shape: tuple[int, int, int, int], cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "CACHED_ELEMENTS", cached)
    given = Given(*shape)
    largest, average, mean, variance = LinearNormPool.apply(*given.leaves, EPS, SLOPE, False)
    expected = given.separate()
    torch.testing.assert_close((largest, average), expected)
    pulls = [random(*value.shape, seed=7 + n) for n, value in enumerate(expected)]
    found = torch.autograd.grad((largest, average), given.leaves, pulls)
    torch.testing.assert_close(found, torch.autograd.grad(expected, given.leaves, pulls))
    flat = (given.leaves[0] @ given.leaves[1].T).flatten(0, 1)
    torch.testing.assert_close(mean, flat.mean(0).detach())
    torch.testing.assert_close(variance, flat.var(0, unbiased=False).detach())


def test_pooling_in_bfloat16_is_close() -> None:
    given = [leaf.detach().float().requires_grad_() for leaf in Given(8, 30, 16, 24).leaves]
    exact = LinearNormPool.apply(*given, EPS, SLOPE, False)[:2]
    rough = LinearNormPool.apply(*given, EPS, SLOPE, True)[:2]
    assert not torch.equal(exact[0], rough[0])
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0.05)
    gradients = [torch.autograd.grad(out[1].square().sum(), given) for out in (exact, rough)]
    for one, two in zip(*gradients, strict=True):
        assert nn.functional.cosine_similarity(one.flatten(), two.flatten(), 0) > 0.999


@pytest.mark.parametrize("available", [False, True])
def test_bf16_is_used_where_it_is_asked_for_and_there(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgcnn, "bf16_available", lambda: available)
    with seeded(0):
        network = DGCNN(3, neighbours=4, widths=(8, 8), embedding=16, head=(8,))
    points = random(4, 10, 3).float()
    exact = network.pooled(points)
    network.bf16 = True
    assert torch.equal(network.pooled(points), exact) != available


def test_features_of_a_trained_network_are_those_it_pools() -> None:
    """What `LinearNormPool` pools while training is what the plain layer gives with the same statistics."""
    with seeded(0):
        network = DGCNN(3, neighbours=4, widths=(8, 8), embedding=16, head=(8,)).double()
    points = random(4, 10, 3)
    pooled = network.pooled(points)
    values = network.point_features(points)[-1]
    torch.testing.assert_close(pooled, torch.cat([values.amax(1), values.mean(1)], 1))

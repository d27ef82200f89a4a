"""What every registered network promises, and the norms a PointNet can be built with."""

import copy
import functools
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pcdistill.core.errors import InputError
from pcdistill.models import Network, build, networks, pointnet, seeded
from pcdistill.models.layers import fused, shared
from pcdistill.models.layers.fused import extreme_points
from pcdistill.models.layers.shared import Norm, PointNorm, SharedLayer
from pcdistill.models.pointnet import PointNet

CLASSES = 5
NORMS = get_args(Norm)


def points_of(clouds: int, points: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(clouds, points, 3, dtype=dtype, generator=torch.Generator().manual_seed(clouds * points)) / 2


def stir(network: Network) -> Network:
    """Move a network in float64 away from its start: running statistics, scales (some negative) and biases."""
    network = network.double()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad(), seeded(0):
        for name, value in network.named_parameters():
            if name.endswith(("scale", "bias")):
                value += 0.7 * torch.randn(value.shape, dtype=value.dtype, generator=random)
        for _ in range(3):
            network.train()(points_of(6, 12))
    return network.eval()


@functools.cache
def stirred(name: str) -> Network:
    return stir(build(name, CLASSES, 0))


@pytest.fixture(params=list(networks))
def network(request: pytest.FixtureRequest) -> Network:
    return copy.deepcopy(stirred(request.param))


@pytest.mark.parametrize(("clouds", "points"), [(3, 20), (1, 7), (2, 1), (1, 1)])
@pytest.mark.parametrize("grad", [True, False])
def test_shapes_for_any_number_of_clouds_and_points(network: Network, clouds: int, points: int, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        out = network(points_of(clouds, points))
        features = network.point_features(points_of(clouds, points))
    assert out.logits.shape == (clouds, CLASSES)
    assert out.global_feature.shape[0] == clouds
    assert all(layer.ndim == 3 and layer.shape[0] == clouds and 1 <= layer.shape[1] <= points for layer in features)
    assert all(value.isfinite().all() for value in (*out, *features))


def test_prediction_without_gradient_equals_the_one_with(network: Network) -> None:
    points = points_of(4, 16)
    with torch.no_grad():
        fast = network(points)
    torch.testing.assert_close(tuple(fast), tuple(value.detach() for value in network(points)))


def test_order_of_points_does_not_matter(network: Network) -> None:
    points = points_of(3, 20)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(tuple(network(points[:, order])), tuple(network(points)))
        features, shuffled = network.point_features(points), network.point_features(points[:, order])
        # Centres, which are fewer than the points, come in an order of their own.
        expected = [layer[:, order] if layer.shape[1] == 20 else layer for layer in features]
        torch.testing.assert_close(shuffled, expected)


def test_clouds_do_not_see_one_another_in_evaluation(network: Network) -> None:
    points = points_of(4, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(points).logits[2:3], network(points[2:3]).logits)


def test_repeated_points_change_nothing_in_a_pointnet(network: Network) -> None:
    if not isinstance(network, PointNet):
        pytest.skip("a network that looks at neighbours may see them")
    points = points_of(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(network(points.repeat(1, 2, 1)).logits, network(points).logits)


def test_pooled_points_are_the_global_feature_that_classify_reads(network: Network) -> None:
    points = points_of(3, 20)
    with torch.no_grad():
        out = network(points)
        torch.testing.assert_close(network.pooled(points), out.global_feature)
        torch.testing.assert_close(network.classify(out.global_feature), out.logits)
        if isinstance(network, PointNet):
            torch.testing.assert_close(network.point_features(points)[-1].amax(1).relu(), out.global_feature)


def test_exported_networks_give_the_same(network: Network) -> None:
    points = points_of(2, 6)
    with torch.no_grad():
        exported = torch.export.export(network, (points.flip(1) + 0.1,)).module()
        torch.testing.assert_close(tuple(exported(points)), tuple(network(points)))


def test_point_features_are_twice_differentiable_in_evaluation(network: Network) -> None:
    points = points_of(2, 4).requires_grad_()
    loss = sum(layer.square().mean() for layer in network.point_features(points))
    (gradient,) = torch.autograd.grad(loss, points, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), points)
    assert second.isfinite().all()
    assert second.any()

    def features(points: Tensor) -> Tensor:
        return torch.cat([layer.square().mean((1, 2)) for layer in network.point_features(points)])

    assert torch.autograd.gradgradcheck(features, points, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda points: network.pooled(points).square().mean(1), points, fast_mode=True)


def parameter_gradients(network: Network, points: Tensor) -> list[Tensor]:
    """Of a classification loss in evaluation mode."""
    labels = torch.arange(len(points)) % CLASSES
    loss = nn.functional.cross_entropy(network(points).logits, labels)
    return list(torch.autograd.grad(loss, list(network.parameters())))


@pytest.mark.parametrize("points", [1, 7, 300])
def test_critical_points_alone_give_the_same_output_and_gradients(network: Network, points: int) -> None:
    whole = points_of(3, points)
    few = network.critical(whole)
    if few is whole:  # nothing to compare
        return
    torch.testing.assert_close(tuple(network(few)), tuple(network(whole)))
    torch.testing.assert_close(network.pooled(few), network(whole).global_feature)
    for one, two in zip(parameter_gradients(network, few), parameter_gradients(network, whole), strict=True):
        torch.testing.assert_close(one, two)
    assert few.shape[1] <= min(points, network(whole).global_feature.shape[1])
    for some, all_ in zip(few, whole, strict=True):  # they are points of their clouds, each at most once
        assert ((some[:, None] == all_).all(2).sum(1) == 1).all()
        assert len(some.unique(dim=0)) == len(some)


def test_points_that_see_one_another_are_all_critical(network: Network) -> None:
    points = points_of(2, 20)
    assert isinstance(network, PointNet) or network.critical(points) is points


def test_gradients_reach_critical_points_alone(network: Network) -> None:
    points = points_of(3, 40).requires_grad_()
    (whole,) = torch.autograd.grad(network(points).logits.square().sum(), points)
    (few,) = torch.autograd.grad(network(network.critical(points)).logits.square().sum(), points)
    torch.testing.assert_close(few, whole)


@pytest.mark.parametrize("tnet", [False, True])
def test_the_global_feature_of_frozen_batch_norm_and_its_derivatives_are_those_of_all_products(tnet: bool) -> None:
    """Scales of both signs: there the largest value comes of the smallest product."""
    network = PointNet(3, widths=(8, 16, 24), head=(8,), tnet=tnet, norm="batch").double().eval()
    norm = network.trunk.layers[-1].norm
    with torch.no_grad():
        norm.scale.copy_(torch.linspace(-1, 1, 24))
        norm.running_mean.copy_(torch.linspace(-0.1, 0.1, 24))
    points = torch.randn(3, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3), requires_grad=True)
    fast, plain = network.pooled(points), network.point_features(points)[-1].amax(1).relu()
    torch.testing.assert_close(fast, plain)
    leaves = (points, *network.trunk.parameters())
    factor = torch.linspace(1, 2, 24, dtype=torch.float64)
    for one, other in zip(*(torch.autograd.grad((way.square() * factor).sum(), leaves) for way in (fast, plain)),
                          strict=True):  # fmt: skip
        torch.testing.assert_close(one, other)
    assert torch.autograd.gradgradcheck(network.pooled, points[:1].detach().requires_grad_())


def test_evaluation_changes_no_state(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(points_of(3, 20))
    network.point_features(points_of(3, 20))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("name", list(networks))
def test_build_follows_its_seed_alone(name: str) -> None:
    first = build(name, CLASSES, 3).state_dict()
    before = torch.get_rng_state()
    torch.rand(7)
    again = build(name, CLASSES, 3).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    other = build(name, CLASSES, 4).state_dict()
    assert any(not torch.equal(value, other[key]) for key, value in first.items())
    torch.set_rng_state(before)
    build(name, CLASSES, 5)
    assert torch.equal(torch.get_rng_state(), before)


def test_state_survives_a_file(network: Network, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    copy = build(request.node.callspec.params["network"], CLASSES, 9).double().eval()
    copy.load_state_dict(load_file(tmp_path / "network.safetensors"))
    with torch.no_grad():
        assert torch.equal(copy(points_of(3, 20)).logits, network(points_of(3, 20)).logits)


def test_unknown_network_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^network: 'pointnett' \(did you mean 'pointnet'\?\), expected one of "):
        build("pointnett", CLASSES, 0)


def test_seeded_gives_the_state_back_after_an_error() -> None:
    def fail() -> None:
        with seeded(0):
            torch.rand(3)
            raise RuntimeError

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(torch.get_rng_state(), before)


def tiny(norm: Norm, **settings: bool) -> PointNet:
    with seeded(0):
        return PointNet(CLASSES, widths=(8, 16), head=(8,), norm=norm, dropout=0.0, **{"tnet": False, **settings})


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tnet", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_every_norm_trains_and_predicts(norm: Norm, tnet: bool, training: bool) -> None:
    network = tiny(norm, tnet=tnet).double().train(training)
    out = network(points_of(4, 10))
    assert out.logits.shape == (4, CLASSES)
    out.logits.square().sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.isfinite().all(), name


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_only_batch_norm_tells_training_from_evaluation(norm: Norm) -> None:
    network = tiny(norm).double()
    assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}
    points = points_of(4, 10)
    torch.testing.assert_close(network.train()(points).logits, network.eval()(points).logits)


def as_torch_does(norm: Norm, values: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The norm of `(B, N, 16)` by torch's own module."""
    module: nn.Module
    if norm == "layer":
        module = nn.LayerNorm(16)
    elif norm == "batch":
        module = nn.BatchNorm1d(16)
    elif norm == "instance":
        module = nn.InstanceNorm1d(16, affine=True)
    else:
        module = nn.GroupNorm(8, 16)
    module = module.double()
    module.load_state_dict({"weight": scale, "bias": bias}, strict=False)
    if norm == "layer":
        return module(values)
    return module(values.transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "none"])
def test_norms_are_those_of_torch(norm: Norm) -> None:
    values = torch.randn(4, 10, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1
    ours = PointNorm(norm, 16).double()
    with torch.no_grad(), seeded(0):
        nn.init.normal_(ours.scale)
        nn.init.normal_(ours.bias)
    torch.testing.assert_close(ours(values), as_torch_does(norm, values, ours.scale, ours.bias))
    if norm != "batch":
        pooled = nn.functional.layer_norm(values[:, 0], (16,), ours.scale, ours.bias)
        torch.testing.assert_close(ours(values[:, 0]), pooled)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("tnet", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_clouds_whose_points_see_one_another_are_critical_as_a_whole(norm: Norm, tnet: bool, training: bool) -> None:
    network = tiny(norm, tnet=tnet).double().train(training)
    points = points_of(3, 60)
    pointwise = not tnet and (norm in ("layer", "none") or (norm == "batch" and not training))
    assert (network.critical(points) is points) == (not pointwise)
    assert (network.critical(points).shape[1] <= 16) == pointwise


def test_critical_points_of_many_clouds_are_those_of_each() -> None:
    """More than are passed at a time; clouds with fewer of them are filled up with others of their own."""
    network = tiny("layer").double()
    points = points_of(40, 30)
    points[5] = points[5, :1] + 1e-9 * points[5]  # almost one point
    found = network.critical(points)
    most = 0
    for cloud, some in zip(points, found, strict=True):
        own = network.critical(cloud[None])[0]
        assert torch.equal(some[: len(own)], own)
        most = max(most, len(own))
    assert found.shape[1] == most


def test_equal_points_stay_critical_together() -> None:
    """The maximum shares its gradient among them."""
    network = tiny("layer").double()
    points = points_of(3, 20).repeat(1, 2, 1)
    few = network.critical(points)
    assert few.shape[1] <= 32
    for one, two in zip(parameter_gradients(network, few), parameter_gradients(network, points), strict=True):
        torch.testing.assert_close(one, two)


def test_critical_points_of_a_network_that_broke_down_are_all() -> None:
    network = tiny("layer").double()
    with torch.no_grad():
        network.trunk.layers[0].linear.weight.fill_(torch.nan)
    assert network.critical(points_of(3, 20)).shape == (3, 20, 3)


def test_frozen_batch_norm_is_folded_into_its_layer() -> None:
    with seeded(0):
        layer = SharedLayer(16, 24, "batch").double()
        values = torch.randn(4, 10, 16, dtype=torch.float64)
        for value in (layer.norm.scale, layer.norm.bias, layer.norm.running_mean):
            nn.init.normal_(value)
        nn.init.uniform_(layer.norm.running_var, 0.2, 3)
    layer.eval()
    norm = layer.norm
    flat = layer.linear(values).reshape(-1, 24)
    expected = nn.functional.batch_norm(flat, norm.running_mean, norm.running_var, norm.scale, norm.bias, eps=1e-5)
    torch.testing.assert_close(layer.normed(values), expected.view(4, 10, 24))
    torch.testing.assert_close(layer(values), expected.view(4, 10, 24).relu())
    factor, shift = norm.affine()
    torch.testing.assert_close(layer.linear(values) * factor + shift, expected.view(4, 10, 24))
    learned = list(layer.parameters())
    found = torch.autograd.grad(layer.normed(values).square().sum(), learned)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), learned))


def test_instance_norm_of_a_single_point_is_its_bias() -> None:
    norm = PointNorm("instance", 16).double()
    nn.init.normal_(norm.bias)
    values = torch.ones(2, 1, 16, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(norm(values), norm.bias.expand(2, 1, 16))
    (gradient,) = torch.autograd.grad(norm(values).square().sum(), values)
    assert gradient.isfinite().all()


def test_none_is_no_norm() -> None:
    values = points_of(2, 4)
    assert PointNorm("none", 3)(values) is values


def test_align_applies_one_matrix_to_every_point_of_a_cloud() -> None:
    network = tiny("layer", tnet=True).double().eval()
    points = points_of(3, 10)
    aligned = network.align(points)
    solution = torch.linalg.lstsq(points, aligned)  # exact: ten points, nine unknowns
    torch.testing.assert_close(points @ solution.solution, aligned)
    assert not torch.allclose(aligned, points)
    assert torch.equal(tiny("layer").align(points), points)


def test_tnet_starts_from_the_identity() -> None:
    network = tiny("batch", tnet=True).double().eval()
    assert network.tnet is not None
    last = network.tnet.head[-1]
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    torch.testing.assert_close(network.align(points_of(3, 10)), points_of(3, 10))


def test_dropout_acts_in_training_only() -> None:
    with seeded(0):
        network = PointNet(CLASSES, widths=(8, 16), head=(32,), tnet=False, norm="none", dropout=0.5)
        points = points_of(4, 10, torch.float32)
        assert not torch.equal(network(points).logits, network(points).logits)
        network.eval()
        assert torch.equal(network(points).logits, network(points).logits)


@pytest.mark.parametrize("available", [False, True])
def test_bf16_finds_maxima_where_the_processor_has_it(available: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []

    def recorded(hidden: Tensor, weight: Tensor, sign: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
        used.append(bf16)
        return extreme_points(hidden, weight, sign, bf16)

    monkeypatch.setattr(fused, "extreme_points", recorded)
    monkeypatch.setattr(shared, "extreme_points", recorded)
    monkeypatch.setattr(pointnet, "bf16_available", lambda: available)
    network = tiny("batch")
    points = points_of(16, 50, torch.float32)
    exact = network(points).logits.detach()
    network.bf16 = True
    torch.testing.assert_close(network(points).logits.detach(), exact, rtol=0.02, atol=0.02)
    with torch.no_grad():
        network.eval()(points)
    assert used == [False, available, available]

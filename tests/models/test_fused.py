"""The fused layers against the same mathematics in plain torch, whose gradients come from autograd."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from pcdistill.models import build, seeded
from pcdistill.models.layers import fused
from pcdistill.models.layers.fused import extreme_points, linear_norm_max, linear_norm_relu
from pcdistill.models.layers.shared import SharedLayer
from pcdistill.models.layers.slots import LinearNormSlotMax, SlotMax, SumReLU

EPS = 1e-5
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


class Case(NamedTuple):
    """Input `(B, N, K)` and parameters of a layer with F outputs; half of its scales are negative."""

    hidden: Tensor
    weight: Tensor
    scale: Tensor
    bias: Tensor


def case(clouds: int, points: int, inputs: int, outputs: int, dtype: torch.dtype = torch.float64) -> Case:
    random = torch.Generator().manual_seed(clouds + points)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=dtype)

    hidden = normal(clouds, points, inputs).relu() + 0.3 * normal(inputs)  # neither centred nor white
    scale = normal(outputs).abs() + 0.2
    scale[::2] *= -1
    leaves = (hidden, normal(outputs, inputs), scale, normal(outputs))
    return Case(*(leaf.requires_grad_() for leaf in leaves))


def plain_norm(given: Case) -> Tensor:
    flat = (given.hidden @ given.weight.T).flatten(0, 1)
    normed = nn.functional.batch_norm(flat, None, None, given.scale, given.bias, True, 0.1, EPS)
    return normed.view(*given.hidden.shape[:2], -1)


def plain_relu(given: Case) -> Tensor:
    return plain_norm(given).relu()


def plain_max(given: Case) -> Tensor:
    return plain_norm(given).amax(1)


def fused_relu(given: Case) -> Tensor:
    rows = given.hidden.flatten(0, 1)
    out, _, _ = linear_norm_relu(rows, given.weight, given.scale, given.bias, EPS)
    return out.view(*given.hidden.shape[:2], -1)


def fused_max(given: Case) -> Tensor:
    out, _, _ = linear_norm_max(*given, EPS, False)
    return out


PAIRS = [pytest.param(fused_relu, plain_relu, id="relu"), pytest.param(fused_max, plain_max, id="max")]
Layer = Callable[[Case], Tensor]


@pytest.mark.parametrize(("fast", "plain"), PAIRS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(4, 10, 5, 7), (2, 3, 8, 4), (1, 6, 3, 3), (5, 1, 3, 6), (3, 40, 16, 33)])
def test_values_and_gradients_equal_plain_torch(
    fast: Layer, plain: Layer, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    given = case(*shape, dtype=dtype)
    found, expected = fast(given), plain(given)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(found, expected, **close)
    probe = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    found_gradients = torch.autograd.grad((found * probe).sum(), given)
    expected_gradients = torch.autograd.grad((expected * probe).sum(), given)
    for name, one, other in zip(Case._fields, found_gradients, expected_gradients, strict=True):
        torch.testing.assert_close(one, other, msg=lambda text, name=name: f"{name}: {text}", **close)


@pytest.mark.parametrize("fast", [fused_relu, fused_max])
def test_gradcheck(fast: Layer) -> None:
    assert torch.autograd.gradcheck(lambda *leaves: fast(Case(*leaves)), tuple(case(3, 6, 4, 5)))


def test_input_without_gradient_gets_none() -> None:
    given = case(3, 6, 4, 5)
    given.hidden.requires_grad_(False)
    fused_relu(given).sum().backward()
    assert given.hidden.grad is None
    assert given.weight.grad is not None


@pytest.mark.parametrize("fast", [fused_relu, fused_max])
def test_second_derivatives_are_refused_rather_than_wrong(fast: Layer) -> None:
    given = case(3, 6, 4, 5)
    (gradient,) = torch.autograd.grad(fast(given).square().sum(), given.hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_batch_statistics() -> None:
    given = case(4, 10, 5, 7)
    flat = (given.hidden @ given.weight.T).flatten(0, 1)
    for found in (linear_norm_max(*given, EPS, False), linear_norm_relu(
        given.hidden.flatten(0, 1), *given[1:], EPS
    )):  # fmt: skip
        torch.testing.assert_close(found[1], flat.mean(0))
        torch.testing.assert_close(found[2], flat.var(0, unbiased=False))
        assert not found[1].requires_grad


def test_constant_input_has_zero_variance_and_stays_finite() -> None:
    given = case(3, 4, 5, 7, torch.float32)
    with torch.no_grad():
        given.hidden.fill_(0.7)
    out = fused_relu(given)
    torch.testing.assert_close(out, given.bias.relu().expand_as(out), atol=1e-3, rtol=0)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(out.sum(), given))


@pytest.mark.parametrize("bf16", [False, True])
def test_extreme_points_do_not_depend_on_the_pieces(bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = case(7, 10, 5, 6)
    sign = torch.tensor([1.0, -1, 1, -1, -1, 1], dtype=torch.float64)
    whole = extreme_points(given.hidden.detach(), given.weight.detach(), sign, bf16)
    monkeypatch.setattr(fused, "CHUNK_ELEMENTS", 2 * 10 * 6)
    pieces = extreme_points(given.hidden.detach(), given.weight.detach(), sign, bf16)
    torch.testing.assert_close(pieces[0], whole[0])
    assert torch.equal(pieces[1], whole[1])


def test_extreme_points_are_the_largest_or_smallest() -> None:
    given = case(3, 10, 5, 6)
    product = (given.hidden @ given.weight.T).detach()
    sign = torch.tensor([1.0, -1, 1, -1, -1, 1], dtype=torch.float64)
    values, places = extreme_points(given.hidden.detach(), given.weight.detach(), sign)
    torch.testing.assert_close(values, torch.where(sign > 0, product.amax(1), product.amin(1)))
    torch.testing.assert_close(product.gather(1, places[:, None])[:, 0], values)


def test_bf16_search_gives_values_in_full_precision() -> None:
    given = case(6, 50, 16, 40, torch.float32)
    hidden, weight = given.hidden.detach(), given.weight.detach()
    product = hidden @ weight.T
    values, places = extreme_points(hidden, weight, torch.ones(40), bf16=True)
    # The value is exact for the point that was chosen ...
    torch.testing.assert_close(values, product.gather(1, places[:, None])[:, 0], rtol=1e-5, atol=1e-5)
    rounded = (hidden.bfloat16() @ weight.bfloat16().T).float().gather(1, places[:, None])[:, 0]
    assert (values - rounded).abs().max() > 1e-3  # which the bfloat16 product itself would not be
    # ... and the choice is off by no more than bfloat16's rounding of the factors.
    slack = 2 * 2**-8 * (hidden.abs() @ weight.abs().T).amax(1)
    assert (product.amax(1) - values <= slack).all()


def layer(outputs: int = 6, seed: int = 0) -> SharedLayer:
    with seeded(seed):
        made = SharedLayer(5, outputs, "batch").double()
        nn.init.normal_(made.norm.scale)
        nn.init.normal_(made.norm.bias)
    return made


def reference(of: SharedLayer) -> nn.Sequential:
    """The same layer out of torch's own modules."""
    linear = nn.Linear(5, len(of.linear.weight), bias=False)
    norm = nn.BatchNorm1d(len(of.linear.weight))
    linear.weight, norm.weight, norm.bias = of.linear.weight, of.norm.scale, of.norm.bias
    return nn.Sequential(linear, norm.double())


@pytest.mark.parametrize("pooling", [False, True])
def test_running_statistics_and_evaluation_equal_batch_norm(pooling: bool) -> None:
    ours = layer()
    theirs = reference(ours)

    def ours_of(values: Tensor) -> Tensor:
        return ours.max_pool(values, False) if pooling else ours.fused(values)

    def theirs_of(values: Tensor) -> Tensor:
        normed = theirs(values.flatten(0, 1)).view(*values.shape[:2], -1)
        return normed.amax(1) if pooling else normed.relu()

    for step in range(3):
        values = case(3 + step, 7, 5, 6).hidden.detach()
        torch.testing.assert_close(ours_of(values), theirs_of(values))
    torch.testing.assert_close(ours.norm.running_mean, theirs[1].running_mean)
    torch.testing.assert_close(ours.norm.running_var, theirs[1].running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours_of(values), theirs_of(values))
    with torch.no_grad():
        torch.testing.assert_close(ours_of(values), theirs_of(values))


def use_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SharedLayer, "fused", SharedLayer.forward)
    monkeypatch.setattr(SharedLayer, "max_pool", lambda self, values, bf16: self(values).amax(1))


def training_step(points: Tensor) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits, gradients and new running statistics of the registered PointNet, some scales negative."""
    network = build("pointnet", 5, 0).double()
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("scale"):
                value[::3] *= -0.5
    with seeded(0):  # for dropout
        logits = network(points).logits
    nn.functional.cross_entropy(logits, torch.arange(len(points)) % 5).backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return logits.detach(), gradients, dict(network.named_buffers())


def test_pointnet_training_step_equals_plain_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    points = torch.randn(6, 20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits, gradients, buffers = training_step(points)
    use_plain_layers(monkeypatch)
    plain_logits, plain_gradients, plain_buffers = training_step(points)
    close = {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(logits, plain_logits, **close)
    torch.testing.assert_close(buffers, plain_buffers, **close)
    torch.testing.assert_close(gradients, plain_gradients, **close)
    assert len(gradients) == len(list(build("pointnet", 5, 0).parameters()))


# Rows of groups: the slot of every row, and its group, which are the first ones.
SIZES = (4, 4, 2, 1)
OWNERS = torch.cat([torch.arange(size) for size in SIZES])
NEIGHBOURS = torch.tensor([0, 3, 4, 1, 2, 2, 0, 4, 1, 3, 0])


def by_group(rows: Tensor) -> Tensor:
    return torch.stack([rows[group == OWNERS].amax(0) for group in range(SIZES[0])])


def test_sums_of_neighbours_and_centres() -> None:
    sources, targets = case(1, 5, 3, 6), case(1, 4, 3, 6)
    leaves = (sources.hidden.detach()[0] - 0.5, targets.hidden.detach()[0] - 0.5)
    leaves = tuple(leaf.requires_grad_() for leaf in leaves)

    def summed(*leaves: Tensor) -> Tensor:
        return SumReLU.apply(*leaves, NEIGHBOURS, SIZES)

    expected = (leaves[0][NEIGHBOURS] + leaves[1][OWNERS]).relu()
    assert (expected == 0).any()
    torch.testing.assert_close(summed(*leaves), expected)
    assert torch.autograd.gradcheck(summed, leaves)


@pytest.mark.parametrize("slots", [11, 300])
def test_maximum_of_every_group(slots: int) -> None:
    """More than 256 slots do not fit in a byte."""
    rows = case(1, slots, 3, 6).hidden[0]
    if slots == 300:
        torch.testing.assert_close(SlotMax.apply(rows, (1,) * 300), rows.amax(0, keepdim=True))
        assert torch.autograd.gradcheck(lambda rows: SlotMax.apply(rows, (1,) * 300), rows, fast_mode=True)
        return
    torch.testing.assert_close(SlotMax.apply(rows, SIZES), by_group(rows))
    assert torch.autograd.gradcheck(lambda rows: SlotMax.apply(rows, SIZES), rows - 0.01 * torch.arange(11)[:, None])


def test_layer_norm_and_maximum_of_every_group() -> None:
    given = case(1, 11, 5, 7)

    def fast(hidden: Tensor, *others: Tensor) -> Tensor:
        out: Tensor = LinearNormSlotMax.apply(hidden[0], *others, EPS, SIZES)[0]
        return out

    torch.testing.assert_close(fast(*given), by_group(plain_norm(given)[0]))
    assert torch.autograd.gradcheck(fast, tuple(given))
    found = torch.autograd.grad(fast(*given).square().sum(), given)
    expected = torch.autograd.grad(by_group(plain_norm(given)[0]).square().sum(), given)
    torch.testing.assert_close(found, expected)


def test_residual_is_added_before_the_relu() -> None:
    given = case(4, 10, 3, 7)
    residual = torch.randn(40, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()

    def fast(residual: Tensor, hidden: Tensor, *others: Tensor) -> Tensor:
        out: Tensor = linear_norm_relu(hidden.flatten(0, 1), *others, EPS, residual)[0]
        return out

    torch.testing.assert_close(fast(residual, *given), (plain_norm(given).flatten(0, 1) + residual).relu())
    assert torch.autograd.gradcheck(fast, (residual, *given), fast_mode=True)

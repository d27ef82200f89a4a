"""A linear layer, batch norm and what follows it (ReLU, or the max over points) as one operation.

A PointNet spends its training time on batch norm over `(B * N, F)` activations and on the widest layer,
whose activations exist only to have their maximum taken. Batch norm's statistics are functions of the
*input's* mean and covariance: for `x = h W'`, `mean(x) = W mean(h)` and `var(x) = diag(W cov(h) W')`. So the
norm can be folded into the weights before the product, and its gradient needs no pass over activations:
with `g` the gradient after the norm, `m = mean(h)`, `z` the normalised value, `a = scale / deviation`,

    d bias = sum g                    d scale = sum g z = diag(G W') / deviation,  G = sum g (h - m)'
    d W = a G - (a d_scale / deviation) W cov(h)
    d h = (a g) W - (a d_bias / M) W - (h - m) W' diag(a d_scale / (M deviation)) W

(Ioffe & Szegedy 2015, written for the input side). Behind a max over points, `g` has one entry per cloud
and channel, so that the wide layer's backward pass costs next to nothing and its activations are made in
pieces that fit the cache. Results equal the separate layers up to rounding. First derivatives only: use
the plain layers where a gradient must itself be differentiated (the fused ones raise).

Everything also takes networks of one architecture stacked along a leading axis, S of them: under
`torch.func.vmap` an operation is carried out once, with batched matrix products, instead of S times.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 2**21  # activations held at a time: 8 MiB, so that they stay in the cache
CACHED_ELEMENTS = 2**16  # of one buffer, where several have to stay in the second-level cache


def bf16_available() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def linear_norm_relu(
    rows: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor,
    eps: float,
    residual: Tensor | None = None,
    slope: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """`relu(batch_norm(rows @ weight.T) + residual)` in training mode.

    Args:
        rows: `(M, K)`.
        weight: `(F, K)`.
        scale, bias: `(F,)`, of the norm.
        eps: added to the variance.
        residual: `(M, F)`, if there is one.
        slope: of a leaky ReLU, below zero.

    Returns:
        values `(M, F)`, and batch mean and (biased) variance `(F,)`, both without gradient.
    """
    out, mean, variance, *_ = LinearNormReLU.apply(rows, weight, scale, bias, eps, residual, slope)  # type: ignore[no-untyped-call]
    return out, mean, variance


def linear_norm_max(
    hidden: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, eps: float, bf16: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """`max over points of batch_norm(hidden @ weight.T)` in training mode: `(B, N, K)` to `(B, F)`.

    The other arguments and results are those of `linear_norm_relu`; `bf16` as in `extreme_points`.
    """
    normalised, mean, variance, *_ = LinearNormMax.apply(hidden, weight, scale, bias, eps, bf16)  # type: ignore[no-untyped-call]
    return normalised, mean, variance


class Statistics(NamedTuple):
    """Of a linear layer's output over M rows, from its input `(..., M, K)`."""

    centre: Tensor  # (..., K) mean of the input
    projected: Tensor  # (..., F, K) weight @ cov(input)
    mean: Tensor  # (..., F)
    variance: Tensor  # (..., F) biased


def statistics(rows: Tensor, weight: Tensor) -> Statistics:
    """Mean and variance of `rows @ weight.T` without computing it."""
    centre = rows.mean(-2)
    covariance = _addmm(_outer(centre, centre), rows.mT, rows, beta=-1, alpha=1 / rows.shape[-2])
    projected = weight @ covariance
    return Statistics(centre, projected, _product(weight, centre), (projected * weight).sum(-1).clamp_min(0))


def _addmm(bias: Tensor, left: Tensor, right: Tensor, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * bias + alpha * left @ right`, of one matrix or a stack of them."""
    added = torch.addmm if left.ndim == 2 else torch.baddbmm
    return added(bias, left, right, beta=beta, alpha=alpha)


def _outer(left: Tensor, right: Tensor) -> Tensor:
    return left[..., :, None] * right[..., None, :]


def _product(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[..., None])[..., 0]


def input_gradient(
    rows: Tensor,
    weight: Tensor,
    found: Statistics,
    deviation: Tensor,
    scale: Tensor,
    grad_scale: Tensor,
    grad_bias: Tensor,
) -> Tensor:
    """The part of the gradient of `(..., M, K)` rows that comes through batch norm's own mean and variance."""
    factor = scale / deviation / rows.shape[-2]
    inner = weight.mT @ (weight * (factor * grad_scale / deviation)[..., None])
    constant = _product(inner, found.centre) - _product(weight.mT, factor * grad_bias)
    return _addmm(constant[..., None, :], rows, inner, alpha=-1)


def _stacked(batch: int, dims: tuple[int | None, ...], values: tuple[Any, ...]) -> list[Any]:
    """The arguments of a vectorised call, tensors with the stack as leading axis."""
    return [
        value
        if not isinstance(value, Tensor)
        else (value.expand(batch, *value.shape) if at is None else value.movedim(at, 0)).contiguous()
        for at, value in zip(dims, values, strict=True)
    ]


class LinearNormReLU(torch.autograd.Function):
    """See `linear_norm_relu`; also returns what the backward pass needs of the statistics."""

    @staticmethod
    def forward(
        rows: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, eps: float, residual: Tensor | None, slope: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        found = statistics(rows, weight)
        factor = scale / (found.variance + eps).sqrt()
        shift = (bias - factor * found.mean)[..., None, :]
        folded = (weight * factor[..., None]).mT
        added = _addmm(shift, rows, folded) if residual is None else _addmm(residual, rows, folded).add_(shift)
        out = torch.nn.functional.leaky_relu_(added, slope) if slope else added.relu_()
        return out, found.mean, found.variance, found.centre, found.projected

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        rows, weight, scale, _, ctx.eps, _, ctx.slope = inputs
        out, *found = output
        ctx.save_for_backward(rows, weight, scale, out, *found)
        ctx.mark_non_differentiable(*found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, scale, out, mean, variance, centre, projected = ctx.saved_tensors
        found = Statistics(centre, projected, mean, variance)
        deviation = (variance + ctx.eps).sqrt()
        if ctx.slope:  # the result has the sign of what went in
            gradient = torch.ops.aten.leaky_relu_backward(gradients[0], out, ctx.slope, True)
        else:
            gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        grad_bias = gradient.sum(-2)
        moment = _addmm(_outer(grad_bias, centre), gradient.mT, rows, beta=-1)
        grad_scale = (moment * weight).sum(-1) / deviation
        factor = (scale / deviation)[..., None]
        grad_weight = factor * (moment - (grad_scale / deviation)[..., None] * projected)
        grad_rows = None
        if ctx.needs_input_grad[0]:
            through = input_gradient(rows, weight, found, deviation, scale, grad_scale, grad_bias)
            grad_rows = _addmm(through, gradient, factor * weight)
        grad_residual = gradient if ctx.needs_input_grad[5] else None
        return grad_rows, grad_weight, grad_scale, grad_bias, None, grad_residual, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *values: Any) -> Any:
        return LinearNormReLU.apply(*_stacked(info.batch_size, in_dims, values)), (0,) * 5  # type: ignore[no-untyped-call]


class LinearNormMax(torch.autograd.Function):
    """See `linear_norm_max`; also returns what the backward pass needs."""

    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, eps: float, bf16: bool
    ) -> tuple[Tensor, ...]:
        found = statistics(hidden.flatten(-3, -2), weight)
        sign = torch.where(scale >= 0, 1.0, -1.0).to(hidden.dtype)
        values, places = extreme_points(hidden, weight, sign, bf16)
        deviation = (found.variance + eps).sqrt()
        normalised = (values - found.mean[..., None, :]) / deviation[..., None, :]
        out = normalised * scale[..., None, :] + bias[..., None, :]
        return out, found.mean, found.variance, found.centre, found.projected, normalised, places

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        hidden, weight, scale, _, ctx.eps, _ = inputs
        ctx.save_for_backward(hidden, weight, scale, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        hidden, weight, scale, mean, variance, centre, projected, normalised, places = ctx.saved_tensors
        found = Statistics(centre, projected, mean, variance)
        deviation = (variance + ctx.eps).sqrt()
        gradient = gradients[0]
        grad_bias = gradient.sum(-2)
        grad_scale = (gradient * normalised).sum(-2)
        factor = scale / deviation
        rows = hidden.flatten(-3, -2)
        every, channels = rows.reshape(-1, rows.shape[-1]), weight.reshape(-1, weight.shape[-1])
        # Rows of the whole stack: its clouds lie one after the other.
        clouds, outputs = places.numel() // weight.shape[-2], weight.shape[-2]
        offset = torch.arange(clouds, device=places.device) * hidden.shape[-2]
        flat = places + offset.view(*places.shape[:-1], 1)
        moment = _weighted_sums(every, flat.mT.reshape(-1, flat.shape[-2]), gradient.mT.reshape(-1, flat.shape[-2]))
        moment = moment.view_as(weight) - _outer(grad_bias, centre)
        grad_weight = factor[..., None] * (moment - (grad_scale / deviation)[..., None] * projected)
        grad_rows = input_gradient(rows, weight, found, deviation, scale, grad_scale, grad_bias)
        order = flat.flatten().argsort()
        ends = occurrences(flat.flatten(), len(every)).cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        pulls = (gradient * factor[..., None, :]).flatten()[order]
        block = places.shape[-2] * outputs  # entries of one network
        own = order % outputs + order // block * outputs
        grad_rows += _weighted_sums(channels, own, pulls, starts).view_as(grad_rows)
        return grad_rows.view_as(hidden), grad_weight, grad_scale, grad_bias, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *values: Any) -> Any:
        return LinearNormMax.apply(*_stacked(info.batch_size, in_dims, values)), (0,) * 7  # type: ignore[no-untyped-call]


class LinearNormPool(torch.autograd.Function):
    """Max and mean over points of `leaky_relu(batch_norm(hidden @ weight.T))`, with batch mean and variance.

    The mean pulls at every point, so that here the products themselves are kept, normalised and channel by channel:
    batch norm and both poolings are then done on a few channels at a time, in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, eps: float, slope: float, bf16: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        clouds, points, width = hidden.shape
        rows = hidden.reshape(-1, width)
        if bf16:
            rows, weight = rows.bfloat16(), weight.bfloat16()
        values = (weight @ rows.T).to(hidden.dtype).view(-1, clouds, points)
        mean, variance = torch.empty_like(scale), torch.empty_like(scale)
        largest, average = hidden.new_empty(2, len(weight), clouds)
        places = torch.empty(len(weight), clouds, dtype=torch.int64, device=hidden.device)
        for part in _channels(values):
            value = values[part]
            mean[part] = value.mean((1, 2))
            variance[part] = value.sub_(mean[part, None, None]).square().mean((1, 2))
            value /= (variance[part, None, None] + eps).sqrt()
            activated = _activated(value, scale[part], bias[part], slope)
            average[part] = activated.mean(2)
            places[part] = _argmax(activated)
            largest[part] = activated.gather(2, places[part, :, None])[..., 0]
        ctx.save_for_backward(rows, weight, scale, bias, (variance + eps).sqrt(), values, places)
        ctx.slope = slope
        ctx.mark_non_differentiable(mean, variance)
        return largest.T, average.T, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, scale, bias, deviation, values, places = ctx.saved_tensors
        at_largest, at_all = gradients[0].T[..., None], gradients[1].T[..., None] / values.shape[2]
        grad_scale, grad_bias = torch.empty_like(scale), torch.empty_like(bias)
        pulled = torch.empty_like(values, dtype=weight.dtype)
        for part in _channels(values):
            value = values[part]
            pull = at_all[part].expand_as(value).clone().scatter_add_(2, places[part, :, None], at_largest[part])
            activated = _activated(value, scale[part], bias[part], ctx.slope)
            pull = torch.ops.aten.leaky_relu_backward(pull, activated, ctx.slope, True)
            grad_bias[part] = pull.sum((1, 2))
            grad_scale[part] = (pull * value).sum((1, 2))
            pull -= grad_bias[part, None, None] / len(rows)
            pull.addcmul_(value, grad_scale[part, None, None] / len(rows), value=-1)
            pulled[part] = pull.mul_((scale[part] / deviation[part])[:, None, None])
        flat = pulled.view(len(weight), -1)
        grad_hidden = (flat.T @ weight).to(values.dtype).view(*values.shape[1:], -1)
        return grad_hidden, (flat @ rows).to(values.dtype), grad_scale, grad_bias, None, None, None


def _channels(values: Tensor) -> list[slice]:
    """Slices of the channels of `(F, B, N)` that fit the cache."""
    step = max(1, CACHED_ELEMENTS // values[0].numel())
    return [slice(start, start + step) for start in range(0, len(values), step)]


def _activated(values: Tensor, scale: Tensor, bias: Tensor, slope: float) -> Tensor:
    return torch.nn.functional.leaky_relu_(torch.addcmul(bias[:, None, None], values, scale[:, None, None]), slope)


def _weighted_sums(rows: Tensor, index: Tensor, weights: Tensor, starts: Tensor | None = None) -> Tensor:
    """Sums of `weights * rows[index]` along the last axis of `index`, or over the runs that begin at `starts`.

    The embedding bag is the one gather-multiply-add that torch fuses: 20 times faster than the separate steps.
    """
    index, weights = index.contiguous(), weights.contiguous()
    return torch.nn.functional.embedding_bag(index, rows, starts, per_sample_weights=weights, mode="sum")


def occurrences(index: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size - 1 is in `index` `(N,)`: `(size,)` int64."""
    if index.device.type == "cpu" and not torch.compiler.is_exporting():
        return torch.bincount(index, minlength=size)
    return index.new_zeros(size).scatter_add_(0, index, torch.ones_like(index))  # without waiting to learn the largest


def extreme_points(hidden: Tensor, weight: Tensor, sign: Tensor, bf16: bool = False) -> tuple[Tensor, Tensor]:
    """Largest value over points of `sign * (hidden @ weight.T)` and where it is.

    Args:
        hidden: `(B, N, K)`, or `(S, B, N, K)` of a stack.
        weight: `(F, K)`, or `(S, F, K)`.
        sign: `(F,)` of +1 and -1, or `(S, F)`.
        bf16: multiply in bfloat16 to find the place; the value is then computed again in full precision.

    Returns:
        values `(B, F)` of `hidden @ weight.T` at the extreme (sign taken off again) and indices `(B, F)` int64; with
        a leading S of a stack.
    """
    if hidden.ndim == 4:
        found = [extreme_points(*one, bf16) for one in zip(hidden, weight, sign, strict=True)]
        return torch.stack([values for values, _ in found]), torch.stack([places for _, places in found])
    clouds, points, _ = hidden.shape
    signed = weight * sign[:, None]
    chunk = max(1, CHUNK_ELEMENTS // (points * len(weight)))
    values = hidden.new_empty(clouds, len(weight))
    places = torch.empty(clouds, len(weight), dtype=torch.int64, device=hidden.device)
    for start in range(0, clouds, chunk):
        part = hidden[start : start + chunk]
        if bf16:
            place = _argmax((signed.bfloat16() @ part.bfloat16().transpose(1, 2)).float())
            for cloud, spots in enumerate(place):  # one at a time stays in the cache
                values[start + cloud] = part[cloud].index_select(0, spots).mul_(signed).sum(1)
        else:
            product = signed @ part.transpose(1, 2)
            place = _argmax(product)
            values[start : start + chunk] = product.gather(2, place[..., None])[..., 0]
        places[start : start + chunk] = place
    return values * sign, places


def _argmax(values: Tensor) -> Tensor:
    if values.device.type != "cpu" or torch.compiler.is_exporting():
        return values.argmax(-1)
    # NumPy's argmax is vectorised, torch's on the CPU is not: 1.5 ms against 7.7 ms for 8 clouds of 1024 x 1024.
    return torch.from_numpy(values.numpy().argmax(-1))

"""The operations of `layers.fused` for groups of points of different sizes, whose rows lie in slots.

A slot holds the s-th row of every group that has so many: the groups are sorted by their size, the largest first, so
that those of a slot are the first ones.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pcdistill.models.layers.fused import Statistics, input_gradient, statistics


class SumReLU(torch.autograd.Function):
    """`relu(sources[neighbours] + targets[owners])` where owners are the first groups of every slot.

    `(N, F)` and `(G, F)` to rows `(R, F)`. A slot holds the s-th neighbour of every group that has so many; `sizes`
    are the rows of each, G first and never rising.
    """

    @staticmethod
    def forward(ctx: Any, sources: Tensor, targets: Tensor, neighbours: Tensor, sizes: tuple[int, ...]) -> Tensor:
        out = sources.index_select(0, neighbours)
        for size, part in zip(sizes, out.split(sizes), strict=True):
            part += targets[:size]
        out.relu_()
        ctx.save_for_backward(out, neighbours)
        ctx.sizes, ctx.count = sizes, len(sources)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        out, neighbours = ctx.saved_tensors
        gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        grad_sources = gradient.new_zeros(ctx.count, gradient.shape[1]).index_add_(0, neighbours, gradient)
        grad_targets = gradient[: ctx.sizes[0]].clone()
        for size, part in zip(ctx.sizes[1:], gradient[ctx.sizes[0] :].split(ctx.sizes[1:]), strict=True):
            grad_targets[:size] += part
        return grad_sources, grad_targets, None, None


class SlotMax(torch.autograd.Function):
    """Max over the rows of every group, `(R, F)` to `(G, F)`; of equal ones the first has the gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
        best, slots = _first_slot(rows[: sizes[0]].clone(), sizes)
        for slot, part in enumerate(rows.split(sizes)[1:], start=1):
            _keep_larger(best, slots, part, slot)
        ctx.save_for_backward(slots)
        ctx.sizes = sizes
        return best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        (slots,) = ctx.saved_tensors
        return torch.cat([_of_slot(gradients[0], slots, slot, size) for slot, size in enumerate(ctx.sizes)]), None


class LinearNormSlotMax(torch.autograd.Function):
    """`LinearNormMax` over groups of different sizes: rows `(R, K)` in slots (as in `SumReLU`) to `(G, F)`.

    Products are made a slot at a time and compared while they are in the cache. With few rows per group a
    masked product per slot is a faster gradient than sorting the places of the maxima.
    """

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, weight: Tensor, scale: Tensor, bias: Tensor, eps: float, sizes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        found = statistics(rows, weight)
        deviation = (found.variance + eps).sqrt()
        values, slots = extreme_slots(rows, weight, torch.where(scale >= 0, 1.0, -1.0).to(rows.dtype), sizes)
        normalised = (values - found.mean) / deviation
        ctx.save_for_backward(rows, weight, scale, deviation, normalised, slots, *found)
        ctx.mark_non_differentiable(found.mean, found.variance)
        ctx.sizes = sizes
        return normalised * scale + bias, found.mean, found.variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        rows, weight, scale, deviation, normalised, slots, *kept = ctx.saved_tensors
        found = Statistics(*kept)
        gradient = gradients[0]
        grad_bias = gradient.sum(0)
        grad_scale = (gradient * normalised).sum(0)
        factor = (scale / deviation)[:, None]
        moment = -torch.outer(grad_bias, found.centre)
        grad_rows = input_gradient(rows, weight, found, deviation, scale, grad_scale, grad_bias)
        pulls = factor * weight
        for slot, (part, grad_part) in enumerate(zip(rows.split(ctx.sizes), grad_rows.split(ctx.sizes), strict=True)):
            pulled = _of_slot(gradient, slots, slot, len(part))
            moment.addmm_(pulled.T, part)
            grad_part.addmm_(pulled, pulls)
        grad_weight = factor * (moment - (grad_scale / deviation)[:, None] * found.projected)
        return grad_rows, grad_weight, grad_scale, grad_bias, None, None


def extreme_slots(rows: Tensor, weight: Tensor, sign: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Largest of `sign * (rows @ weight.T)` in every group (sign taken off again), and its slot, both `(G, F)`."""
    signed = (weight * sign[:, None]).T
    first, *others = rows.split(sizes)
    best, slots = _first_slot(first @ signed, sizes)
    buffer = torch.empty_like(best)
    for slot, part in enumerate(others, start=1):
        _keep_larger(best, slots, torch.mm(part, signed, out=buffer[: len(part)]), slot)
    return best * sign, slots


def _first_slot(values: Tensor, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """`(G, F)` values of the first slot and their slot numbers, in the smallest type that holds them all."""
    return values, torch.zeros_like(values, dtype=torch.uint8 if len(sizes) <= 256 else torch.int32)


def _keep_larger(best: Tensor, slots: Tensor, part: Tensor, slot: int) -> None:
    """Compare the groups that have a row in this slot, in place."""
    head, place = best[: len(part)], slots[: len(part)]
    torch.maximum(place, (part > head).to(slots.dtype) * slot, out=place)  # masked_fill is ten times as slow
    torch.maximum(head, part, out=head)


def _of_slot(gradient: Tensor, slots: Tensor, slot: int, size: int) -> Tensor:
    """The gradient where the maximum is in this slot, else zero."""
    return gradient[:size] * (slots[:size] == slot)

"""Quantile profiles: what a set of numbers looks like, whatever its size and order."""

from functools import lru_cache

import torch
from torch import Tensor


def quantile_profile(values: Tensor, count: int) -> Tensor:
    """Mean of the quantile function of each set over `count` equal parts of [0, 1].

    Args:
        values: `(..., N)`: sets of N numbers in any order; fastest when contiguous.
        count: Q, any number, also more than N.

    Returns:
        `(..., Q)`, ascending. With Q = N this is the sorted set, with Q = 1 its mean; a group boundary that
        falls inside a point shares the point out. Profiles of sets of unequal size can be compared.
        Differentiable (the order is constant almost everywhere).
    """
    ordered = ascending(values)
    return ordered if values.shape[-1] == count else ordered @ quantile_shares(values.shape[-1], count).to(values)


def ascending(values: Tensor) -> Tensor:
    """Sets `(..., N)` of numbers in order; differentiable, as the order is constant almost everywhere.

    NumPy finds the order in vectors, torch on a processor one by one.
    """
    if values.device.type != "cpu":
        return values.sort(dim=-1).values
    return values.gather(-1, torch.from_numpy(values.detach().numpy().argsort(axis=-1)))


@lru_cache(maxsize=64)
def quantile_shares(points: int, count: int) -> Tensor:
    """`(N, Q)` float64: the share of sorted point n in quantile group q; columns sum to 1."""
    # In units of 1 / (N Q) all boundaries are whole numbers, so that shares of nothing are exactly zero.
    point = torch.arange(points)[:, None] * count
    group = torch.arange(count) * points
    overlap = torch.minimum(point + count, group + points) - torch.maximum(point, group)
    return overlap.clamp_min(0).double() / points

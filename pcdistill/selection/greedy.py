"""Choosing one by one what gains most, where gains only fall as more is chosen: coverage, as most coresets want it."""

from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.core.errors import InputError

# Power of the bytes that a gain is divided by. One, the gain per byte, takes the plainest shapes and twice as many
# (docs/notebook/14-voxels.md).
POWER = 0.5


class Covered(NamedTuple):
    """What was chosen, in order, and what each gained over those before it, for the root of its cost."""

    chosen: Tensor  # (count,) int64
    gains: Tensor  # (count,) float64


def cover(affinity: Tensor, count: int, costs: Tensor | None = None) -> Covered:
    """Greedily the columns that raise the sum of the rows' greatest entries among them most, for the root of its cost.

    Facility location: monotone and submodular, so that with equal costs the sum is at least 1 - 1/e of the largest one
    (Nemhauser et al. 1978). Gains are reckoned anew only where an old one, which is an upper bound, is the largest
    (Leskovec et al. 2007); the choice is that of the greedy method to the bit. Ties go to the lowest index.

    Args:
        affinity: `(n, m)` float64, 0 or more: what row i gets of column j. Nothing chosen gives 0.
        count: columns to choose, up to m.
        costs: `(m,)`, positive; None: all equal.
    """
    columns = affinity.T.contiguous().numpy()
    worth = np.ones(len(columns)) if costs is None else expense(costs, len(columns)).numpy()
    got = np.zeros(columns.shape[1])
    bounds = [(-np.inf, column) for column in range(len(columns))]
    heapify(bounds)
    reckoned = np.full(len(columns), -1)  # how many were chosen when the bound was reckoned
    chosen: list[int] = []
    gains: list[float] = []
    while len(chosen) < count:
        bound, column = heappop(bounds)
        if reckoned[column] == len(chosen):
            chosen.append(column)
            gains.append(-bound)
            np.maximum(got, columns[column], out=got)
        else:
            gain = np.maximum(columns[column] - got, 0).sum() / worth[column]
            reckoned[column] = len(chosen)
            heappush(bounds, (-gain, column))
    return Covered(torch.tensor(chosen), torch.tensor(gains, dtype=torch.float64))


def foremost(gains: Tensor, count: int, costs: Tensor | None = None) -> Tensor:
    """`(count,)` indices of the largest of independent gains `(n,)`, 0 or more, for the root of their cost.

    Ties go to the lowest index.
    """
    worth = gains.double() if costs is None else gains.double() / expense(costs, len(gains))
    return worth.argsort(descending=True, stable=True)[:count]


def expense(costs: Tensor, clouds: int) -> Tensor:
    """What gains are divided by, `(n,)` float64: the root of `costs`.

    Raises:
        InputError: costs of another shape, or not all positive.
    """
    costs = costs.detach().cpu().double()
    if costs.shape != (clouds,) or not bool((costs > 0).all()):
        raise InputError("selection", f"costs of shape {tuple(costs.shape)}", f"({clouds},), all positive")
    return costs**POWER

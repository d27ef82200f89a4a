"""Medoids: clouds such that the others are near one of them on average."""

import torch
from torch import Tensor

from pcdistill.selection.base import distances, exact_features, selectors

# Local optima are reached after far fewer swaps; the bound only rules out a run without end.
SWAPS_PER_MEDOID = 10


@selectors.register("medoid", cites=("kaufman1990pam", "schubert2019fasterpam"))
def select_medoid(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-medoids: minimise the sum of Euclidean distances of all clouds to their nearest chosen one.

    Greedy construction (facility location), then the best swap of a chosen for another cloud while
    one lowers the cost: PAM (Kaufman & Rousseeuw 1990), each round at the price of one pass over
    the distances (Schubert & Rousseeuw 2019). The result is ordered greedily, so that its first k
    are the best k to begin with, though not the medoids of k. Memory O(n^2). See `Selector`.
    """
    distance = distances(exact_features(features, count))
    chosen = _swap(distance, _greedy(distance, count)).sort().values
    return chosen[_greedy(distance[:, chosen], count)]


def _greedy(distance: Tensor, count: int) -> Tensor:
    """Columns of `(n, m)` chosen one by one, each lowering the sum of the row minima most.

    What `greedy.cover` chooses of nearness, but for rounding: sets and records rest on these sums.
    """
    nearest = torch.full_like(distance[:, :1], torch.inf)
    taken = torch.zeros(distance.shape[1], dtype=torch.bool)
    chosen = torch.empty(count, dtype=torch.int64)
    for turn in range(count):
        best = torch.minimum(distance, nearest).sum(dim=0).masked_fill(taken, torch.inf).argmin()
        chosen[turn] = best
        taken[best] = True
        nearest = torch.minimum(nearest, distance[:, best, None])
    return chosen


def _swap(distance: Tensor, chosen: Tensor) -> Tensor:
    """Replace one chosen column at a time by another, the best such swap first, while the cost falls."""
    for _ in range(SWAPS_PER_MEDOID * len(chosen)):
        costs = _swap_costs(distance, chosen)
        best = int(costs.argmin())
        cost = distance[:, chosen].amin(dim=1).sum()
        if costs.view(-1)[best] >= cost * (1 - 1e-12):  # less is rounding
            break
        chosen = chosen.clone()
        chosen[best // len(distance)] = best % len(distance)
    return chosen


def _swap_costs(distance: Tensor, chosen: Tensor) -> Tensor:
    """`(count, n)`: the cost after chosen column i has given way to column j.

    A cloud keeps its nearest medoid, or, where that is the one to go, its second nearest; or it
    takes the newcomer where that is nearer.
    """
    ranked, order = distance[:, chosen].sort(dim=1, stable=True)
    first = ranked[:, :1]
    second = ranked[:, 1:2] if len(chosen) > 1 else torch.full_like(first, torch.inf)
    kept = torch.minimum(distance, first)
    loss = torch.minimum(distance, second) - kept
    return kept.sum(dim=0) + loss.new_zeros(len(chosen), len(distance)).index_add_(0, order[:, 0], loss)

"""Thrift: clouds that stand for many others and take few bytes."""

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.selection.base import exact_features, selectors

# Power of the bytes that a gain is divided by. One, the gain per byte, takes the plainest shapes and twice as many
# (docs/notebook/14-voxels.md).
POWER = 0.5


@selectors.register("thrift", cites=("leskovec2007celf",))
def select_thrift(features: Tensor, count: int, generator: torch.Generator, costs: Tensor | None = None) -> Tensor:
    """Greedily the cloud that brings the others nearest to a chosen one, for the root of its bytes.

    The sum of Euclidean distances of all clouds to their nearest chosen one, as for `medoid`, where a cloud without one
    is as far as the farthest two; what a cloud takes off it is divided by the root of `costs`, `(n,)`, what storing it
    takes. With equal costs this is the greedy construction of medoids. Leskovec et al., "Cost-effective outbreak
    detection in networks", 2007, who divide by the cost itself. Memory O(n^2). See `Selector`.

    Raises:
        InputError: also costs that are not positive.
    """
    features = exact_features(features, count)
    weights = torch.ones(len(features), dtype=torch.float64) if costs is None else costs.detach().double()
    if weights.shape != (len(features),) or not bool((weights > 0).all()):
        raise InputError("selection", f"costs of shape {tuple(weights.shape)}", f"({len(features)},), all positive")
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.max().expand(len(features), 1)
    taken = torch.zeros(len(features), dtype=torch.bool)
    chosen = []
    for _ in range(count):
        gains = (nearest - torch.minimum(distance, nearest)).sum(0) / weights**POWER
        best = int(gains.masked_fill(taken, -1).argmax())
        chosen.append(best)
        taken[best] = True
        nearest = torch.minimum(nearest, distance[:, best, None])
    return torch.tensor(chosen)

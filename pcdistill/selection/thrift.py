"""Thrift: clouds that stand for many others and take few bytes."""

import torch
from torch import Tensor

from pcdistill.selection.base import distances, exact_features, selectors
from pcdistill.selection.greedy import cover


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
    distance = distances(exact_features(features, count))
    return cover(distance.max() - distance, count, costs).chosen

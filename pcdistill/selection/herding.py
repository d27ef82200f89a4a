"""Herding: clouds whose running mean follows the mean of the class."""

import torch
from torch import Tensor

from pcdistill.selection.base import exact_features, selectors


@selectors.register("herding", cites=("welling2009herding",))
def select_herding(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Greedily the cloud that brings the mean of the chosen features nearest to the mean of all.

    Welling, "Herding dynamical weights to learn", 2009, without repetition, as in iCaRL (Rebuffi et
    al. 2017), whose L2 normalisation is `network_descriptor`'s. Time O(count n D). See `Selector`.
    """
    features = exact_features(features, count)
    offset = features - features.mean(dim=0)  # the target mean is now zero
    total = torch.zeros_like(offset[0])
    free = torch.ones(len(features), dtype=torch.bool)
    chosen = []
    for _ in range(count):
        miss = (total + offset).square().sum(dim=1).where(free, torch.inf)
        best = int(miss.argmin())
        chosen.append(best)
        free[best] = False
        total += offset[best]
    return torch.tensor(chosen)

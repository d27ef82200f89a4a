"""k-center: clouds such that no other is far from all of them."""

import torch
from torch import Tensor

from pcdistill.selection.base import exact_features, selectors


@selectors.register("kcenter", cites=("sener2018coreset", "gonzalez1985kcenter"))
def select_kcenter(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The cloud nearest to the class mean, then always the one farthest from all chosen.

    Greedy k-center of Sener & Savarese, "Active learning for convolutional neural networks: a
    core-set approach", 2018. The start makes it equal to herding at one cloud, as in published
    tables. Time O(count n D). See `Selector`.
    """
    features = exact_features(features, count)
    chosen = [int((features - features.mean(dim=0)).square().sum(dim=1).argmin())]
    gap = torch.full((len(features),), torch.inf, dtype=features.dtype)
    while len(chosen) < count:
        gap = torch.minimum(gap, (features - features[chosen[-1]]).square().sum(dim=1))
        gap[chosen[-1]] = -1  # below any distance: never again
        chosen.append(int(gap.argmax()))
    return torch.tensor(chosen)

"""Random choice: the baseline."""

import torch
from torch import Tensor

from pcdistill.selection.base import exact_features, selectors


@selectors.register("random", cites=())
def select_random(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Uniform choice without replacement; of the features only their number matters. See `Selector`."""
    exact_features(features, count)
    return torch.randperm(len(features), generator=generator)[:count]

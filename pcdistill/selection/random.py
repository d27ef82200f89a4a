"""Random choice: the baseline."""

import torch
from torch import Tensor

from pcdistill.selection.base import checked, selectors


@selectors.register("random")
def select_random(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Uniform choice without replacement; of the features only their number matters. See `Selector`."""
    checked(features, count)
    return torch.randperm(len(features), generator=generator)[:count]

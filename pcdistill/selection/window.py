"""A window of difficulty: clouds that are hard, but not the hardest."""

import torch
from torch import Tensor

from pcdistill.selection.base import compares_trained, exact_features, selectors, without_hardest
from pcdistill.selection.greedy import foremost

SKIP = 0.25  # from a validation split (docs/notebook/02-selection.md)


@selectors.register("window", cites=("lee2024selmatch", "paul2021el2n"))
@compares_trained
def select_window(
    features: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    el2n: Tensor,
    costs: Tensor | None = None,
    skip: float = SKIP,
) -> Tensor:
    """The hardest clouds after a share of the class, by EL2N, has been left out.

    Lee & Chung, "SelMatch: effectively scaling up dataset distillation", 2024, whose clouds in order of difficulty are
    passed by a window. On images, the smaller the part that is kept, the easier it has to be. The score is divided by
    the root of the bytes. See `Selector`.
    """
    exact_features(features, count)
    left = without_hardest(el2n, skip, count)
    return left[foremost(el2n[left], count, None if costs is None else costs[left])]

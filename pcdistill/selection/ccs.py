"""CCS: clouds of every difficulty."""

import torch
from torch import Tensor

from pcdistill.selection.base import compares_trained, exact_features, selectors, without_hardest
from pcdistill.selection.greedy import expense

STRATA = 50
SKIP = 0.0  # from a validation split (docs/notebook/02-selection.md)


@selectors.register("ccs", cites=("zheng2023ccs", "pleiss2020aum"))
@compares_trained
def select_ccs(
    features: Tensor,
    count: int,
    generator: torch.Generator,
    *,
    aum: Tensor,
    costs: Tensor | None = None,
    skip: float = SKIP,
) -> Tensor:
    """Random clouds, equally many of every stratum of difficulty; of the hardest some may be left out first (`skip`).

    Coverage-centric coreset selection (Zheng et al. 2023): the range of the area under the margin is cut into 50 strata
    of equal width; those that hold fewer clouds than their share leave it to the others. Strata take turns, in a random
    order. Where bytes are weighed, a cloud of a stratum is the likelier to come first, the smaller the root of its
    bytes. See `Selector`.
    """
    exact_features(features, count)
    left = without_hardest(-aum, skip, count)
    scores = aum[left].double()
    low, high = scores.min(), scores.max()
    strata = ((scores - low) / (high - low).clamp_min(1e-12) * STRATA).long().clamp_max(STRATA - 1)
    waits = -torch.rand(len(left), generator=generator, dtype=torch.float64).log()  # of independent arrivals
    if costs is not None:
        waits *= expense(costs[left], len(left))
    order = waits.argsort(stable=True)
    turns = torch.empty_like(order)
    for stratum in strata.unique():
        own = order[strata[order] == stratum]
        turns[own] = torch.arange(len(own))
    first = torch.randperm(STRATA, generator=generator)[strata]
    return left[(turns * STRATA + first).argsort()[:count]]

"""AUM: the clouds that networks keep taking for another class."""

import torch
from torch import Tensor

from pcdistill.selection.base import compares_trained, exact_features, selectors
from pcdistill.selection.greedy import foremost


@selectors.register("aum", cites=("pleiss2020aum",))
@compares_trained
def select_aum(
    features: Tensor, count: int, generator: torch.Generator, *, aum: Tensor, costs: Tensor | None = None
) -> Tensor:
    """The hardest clouds: those with the smallest area under the margin.

    Pleiss et al., "Identifying mislabeled data using the area under the margin ranking", 2020, who leave these clouds
    out; selection by difficulty keeps them. Where bytes are weighed, the logistic function of the negative margin is
    divided by their root. See `Selector`.
    """
    exact_features(features, count)
    return foremost((-aum.double()).sigmoid(), count, costs)

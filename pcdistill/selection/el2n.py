"""EL2N: the clouds that networks err most about."""

import torch
from torch import Tensor

from pcdistill.selection.base import compares_trained, exact_features, selectors
from pcdistill.selection.greedy import foremost


@selectors.register("el2n", cites=("paul2021el2n",))
@compares_trained
def select_el2n(
    features: Tensor, count: int, generator: torch.Generator, *, el2n: Tensor, costs: Tensor | None = None
) -> Tensor:
    """The hardest clouds: those whose probabilities are farthest from their class early in training.

    Paul et al., "Deep learning on a data diet", 2021. Meant for keeping most of a set; where little is kept, the
    hardest clouds are the odd and the mislabelled ones. The score is divided by the root of the bytes. See `Selector`.
    """
    exact_features(features, count)
    return foremost(el2n, count, costs)

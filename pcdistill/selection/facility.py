"""Facility location: clouds that are like all others, in the eyes of trained networks."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcdistill.selection.base import compares_trained, distances, exact_features, selectors
from pcdistill.selection.greedy import cover

SIGMA = 0.5
"""Width of the kernel between features of norm 1, as in 3D-Pruner."""


@selectors.register("facility", cites=("zhao2026pruner", "leskovec2007celf", "nemhauser1978submodular"))
@compares_trained
def select_facility(features: Tensor, count: int, generator: torch.Generator, *, costs: Tensor | None = None) -> Tensor:
    """Greedily the cloud that makes the others most like a chosen one, for the root of its bytes.

    The sum of a Gaussian kernel between each cloud and the chosen one that is most like it, of features scaled to norm
    1: 3D-Pruner (Zhao et al., "Exploring 3D dataset pruning", 2026) within a class; its shares of the classes are quota
    `gain`. The kernel saturates: unlike for `medoid`, a cloud far from all others counts little more than one that is
    not so near. Memory O(n^2). See `Selector`.
    """
    return cover(likeness(exact_features(features, count)), count, costs).chosen


def likeness(features: Tensor) -> Tensor:
    """`(n, n)` Gaussian kernel of features `(n, D)`, each scaled to norm 1."""
    return (-distances(normalize(features)).square() / (2 * SIGMA**2)).exp()

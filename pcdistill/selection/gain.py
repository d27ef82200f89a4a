"""How many clouds each class gets, where they go to the classes that gain most by one more: quota `gain`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource
from pcdistill.selection.choose import Describe, Watch, candidates_of
from pcdistill.selection.facility import likeness
from pcdistill.selection.greedy import cover

FLOOR = 0.5
"""Part of the clouds that all classes share evenly, before the others go where they gain most."""


def class_gains(clouds: CloudSource, watched: Watch, *, costs: Describe | None = None, seed: int = 0) -> list[Tensor]:
    """What the first, the second, ... cloud of every class gains, as `facility` chooses them.

    Args:
        clouds: the set; of large classes the candidates are looked at, as by `select`.
        watched: what trainings tell of every cloud of a set.
        costs: what storing every cloud of a set takes; gains are divided by its root. None: all the same.
        seed: that candidates are drawn by.

    Returns:
        Of every class `(n,)` float64, descending.
    """
    part = candidates_of(clouds, seed)
    features, priced = watched(part).features.double(), None if costs is None else costs(part)
    gains = []
    for label in range(len(clouds.class_names)):
        own = (part.hard_labels == label).nonzero()[:, 0]
        found = cover(likeness(features[own]), len(own), None if priced is None else priced[own])
        # Per byte, a cloud may gain more than one chosen before it, but it cannot come before that one.
        gains.append(found.gains.cummin(0).values)
    return gains


def counts_by_gain(level: float, gains: Sequence[Tensor]) -> tuple[int, ...]:
    """Clouds of every class: half of them shared evenly, the others where they gain most (3D-Pruner, Zhao et al. 2026).

    The paper's greedy choice among all classes lets clouds stand for those of other classes as well; here they stand
    for their own class, so that the choice within a class is the same under every quota.

    Args:
        level: clouds of a class on average.
        gains: of every class, as `class_gains` gives them.

    Returns:
        At least one of every class that has one, and never more than it has.
    """
    sizes = [len(own) for own in gains]
    counts = [min(size, max(1, int(FLOOR * level))) for size in sizes]
    left = round(level * len(sizes)) - sum(counts)
    rest = torch.cat([own[count:] for own, count in zip(gains, counts, strict=True)])
    classes = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes) - torch.tensor(counts))
    best = rest.argsort(descending=True, stable=True)[: max(0, left)]
    more = torch.bincount(classes[best], minlength=len(sizes)).tolist()
    return tuple(count + own for count, own in zip(counts, more, strict=True))

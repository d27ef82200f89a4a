"""Clouds made from stored ones when they are read: more to train on, at no byte.

What is drawn follows from the clouds and the seed, so that an artefact need only say how (`Metadata.expansion`).
"""

import hashlib
from dataclasses import replace
from typing import Annotated, Self

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn.functional import one_hot

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.geometry import assign, gather_points

SHARES = (0.3, 0.7)  # of the first of two clouds: nearer to an end there would be little new
# Files are not trusted: what they may ask for.
MOST_TIMES = 64  # clouds made of one, itself included
MOST_POINTS = 4096  # of clouds that are assigned to one another (a square matrix)
MOST_NUMBERS = 2**28  # coordinates and soft labels of the result: a gigabyte

Times = Annotated[int, Field(ge=0, lt=MOST_TIMES)]


class Expansion(Options):
    """What is made of every stored cloud; every field at its default makes nothing. A cloud becomes `times` clouds.

    Attributes:
        interpolate: clouds per stored one on the way to random others of its class, with a share of it uniform in
            `SHARES`. Points are paired as in PointMixup (Chen et al. 2020): one to one, so that the sum of distances
            is least. A cloud alone in its class gives none, as its partner would be itself.
        mixup: the same to clouds of other classes: PointMixup itself, but for the distribution of the share. The soft
            label is the mixture of both in that share; the class it stands under is the stored cloud's.
        seed: of the draws.
    """

    model_config = ConfigDict(strict=True)

    interpolate: Times = 0
    mixup: Times = 0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.times > MOST_TIMES:
            raise ValueError(f"makes {self.times} clouds of one, expected at most {MOST_TIMES}")
        return self

    @property
    def times(self) -> int:
        """Clouds that one becomes, itself included."""
        return 1 + self.interpolate + self.mixup

    @property
    def nothing(self) -> bool:
        """Whether clouds stay as they are."""
        return self.times == 1

    def nbytes(self, clouds: int, points: int) -> int:
        """Bytes of the coordinates that `clouds` clouds of `points` points become."""
        return 0 if self.nothing else 4 * 3 * clouds * self.times * points

    def check(self, clouds: int, points: int, classes: int, place: object = "expansion") -> None:
        """Raise `InputError` unless `clouds` clouds of `points` points can be expanded, in bounded memory."""
        if self.nothing:
            return
        if points > MOST_POINTS:
            raise InputError(place, f"clouds of {points} points to pair", f"at most {MOST_POINTS}")
        size = clouds * self.times * (3 * points + classes)
        if size > MOST_NUMBERS:
            raise InputError(place, f"{size} coordinates and labels in the result", f"at most {MOST_NUMBERS}")


def expand(clouds: PointClouds, expansion: Expansion) -> PointClouds:
    """`clouds` with all that `expansion` makes of them; on one machine the same bits every time.

    Returns:
        Clouds class by class, in every class the given ones first and in their order. Labels are soft, and `classes`
        is set, if the given ones are soft or clouds of different classes are mixed. The given clouds themselves if
        nothing is made.

    Raises:
        InputError: as `Expansion.check`.
    """
    if expansion.nothing:
        return clouds
    expansion.check(len(clouds), clouds.points_per_cloud, clouds.num_classes)
    if clouds.parts is not None and expansion.mixup:
        raise InputError("expansion", "mixup of clouds with parts", "interpolate: their classes have other parts")
    given = clouds.parts
    points, labels, classes = clouds.points.detach(), clouds.labels.detach(), clouds.hard_labels
    if expansion.mixup and labels.ndim == 1:
        labels = one_hot(labels, clouds.num_classes).to(torch.float32)
    made = [(points, labels, classes)]
    named = [] if given is None else [given]
    for purpose, count, same in (("interpolate", expansion.interpolate, True), ("mixup", expansion.mixup, False)):
        generator = _generator(purpose, expansion.seed)
        own, other = _pairs(classes, count, same, generator)
        low, high = SHARES
        share = low + (high - low) * torch.rand(len(own), generator=generator)
        mixed = labels[own] if labels.ndim == 1 else torch.lerp(labels[other], labels[own], share[:, None])
        partners = _partners(points, own, other)
        made.append((_between(points, own, other, partners, share), mixed, classes[own]))
        if given is not None:  # a point between two is a part of what the nearer one is
            named.append(torch.where(share[:, None] < 0.5, given[other].gather(1, partners), given[own]))
    points, labels, classes = (torch.cat(part) for part in zip(*made, strict=True))
    order = classes.argsort(stable=True)
    parts = torch.cat(named)[order] if named else None
    kept = classes[order] if labels.ndim == 2 else None
    return replace(clouds, points=points[order], labels=labels[order], classes=kept, parts=parts)


def _generator(purpose: str, seed: int) -> torch.Generator:
    """Of one kind of draw: that one kind is added leaves the others as they are."""
    digest = hashlib.sha256(f"expansion {purpose} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))  # the generator keeps no more bits


def _pairs(classes: Tensor, count: int, same: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`count` pairs per cloud, cloud by cloud: its index, and that of another one of the same or another class.

    Partners of a cloud differ until all have had their turn; a cloud without any is left out.
    """
    own, other = [], []
    for cloud in range(len(classes) if count else 0):
        partners = (classes == classes[cloud]) == same
        partners[cloud] = False
        known = partners.nonzero()[:, 0]
        if len(known):
            own.append(torch.full((count,), cloud))
            other.append(known[_cycled(len(known), count, generator)])
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([empty, *own]), torch.cat([empty, *other])


def _cycled(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`(count,)`: the numbers below `size` in random order, over and over."""
    return torch.rand(size, generator=generator).argsort().repeat(-(-count // size))[:count]


def _partners(points: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """`(K, N)`: the point of the other cloud that is assigned to each point of the own one."""
    return assign(points[other], points[own]) if len(own) else torch.empty(0, points.shape[1], dtype=torch.int64)


def _between(points: Tensor, own: Tensor, other: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """`(K, N, 3)`: a `share` of every own cloud and the rest of the other one, point by assigned point."""
    return torch.lerp(gather_points(points[other], partners), points[own], share[:, None, None])

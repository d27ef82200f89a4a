"""Clouds made from stored ones when they are read: more to train on, at no byte.

What is drawn follows from the clouds and the seed, so that an artefact need only say how (`Metadata.expansion`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import torch
from pydantic import ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn.functional import one_hot

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.geometry import assign, gather_points, knn
from pcdistill.training.augment import Augmentation, apply

NOISE = 0.01  # standard deviation of `jitter`, in units of the unit sphere's radius
COPY = Augmentation(scale=1.25, stretch=1.3, shift=0.1, tilt=8)  # of `copies`: what the `tuned` recipe does, but noise
SHARES = (0.3, 0.7)  # of the first of two clouds: nearer to an end there would be little new
NEIGHBOURS = 4  # of a point, among which `densify` interpolates
# Files are not trusted: what they may ask for.
MOST_TIMES = 64  # clouds made of one, itself included
MOST_POINTS = 4096  # of a densified cloud, and of clouds that are assigned to one another (a square matrix)
MOST_NUMBERS = 2**28  # coordinates and soft labels of the result: a gigabyte

Times = Annotated[int, Field(ge=0, lt=MOST_TIMES)]


class Expansion(Options):
    """What is made of every stored cloud; every field at its default makes nothing.

    Interpolated and mixed clouds come from stored ones; mirroring takes all of those, jittering all of these, copies
    are of all that there then is, and densifying takes everything. A cloud thus becomes `times` clouds.

    Attributes:
        mirror: add the mirror image in x of every cloud (z is up).
        jitter: add this many copies of every cloud with normal noise of standard deviation `NOISE` on every coordinate.
        interpolate: clouds per stored one on the way to random others of its class, with a share of it uniform in
            `SHARES`. Points are paired as in PointMixup (Chen et al. 2020): one to one, so that the sum of distances
            is least. A cloud alone in its class gives none, as its partner would be itself.
        mixup: the same to clouds of other classes: PointMixup itself, but for the distribution of the share. The soft
            label is the mixture of both in that share; the class it stands under is the stored cloud's.
        copies: add this many copies of every cloud, stretched, shifted and tilted by `COPY`.
        densify: points per cloud of the result, 0 for those that there are. Every further point is a convex
            combination, uniform over the triangle, of a point and two of its four nearest neighbours.
        seed: of the draws.
    """

    model_config = ConfigDict(strict=True)
    renamed: ClassVar[Mapping[str, str]] = {"views": "copies"}

    mirror: bool = False
    jitter: Times = 0
    interpolate: Times = 0
    mixup: Times = 0
    copies: Times = 0
    densify: Annotated[int, Field(ge=0, le=MOST_POINTS)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.times > MOST_TIMES:
            raise ValueError(f"makes {self.times} clouds of one, expected at most {MOST_TIMES}")
        return self

    @property
    def times(self) -> int:
        """Clouds that one becomes, itself included."""
        return (1 + self.interpolate + self.mixup) * (1 + self.mirror) * (1 + self.jitter) * (1 + self.copies)

    @property
    def nothing(self) -> bool:
        """Whether clouds stay as they are."""
        return self.times == 1 and self.densify == 0

    def nbytes(self, clouds: int, points: int) -> int:
        """Bytes of the coordinates that `clouds` clouds of `points` points become."""
        return 0 if self.nothing else 4 * 3 * clouds * self.times * max(points, self.densify)

    def check(self, clouds: int, points: int, classes: int, place: object = "expansion") -> None:
        """Raise `InputError` unless `clouds` clouds of `points` points can be expanded, in bounded memory."""
        if 0 < self.densify < points:
            raise InputError(place, f"densify = {self.densify} of clouds of {points} points", f"at least {points} or 0")
        if self.interpolate + self.mixup and points > MOST_POINTS:
            raise InputError(place, f"clouds of {points} points to pair", f"at most {MOST_POINTS}")
        size = clouds * self.times * (3 * max(points, self.densify) + classes)
        if not self.nothing and size > MOST_NUMBERS:
            raise InputError(place, f"{size} coordinates and labels in the result", f"at most {MOST_NUMBERS}")


def expand(clouds: PointClouds, expansion: Expansion) -> PointClouds:
    """`clouds` with all that `expansion` makes of them; on one machine the same bits every time.

    Returns:
        Clouds class by class, in every class the given ones first and in their order, each of them with its own
        points first. Labels are soft, and `classes` is set, if the given ones are soft or clouds of different classes
        are mixed. The given clouds themselves if nothing is made.

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
    if expansion.mirror:
        points = torch.cat([points, mirrored(points)])
    if expansion.jitter:
        copies = points.repeat(expansion.jitter, 1, 1)
        noise = torch.randn(copies.shape, generator=_generator("jitter", expansion.seed))
        points = torch.cat([points, copies.add_(noise, alpha=NOISE)])
    if expansion.copies:
        copies = points.repeat(expansion.copies, 1, 1)
        # Under the name of release 0.1, so that its files give the same bits.
        drawn = COPY.draw(len(copies), copies.shape[1], _generator("views", expansion.seed))
        points = torch.cat([points, apply(copies, drawn)])
    times = len(points) // len(classes)
    labels, classes = labels.repeat(times, *[1] * (labels.ndim - 1)), classes.repeat(times)
    order = classes.argsort(stable=True)
    points = points[order]
    parts = torch.cat(named).repeat(times, 1)[order] if named else None
    if expansion.densify:
        points, nearest = _densified(points, expansion.densify, _generator("densify", expansion.seed))
        parts = None if parts is None else parts.gather(1, nearest)
    classes = classes[order]
    return replace(
        clouds, points=points, labels=labels[order], classes=classes if labels.ndim == 2 else None, parts=parts
    )


def mirrored(points: Tensor) -> Tensor:
    """`(B, N, 3)` clouds as a mirror in the plane x = 0 shows them."""
    return points * points.new_tensor([-1.0, 1.0, 1.0])


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
            other.append(known[_cycled(1, len(known), count, generator)[0]])
    empty = torch.empty(0, dtype=torch.int64)
    return torch.cat([empty, *own]), torch.cat([empty, *other])


def _cycled(rows: int, size: int, count: int, generator: torch.Generator) -> Tensor:
    """`(rows, count)`: in every row the numbers below `size` in random order, over and over."""
    order = torch.rand(rows, size, generator=generator).argsort(dim=1)
    return order.repeat(1, -(-count // size))[:, :count]


def _partners(points: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """`(K, N)`: the point of the other cloud that is assigned to each point of the own one."""
    return assign(points[other], points[own]) if len(own) else torch.empty(0, points.shape[1], dtype=torch.int64)


def _between(points: Tensor, own: Tensor, other: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """`(K, N, 3)`: a `share` of every own cloud and the rest of the other one, point by assigned point."""
    return torch.lerp(gather_points(points[other], partners), points[own], share[:, None, None])


def _densified(points: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """`(B, count, 3)`: the points of every cloud, and others between them and their neighbours.

    Second, `(B, count)`, which point of the cloud each is, or has most of. Each point is the middle of as many
    triangles as any other, give or take one.
    """
    size = points.shape[1]
    known = min(NEIGHBOURS, size - 1)
    if count == size:
        return points, torch.arange(size).expand(len(points), -1)
    parts, nearest = [], []
    for part in points.split(64):  # neighbours take several times the memory of the points
        if not known:
            parts.append(part.expand(-1, count, -1))
            nearest.append(torch.zeros(len(part), count, dtype=torch.int64))
            continue
        # A point is its own first neighbour, or one in the same place is.
        around = knn(part, part, known + 1)[1][..., 1:]
        centre = _cycled(len(part), size, count - size, generator)
        two = torch.rand(*centre.shape, known, generator=generator).argsort(dim=2)[..., [0, -1]]
        corners = around.gather(1, centre[..., None].expand(-1, -1, known)).gather(2, two)
        index = torch.cat([centre[..., None], corners], dim=2)
        weights = torch.empty(index.shape).exponential_(generator=generator)
        weights = weights / weights.sum(dim=2, keepdim=True)
        further = (gather_points(part, index) * weights[..., None]).sum(dim=2)
        parts.append(torch.cat([part, further], dim=1))
        first = torch.arange(size).expand(len(part), -1)
        nearest.append(torch.cat([first, index.gather(2, weights.argmax(2, keepdim=True))[..., 0]], dim=1))
    return torch.cat(parts), torch.cat(nearest)

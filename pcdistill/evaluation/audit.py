"""What synthetic clouds look like beside real ones: how near, how many are covered, how even, and whether copied.

Every number has a reference, measured on real clouds that are thinned and rounded as the synthetic ones are: some
training clouds against the others of their class, and test clouds against the training clouds.

Copies are looked for in two ways, as no measure finds both kinds (docs/notebook/12-copy-audit.md).

- *As near as copies*: a sample of a training cloud in few points and bits is far from it in Chamfer distance, but it
  cannot hide that all of its points lie on that cloud's surface. So the measure is the mean squared distance from its
  points to a dense training cloud, over the median that training clouds have to the nearest other one of their class.
- *Traced*: a copy of which all points were moved lies on no surface any more, but is still nearer to one training cloud
  than to any other. So the measure is the Chamfer distance to the nearest over that to the second nearest one.

A cloud counts where the measure is below all but `CHANCE` of those that training clouds have to one another; what
share of test clouds counts says what to expect of clouds that nothing was copied into, as in Meehan et al. ("A
non-parametric test to detect data-copying in generative models", 2020), and copies made of training clouds say what
share of copies is found. Authenticity is that of Alaa et al. ("How faithful is your synthetic data?", ICML 2022): a
cloud is authentic if it is farther from its training cloud than that one is from another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import chamfer, chamfer_matrix, farthest_points, knn
from pcdistill.geometry.nearest import partnered, same_class
from pcdistill.storage.quantise import round_through

PROBES = 40  # real clouds of a class, at most, that references are measured on, evenly spread over the class
SHORTLIST = 16  # training clouds nearest in Chamfer distance, of which surfaces are compared
CHANCE = 0.05  # of training clouds that are as near to another one as copies are, and that are traced to one
LEAST = 3  # training clouds of a class
# Storages whose clouds are rounded to the artefact's bits; others derive clouds from what is rounded.
ROUNDED = ("points", "coded")


class Near(NamedTuple):
    """Clouds of one class beside the training clouds of that class.

    Attributes:
        nearest: `(N,)` int64, the nearest training cloud, by Chamfer distance at equal numbers of points.
        chamfer: `(N,)`, that distance: squared units, as `geometry.chamfer`.
        emd: `(N,)`, earth mover's distance to it: the mean distance between partners.
        source: `(N,)` int64, the training cloud whose surface they lie nearest to.
        surface: `(N,)`, mean squared distance of their points to it.
        ratio: `(N,)`, that over the median of training clouds.
        margin: `(N,)`, `chamfer` over the Chamfer distance to the second nearest training cloud, at most 1.
        authentic: `(N,)` bool.
        uneven: `(N,)`, `unevenness`.
    """

    nearest: Tensor
    chamfer: Tensor
    emd: Tensor
    source: Tensor
    surface: Tensor
    ratio: Tensor
    margin: Tensor
    authentic: Tensor
    uneven: Tensor

    def cpu(self) -> "Near":
        """The same, on the processor."""
        return Near(*(values.cpu() for values in self))


class Bounds(NamedTuple):
    """See `Findings`."""

    ratio: float
    margin: float


class Side(NamedTuple):
    """Means over some clouds, for one class or all; fields as in `Near`.

    Attributes:
        ratio, margin: medians.
        near, traced: shares that are as near as copies, and that can be traced to one training cloud.
    """

    clouds: int
    chamfer: float
    emd: float
    uneven: float
    ratio: float
    near: float
    margin: float
    traced: float
    authentic: float


@dataclass(frozen=True)
class Quality:
    """One class, or all together.

    Attributes:
        training_clouds: how many there are.
        made, training, test: the synthetic clouds; some training clouds, each compared with the others; test clouds,
            if there are any.
        copies: share of copies, made of training clouds, that are as near as copies: the power of the test.
        covered: training clouds that are the nearest one of some synthetic cloud (coverage, as a number).
        coverable: as many as there are synthetic clouds, at most all training clouds.
        mmd: minimum matching distance, the mean Chamfer distance from training clouds to the nearest synthetic one.
        training_mmd: the same of as many training clouds in place of the synthetic ones.

    Coverage and minimum matching distance are those of Achlioptas et al., "Learning representations and generative
    models for 3D point clouds", ICML 2018, against the training set.
    """

    training_clouds: int
    made: Side
    training: Side
    test: Side | None
    copies: float
    covered: int
    coverable: int
    mmd: float
    training_mmd: float

    @property
    def coverage(self) -> float:
        """Share of the training clouds that are covered."""
        return self.covered / self.training_clouds

    def facts(self) -> dict[str, Any]:
        """All numbers, as plain values."""
        plain = {name: value._asdict() if isinstance(value, Side) else value for name, value in vars(self).items()}
        return {**plain, "coverage": self.coverage}


@dataclass(frozen=True)
class Findings:
    """What `audit` finds.

    Attributes:
        overall: all classes together.
        classes: by name.
        near: of every synthetic cloud, in the order of the set; `nearest` and `source` are places in the training set.
        bounds: what `ratio` and `margin` of a cloud are at most that is as near as copies, or traced.
    """

    overall: Quality
    classes: dict[str, Quality]
    near: Near
    bounds: Bounds

    @property
    def copies(self) -> Tensor:
        """`(N,)` bool: the clouds that are as near to a training cloud as copies are."""
        return self.near.ratio <= self.bounds.ratio

    @property
    def traced(self) -> Tensor:
        """`(N,)` bool: the clouds that can be traced to one training cloud."""
        return self.near.margin <= self.bounds.margin


class _Part(NamedTuple):
    """What is measured of one class."""

    name: str
    places: Tensor  # of its synthetic clouds
    made: Near
    training: Near
    test: Near | None
    copies: Tensor  # ratios
    matched: Tensor  # (R,), from every training cloud to the nearest synthetic one
    training_matched: Tensor


def rounding(artefact: Artefact) -> int:
    """Bits that the coordinates of an artefact's clouds are rounded to, 32 where they are not."""
    return artefact.metadata.bits if artefact.metadata.storage in ROUNDED else 32


def audit(
    clouds: PointClouds,
    real: PointClouds,
    test: PointClouds | None = None,
    bits: int = 32,
    on_progress: Callable[[int, str], None] | None = None,
    device: str = "cpu",
) -> Findings:
    """Compare synthetic clouds with the real ones that they were made from. Deterministic.

    Args:
        clouds: `(N, P, 3)`.
        real: `(R, Q, 3)`, Q at least P, the more the better; at least `LEAST` clouds of every class of `clouds`.
        test: clouds that nothing was made from, of at least P points, in the same frame.
        bits: that coordinates of `clouds` are rounded to (`storage.quantise`); 32: not rounded.
        on_progress: called with the number of classes done, and the name of the last.
        device: where distances are computed, a class at a time.

    Raises:
        InputError: a class with fewer real clouds, or real clouds of too few points.
    """
    parts: list[_Part] = []
    for mine, theirs in same_class(clouds, real):
        name = clouds.class_names[int(clouds.hard_labels[mine[0]])]
        if len(theirs) < LEAST:
            place = str(real.provenance.get("name", "real clouds"))
            few = f"{len(theirs)} clouds of class '{name}'"
            raise InputError(place, few, f"at least {LEAST}, to compare one with two others")
        beside = _Training(real.points[theirs].to(device), theirs, clouds.points_per_cloud, bits)
        held_out = None if test is None else _held_out(test, name)
        parts.append(_measured(name, mine, clouds.points[mine].to(device), beside, held_out))
        if on_progress is not None:
            on_progress(len(parts), name)
    training = _joined([part.training for part in parts])
    bounds = Bounds(float(training.ratio.quantile(CHANCE)), float(training.margin.quantile(CHANCE)))
    order = torch.cat([part.places for part in parts]).argsort()
    joined = _joined([part.made for part in parts])
    return Findings(
        _summed(parts, bounds),
        {part.name: _summed([part], bounds) for part in parts},
        Near(*(values[order] for values in joined)),
        bounds,
    )


def unevenness(points: Tensor) -> Tensor:
    """Coefficient of variation of the distances from points to their nearest neighbour in the cloud.

    0 of a lattice, about 0.52 of points scattered at random on a surface, more where they clump. No area has to be
    known, as it has for the ratio of Clark & Evans ("Distance to nearest neighbor as a measure of spatial relationships
    in populations", 1954). Points that coincide are at distance 0.

    Args:
        points: `(N, P, 3)`.

    Returns:
        `(N,)`; 0 where all points coincide, or there is only one.
    """
    if points.shape[1] < 2:
        return points.new_zeros(len(points))
    nearest = knn(points, points, 2)[0][..., 1].sqrt()
    return nearest.std(dim=1, correction=0) / nearest.mean(dim=1).clamp(min=torch.finfo(points.dtype).tiny)


class _Training:
    """The training clouds of a class: dense, thinned, and rounded besides; and how near they are to one another.

    Args:
        dense: `(R, Q, 3)`.
        places: `(R,)` in the training set.
        size: points of a synthetic cloud.
        bits: as in `audit`.
    """

    def __init__(self, dense: Tensor, places: Tensor, size: int, bits: int) -> None:
        self.dense, self.places, self.bits = dense, places.to(dense.device), bits
        self.thin = farthest_points(dense, size)
        self.alike = round_through(self.thin, bits)
        self.nearest_other = dense.new_full((len(dense),), torch.nan)  # once for each that is asked for
        self.some = _evenly(len(dense), PROBES).to(dense.device)
        self.unit = self.to_other(self.some).median().clamp(min=torch.finfo(dense.dtype).tiny)

    def surface(self, points: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The cloud whose surface points `(N, P, 3)` lie nearest to, and how near; `pairs` are Chamfer distances."""
        short = pairs.topk(min(SHORTLIST, int(pairs[0].isfinite().sum())), largest=False).indices
        apart = [
            torch.cdist(cloud, self.dense[nearest]).amin(2).square().mean(1)
            for cloud, nearest in zip(points, short, strict=True)
        ]
        index = short.gather(1, torch.stack(apart).argmin(1, keepdim=True))[:, 0]
        return index, knn(points, self.dense[index], 1)[0].mean((1, 2))

    def to_other(self, index: Tensor) -> Tensor:
        """How near clouds, treated as synthetic ones are, lie to the surface of the nearest other cloud."""
        new = index[self.nearest_other[index].isnan()].unique()
        if len(new):
            self.nearest_other[new] = self.surface(self.alike[new], self._others(new))[1]
        return self.nearest_other[index]

    def near(self, points: Tensor, pairs: Tensor) -> Near:
        """How near points `(N, P, 3)` are, with Chamfer distances to all `(N, R)`, infinite where not to look."""
        index, second = pairs.topk(2, largest=False).indices.unbind(1)
        least, next_least = chamfer(points, self.thin[index]), chamfer(points, self.thin[second])
        source, surface = self.surface(points, pairs)
        return Near(
            self.places[index],
            least,
            partnered(self.thin[index], points)[1],
            self.places[source],
            surface,
            surface / self.unit,
            torch.where(next_least > 0, least / next_least, 1).clamp(max=1),
            surface > self.to_other(source),
            unevenness(points),
        )

    def among(self) -> Near:
        """How near some of them are to the others."""
        return self.near(self.alike[self.some], self._others(self.some))

    def copies(self) -> Tensor:
        """Ratios of some of them to themselves, treated as synthetic ones are."""
        return knn(self.alike[self.some], self.dense[self.some], 1)[0].mean((1, 2)) / self.unit

    def _others(self, index: Tensor) -> Tensor:
        return chamfer_matrix(self.alike[index], self.thin).scatter_(1, index[:, None], torch.inf)


def _measured(name: str, places: Tensor, made: Tensor, training: _Training, test: Tensor | None) -> _Part:
    pairs = chamfer_matrix(made, training.thin)
    as_many = training.alike[_evenly(len(training.thin), len(made))]
    if test is not None:
        test = round_through(farthest_points(test.to(made.device), made.shape[1]), training.bits)
    return _Part(
        name,
        places,
        training.near(made, pairs).cpu(),
        training.among().cpu(),
        None if test is None else training.near(test, chamfer_matrix(test, training.thin)).cpu(),
        training.copies().cpu(),
        pairs.amin(0).cpu(),
        chamfer_matrix(as_many, training.thin).amin(0).cpu(),
    )


def _held_out(test: PointClouds, name: str) -> Tensor | None:
    """Points of some test clouds of a class, if it has any."""
    if name not in test.class_names:
        return None
    points = test.points[test.hard_labels == test.class_names.index(name)]
    return points[_evenly(len(points), PROBES)] if len(points) else None


def _evenly(size: int, count: int) -> Tensor:
    """So many places, or all if there are fewer, evenly spread."""
    count = min(size, count)
    return torch.arange(count) * size // count


def _joined(parts: Sequence[Near]) -> Near:
    return Near(*map(torch.cat, zip(*parts, strict=True)))


def _summed(parts: Sequence[_Part], bounds: Bounds) -> Quality:
    test = [part.test for part in parts if part.test is not None]
    return Quality(
        training_clouds=sum(len(part.matched) for part in parts),
        made=_side([part.made for part in parts], bounds),
        training=_side([part.training for part in parts], bounds),
        test=_side(test, bounds) if test else None,
        copies=float((torch.cat([part.copies for part in parts]) <= bounds.ratio).float().mean()),
        covered=sum(len(part.made.nearest.unique()) for part in parts),
        coverable=sum(min(len(part.made.nearest), len(part.matched)) for part in parts),
        mmd=float(torch.cat([part.matched for part in parts]).mean()),
        training_mmd=float(torch.cat([part.training_matched for part in parts]).mean()),
    )


def _side(parts: Sequence[Near], bounds: Bounds) -> Side:
    joined = _joined(parts)
    return Side(
        clouds=len(joined.nearest),
        chamfer=float(joined.chamfer.mean()),
        emd=float(joined.emd.mean()),
        uneven=float(joined.uneven.mean()),
        ratio=float(joined.ratio.median()),
        near=float((joined.ratio <= bounds.ratio).float().mean()),
        margin=float(joined.margin.median()),
        traced=float((joined.margin <= bounds.margin).float().mean()),
        authentic=float(joined.authentic.float().mean()),
    )

"""The real cloud that each synthetic cloud is nearest to: what viewers show beside it, and what an audit measures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import assign, chamfer, chamfer_matrix, farthest_points, gather_points


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of every synthetic cloud, the real cloud of its class that is nearest.

    Attributes:
        index: `(N,)` int64, places in the real set.
        distance: `(N,)` float32, `geometry.chamfer` at the synthetic cloud's number of points: squared units.
        points: `(N, P, 3)` float32, that real cloud thinned by farthest point sampling; its point j is the partner of
            the synthetic cloud's point j (`geometry.assign`).
        emd: `(N,)` float32, earth mover's distance: the mean distance between partners, units of the coordinates.
    """

    index: Tensor
    distance: Tensor
    points: Tensor
    emd: Tensor


def nearest_real(clouds: PointClouds, real: PointClouds) -> Nearest:
    """The nearest real cloud of the same class (by name), by Chamfer distance at equal numbers of points.

    Real clouds are thinned to P points by farthest point sampling, as stored clouds are. Deterministic.

    Args:
        clouds: `(N, P, 3)`, soft labels by the class that each cloud stands for.
        real: `(R, Q, 3)` with Q at least P, in the same frame.

    Raises:
        InputError: a class that `real` has no cloud of, or real clouds of too few points.
    """
    index = torch.empty(len(clouds), dtype=torch.int64)
    twins = torch.empty_like(clouds.points)
    for mine, theirs in same_class(clouds, real):
        thin = farthest_points(real.points[theirs], clouds.points_per_cloud)
        found = chamfer_matrix(clouds.points[mine], thin).argmin(dim=1)
        index[mine], twins[mine] = theirs[found], thin[found]
    twins, emd = partnered(twins, clouds.points)
    return Nearest(index, chamfer(clouds.points, twins), twins, emd)


def partnered(clouds: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Clouds `(N, P, 3)` in the order of their partners in the reference, and the mean distances of partners `(N,)`."""
    clouds = gather_points(clouds, assign(clouds, reference))
    return clouds, (clouds - reference).norm(dim=2).mean(dim=1)


def same_class(clouds: PointClouds, real: PointClouds) -> list[tuple[Tensor, Tensor]]:
    """Places of each class's clouds, and those of the real clouds of that class; for every class that has clouds.

    Raises:
        InputError: as `nearest_real`.
    """
    place = str(real.provenance.get("name", "real clouds"))
    if real.points_per_cloud < clouds.points_per_cloud:
        found = f"clouds of {real.points_per_cloud} points"
        raise InputError(place, found, f"at least {clouds.points_per_cloud}, as many as the synthetic clouds have")
    pairs = []
    for label, name in enumerate(clouds.class_names):
        mine = (clouds.hard_labels == label).nonzero()[:, 0]
        if not len(mine):
            continue
        there = real.class_names.index(name) if name in real.class_names else -1
        theirs = (real.hard_labels == there).nonzero()[:, 0]
        if not len(theirs):
            raise InputError(place, f"no cloud of class '{name}'", "some of every class of the synthetic clouds")
        pairs.append((mine, theirs))
    return pairs

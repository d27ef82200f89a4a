"""One object per file, mesh or cloud (`formats.READERS` has the suffixes), as a cloud in the common frame."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats import READERS, Mesh, Points, check_faces, parse
from pcdistill.data.prepare import generator_for, too_few, unit_sphere

__all__ = [
    "READERS", "Mesh", "Points", "chosen_points", "of_points", "original", "parse", "read_object", "sample_surface",
    "whole_or_sampled",
]  # fmt: skip

MESH_POINTS = 1024  # points sampled from a mesh when no number is asked for


def read_object(
    path: Path, points: int | None, seed: int, name: str, *, fewer: bool = False, least_points: int = 1
) -> NDArray[np.float32]:
    """The object in `path` as `(P, 3)` float32, mean at the origin, largest norm 1; axes as stored.

    A mesh is sampled at `points` (default 1024) places, uniform over its area. Of a cloud a random
    subset of `points` is kept (None: all, in stored order); one of less is filled up by repeats, or, with `fewer`,
    taken whole. Randomness depends on `seed` and `name`.

    Raises:
        InputError: naming the file, if it cannot be read, has no area or extent, a point that is not finite, or fewer
            than `least_points`.
    """
    found = original(path, least_points)
    if isinstance(found, Mesh) or points is None or (fewer and len(found) < points):
        return whole_or_sampled(found, path, seed, name, points)
    return of_points(found, path, seed, name, points)


def original(path: Path, least_points: int = 1) -> Mesh | Points:
    """What a file holds, a cloud as `(P, 3)`: all of its points are looked at, whatever is kept of them.

    Raises:
        InputError: naming the file, if it cannot be read, holds a cloud of fewer points than it has to have, or a
            point that is not finite.
    """
    found = parse(path)
    if isinstance(found, Mesh):
        return found
    if len(found) < least_points:
        raise too_few(path, len(found), least_points)
    # Of the whole cloud, or it would hang on points and seed whether a file is refused.
    broken = ~np.isfinite(found).all(axis=1)
    if broken.any():
        what = f"{broken.sum()} of {len(found)} points with NaN or infinite coordinates, point {broken.argmax()} first"
        raise InputError(path, what, "finite ones")
    return found


def whole_or_sampled(found: Mesh | Points, path: Path, seed: int, name: str, points: int | None) -> NDArray[np.float32]:
    """All points of a cloud in stored order, or a sample of a mesh, in the frame of `read_object`."""
    if isinstance(found, Mesh):
        return of_points(found, path, seed, name, MESH_POINTS if points is None else points)
    normalised: NDArray[np.float32] = unit_sphere(found[None], path)[0]
    return normalised


def of_points(found: Mesh | Points, path: Path, seed: int, name: str, points: int) -> NDArray[np.float32]:
    """Exactly `points` points of an object, in the frame of `read_object`: a sample, a subset, or repeats.

    A cloud of fewer points is there whole, in random order, as often as needed: the first ones are all different.
    """
    if isinstance(found, Mesh):
        kept = sample_surface(found, points, generator_for(name, seed), path)
    else:
        kept = found[chosen_points(len(found), seed, name, points)]
    normalised: NDArray[np.float32] = unit_sphere(kept[None], path)[0]
    return normalised


def chosen_points(size: int, seed: int, name: str, points: int) -> NDArray[np.int64]:
    """Places of the points of a cloud that `of_points` takes."""
    return np.arange(size) if points == size else np.resize(generator_for(name, seed).permutation(size), points)


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator, place: object) -> Points:
    """`(count, 3)` float64 points uniform over the area of `mesh`, in a frame of unit size around its middle.

    The mesh is brought to unit size in float64 first, so that coordinates of 1e11 keep their shape.
    """
    if len(mesh.faces) == 0:
        raise InputError(place, "a mesh without faces", "at least one triangle")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(place, "vertices with NaN or infinite coordinates", "finite ones")
    check_faces(mesh.faces, len(mesh.vertices), place)
    corners = mesh.vertices[mesh.faces]
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    size = (high / 2 - low / 2).max()
    if size == 0:
        raise InputError(place, "a mesh of zero area", "a surface")
    corners = (corners - (high / 2 + low / 2)) / size
    edges = corners[:, 1:] - corners[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    if areas.sum() < 1e-12:
        raise InputError(place, "a mesh of zero area", "a surface")
    which = rng.choice(len(areas), size=count, p=areas / areas.sum())
    u, v = rng.random((2, count, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    sampled: Points = corners[which, 0] + u * edges[which, 0] + v * edges[which, 1]
    return sampled

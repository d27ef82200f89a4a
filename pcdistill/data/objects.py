"""One object per file, mesh or cloud (`formats.READERS` has the suffixes), as a cloud in the common frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats import READERS, Mesh, Points, check_faces, parse
from pcdistill.data.prepare import generator_for, tracked, unit_sphere

__all__ = ["READERS", "Mesh", "Points", "parse", "read_object", "read_objects", "sample_surface"]

MESH_POINTS = 1024  # points sampled from a mesh when no number is asked for


def read_object(path: Path, points: int | None, seed: int, name: str, *, fewer: bool = False) -> NDArray[np.float32]:
    """The object in `path` as `(P, 3)` float32, mean at the origin, largest norm 1; axes as stored.

    A mesh is sampled at `points` (default 1024) places, uniform over its area. Of a cloud a random
    subset of `points` is kept (None: all, in stored order); one of less is refused, or, with `fewer`, taken whole.
    Randomness depends on `seed` and `name`.

    Raises:
        InputError: naming the file, if it cannot be read, has no area or extent, or too few points.
    """
    found = parse(path)
    rng = generator_for(name, seed)
    if isinstance(found, Mesh):
        cloud = sample_surface(found, MESH_POINTS if points is None else points, rng, path)
    else:
        few = fewer and points is not None and 0 < len(found) < points
        cloud = _subset(found, None if few else points, rng, path)
    normalised: NDArray[np.float32] = unit_sphere(cloud[None], path)[0]
    return normalised


def read_objects(
    files: Sequence[Path], root: Path, points: int | None, seed: int, description: str
) -> NDArray[np.float32]:
    """`read_object` of every file, `(N, P, 3)`, random numbers seeded by the names relative to `root`.

    Raises:
        InputError: as `read_object`, and if `points` is None and the clouds differ in length.
    """
    clouds = [
        read_object(file, points, seed, file.relative_to(root).as_posix()) for file in tracked(files, description)
    ]
    for file, cloud in zip(files, clouds, strict=True):
        if len(cloud) != len(clouds[0]):
            found = f"{len(cloud)} points, but {len(clouds[0])} in {files[0].name}"
            raise InputError(file, found, "equal numbers, or a number of points to keep")
    return np.stack(clouds)


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


def _subset(cloud: Points, points: int | None, rng: np.random.Generator, path: Path) -> Points:
    if len(cloud) == 0 or len(cloud) < (points or 1):
        raise InputError(path, f"{len(cloud)} points", f"at least {points or 1}")
    # Of the whole cloud, or it would hang on points and seed whether a file is refused.
    broken = ~np.isfinite(cloud).all(axis=1)
    if broken.any():
        found = f"{broken.sum()} of {len(cloud)} points with NaN or infinite coordinates, point {broken.argmax()} first"
        raise InputError(path, found, "finite ones")
    return cloud if points is None or points == len(cloud) else cloud[rng.permutation(len(cloud))[:points]]

"""One object per file: meshes (OFF, OBJ, STL, PLY with faces) and clouds (PLY, PCD, XYZ, NPY, NPZ)."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.pcd import parse_pcd
from pcdistill.data.prepare import generator_for, unit_sphere

MESH_POINTS = 1024  # points sampled from a mesh when no number is asked for
ARRAY_NAMES = ("points", "pos", "xyz")
Points = NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """Vertices `(V, 3)` float64 and triangles `(F, 3)` int64 that index them."""

    vertices: Points
    faces: NDArray[np.int64]


def read_object(path: Path, points: int | None, seed: int, name: str, *, fewer: bool = False) -> NDArray[np.float32]:
    """The object in `path` as `(P, 3)` float32, mean at the origin, largest norm 1; axes as stored.

    A mesh is sampled at `points` (default 1024) places, uniform over its area. Of a cloud a random
    subset of `points` is kept (None: all, in stored order); one of less is filled up by repeats, or, with `fewer`,
    taken whole. Randomness depends on `seed` and `name`.

    Raises:
        InputError: naming the file, if it cannot be read, has no area or extent, or a point that is not finite.
    """
    found = original(path)
    if isinstance(found, Mesh) or points is None or (fewer and len(found) < points):
        return whole_or_sampled(found, path, seed, name, points)
    return of_points(found, path, seed, name, points)


def original(path: Path) -> Mesh | Points:
    """What a file holds, a cloud as `(P, 3)`: all of its points are looked at, whatever is kept of them.

    Raises:
        InputError: naming the file, if it cannot be read, holds no points, or one that is not finite.
    """
    found = parse(path)
    if isinstance(found, Mesh):
        return found
    if found.ndim != 2 or found.shape[1] < 3:
        raise InputError(path, f"an array of shape {found.shape}", "(points, 3 or more)")
    if len(found) == 0:
        raise InputError(path, "0 points", "at least 1")
    cloud = found[:, :3]
    broken = int((~np.isfinite(cloud).all(axis=1)).sum())
    if broken:
        raise InputError(path, f"{broken} of {len(cloud)} points have NaN or infinite coordinates", "finite ones")
    return cloud


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
    rng = generator_for(name, seed)
    if isinstance(found, Mesh):
        kept = sample_surface(found, points, rng, path)
    else:
        kept = found if points == len(found) else found[np.resize(rng.permutation(len(found)), points)]
    normalised: NDArray[np.float32] = unit_sphere(kept[None], path)[0]
    return normalised


def parse(path: Path) -> Mesh | Points:
    """What a file of a known suffix holds, or InputError naming it."""
    try:
        return READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as problem:  # mesh libraries raise anything on a damaged file
        raise InputError(path, f"unreadable ({type(problem).__name__}: {problem})", "a whole file") from problem


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator, place: object) -> Points:
    """`(count, 3)` float64 points uniform over the area of `mesh`, in a frame of unit size around its middle.

    The mesh is brought to unit size in float64 first, so that coordinates of 1e11 keep their shape.
    """
    if len(mesh.faces) == 0:
        raise InputError(place, "a mesh without faces", "at least one triangle")
    if not np.isfinite(mesh.vertices).all():
        raise InputError(place, "vertices with NaN or infinite coordinates", "finite ones")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise InputError(place, f"a face of vertex {mesh.faces.max()}", f"0 to {len(mesh.vertices) - 1}")
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


def _read_off(path: Path) -> Mesh:
    text = path.read_text(encoding="utf-8", errors="replace")
    rows = [row for row in (line.partition("#")[0].strip() for line in text.splitlines()) if row]
    # ModelNet holds files whose first line runs into the second: "OFF490 518 0".
    if not rows or not rows[0].startswith("OFF"):
        raise InputError(path, f"first line '{rows[0][:20] if rows else ''}'", "OFF")
    if rows[0] == "OFF":
        rows = rows[1:]
    else:
        rows[0] = rows[0][3:]
    vertices, faces = (int(word) for word in rows[0].split()[:2])
    if vertices < 1 or faces < 1:
        raise InputError(path, "a mesh without faces", "at least one triangle")
    if len(rows) < 1 + vertices + faces:
        raise InputError(path, f"{len(rows) - 1} lines of vertices and faces", f"{vertices} + {faces}")
    points = _numbers(rows[1 : 1 + vertices]).reshape(vertices, -1)[:, :3]
    return Mesh(points, _triangles(rows[1 + vertices : 1 + vertices + faces]))


def _triangles(rows: list[str]) -> NDArray[np.int64]:
    """Faces "n i j k ... colour" as triangles, polygons cut into fans."""
    numbers = _numbers(rows)
    if numbers.size == 4 * len(rows) and (numbers[::4] == 3).all():
        return numbers.reshape(-1, 4)[:, 1:].astype(np.int64)
    fans: list[tuple[int, int, int]] = []
    for row in rows:
        count, *rest = (int(float(word)) for word in row.split())
        corner = rest[:count]
        if len(corner) < count:
            raise ValueError(f"face '{row}' has fewer than {count} vertices")
        fans += [(corner[0], corner[at], corner[at + 1]) for at in range(1, count - 1)]
    return np.array(fans, dtype=np.int64).reshape(-1, 3)


def _numbers(rows: list[str]) -> Points:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # NumPy only warns when it meets a word that is no number
        return np.fromstring(" ".join(rows), dtype=np.float64, sep=" ")


def _read_with_trimesh(path: Path) -> Mesh | Points:
    # process=False: merging vertices is of no use here; materials could point to other files.
    loaded = trimesh.load(path, process=False, skip_materials=True)
    if isinstance(loaded, trimesh.Scene):
        loaded = loaded.to_mesh()
    if isinstance(loaded, trimesh.PointCloud):
        if path.suffix.lower() != ".ply":
            raise InputError(path, "a mesh without faces", "at least one triangle")
        return np.asarray(loaded.vertices, dtype=np.float64)
    if not isinstance(loaded, trimesh.Trimesh):
        raise InputError(path, f"a {type(loaded).__name__}", "a mesh")
    return Mesh(np.asarray(loaded.vertices, dtype=np.float64), np.asarray(loaded.faces, dtype=np.int64))


def _read_pcd(path: Path) -> Points:
    return parse_pcd(path.read_bytes())


def _read_xyz(path: Path) -> Points:
    text = path.read_text(encoding="utf-8").replace(",", " ")
    return np.loadtxt(text.splitlines(), dtype=np.float64, ndmin=2)


def _read_npy(path: Path) -> Points:
    return _array(np.load(path, allow_pickle=False), path)


def _read_npz(path: Path) -> Points:
    with np.load(path, allow_pickle=False) as archive:
        names = [name for name in ARRAY_NAMES if name in archive.files]
        if not names and len(archive.files) != 1:
            raise InputError(path, f"arrays {', '.join(archive.files)}", f"one of {', '.join(ARRAY_NAMES)}")
        name = (names or archive.files)[0]
        return _array(archive[name], f"{path} {name}")


def _array(values: NDArray[np.generic], place: object) -> Points:
    if values.dtype.kind not in "fiu":
        raise InputError(place, f"values of type {values.dtype}", "numbers")
    return values.astype(np.float64)


READERS = {
    ".off": _read_off,
    ".ply": _read_with_trimesh,
    ".obj": _read_with_trimesh,
    ".stl": _read_with_trimesh,
    ".pcd": _read_pcd,
    ".xyz": _read_xyz,
    ".npy": _read_npy,
    ".npz": _read_npz,
}

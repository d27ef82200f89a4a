"""Solids as triangles, and points spread evenly over them.

A part is an array of triangles `(T, 3, 3)` float64. Every part is made by `loft`, which joins a row of
closed rings: a box, a bottle, a wing and the handle of a mug differ only in their rings.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def ring(sides: int) -> Array:
    """Regular polygon `(sides, 2)` on the unit circle; 24 sides are round to within the noise."""
    angle = np.arange(sides) * (2 * np.pi / sides)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


ROUND = ring(24)
SQUARE = np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]) / 2


def loft(rings: Array) -> Array:
    """Skin over closed rings `(R, S, 3)`: `(2 (R - 1) S, 3, 3)` triangles.

    A ring shrunk to a point closes an end; its triangles without area never receive a point.
    """
    low, high = rings[:-1], rings[1:]
    low_next, high_next = np.roll(low, -1, axis=1), np.roll(high, -1, axis=1)
    corners = (low, low_next, high, low_next, high_next, high)
    return np.stack(corners, axis=2).reshape(-1, 3, 3)


def lathe(profile: ArrayLike, outline: Array = ROUND) -> Array:
    """Solid whose cross-section is `outline` `(S, 2)`, scaled along `profile`: rows of (scale, height)."""
    scale, height = np.asarray(profile, dtype=np.float64).T
    rings = np.empty((len(scale), len(outline), 3))
    rings[..., :2] = scale[:, None, None] * outline
    rings[..., 2] = height[:, None]
    return loft(rings)


def prism(height: float, outline: Array) -> Array:
    """Closed block on z = 0 over an outline that is star-shaped about the origin."""
    return lathe([(0, 0), (1, 0), (1, height), (0, height)], outline)


def moved(part: Array, by: ArrayLike) -> Array:
    """The part, shifted by (x, y, z)."""
    shifted: Array = part + np.asarray(by, dtype=np.float64)
    return shifted


def box(width: float, depth: float, height: float, at: ArrayLike = (0, 0, 0)) -> Array:
    """Closed box whose bottom face is centred at `at`."""
    return moved(prism(height, SQUARE * np.array([width, depth])), at)


def cone(bottom: float, top: float, height: float, at: ArrayLike = (0, 0, 0)) -> Array:
    """Closed frustum by its two radii; a cylinder where they are equal."""
    return moved(lathe([(0, 0), (bottom, 0), (top, height), (0, height)]), at)


def ball(radii: ArrayLike, at: ArrayLike) -> Array:
    """Ellipsoid centred at `at`."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, 13)
    unit = lathe(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return moved(unit * np.asarray(radii, dtype=np.float64), at)


def tube(path: ArrayLike, radius: ArrayLike, sides: int = 8) -> Array:
    """Open pipe along `path` `(K, 3)`: a straight line, or a curve in a plane across x, y or z."""
    points = np.asarray(path, dtype=np.float64)
    along = np.gradient(points, axis=0)
    # The axis along which such a path moves least is never parallel to it: a frame without twist.
    across = np.cross(along, np.eye(3)[np.ptp(points, axis=0).argmin()])
    beside = np.cross(along, across)
    frame = np.stack([v / np.linalg.norm(v, axis=1, keepdims=True) for v in (across, beside)], axis=1)
    width = np.broadcast_to(np.asarray(radius), len(points))[:, None, None]
    return loft(points[:, None] + width * (ring(sides) @ frame))


def arc(start: float, end: float, points: int = 12) -> Array:
    """Unit arc in the x-z plane between two angles in degrees from the x axis: `(points, 3)`."""
    angle = np.radians(np.linspace(start, end, points))
    return np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1)


def sample(parts: Sequence[Array], count: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """`(count, 3)` points, independent and uniform by area over all triangles, and the part `(count,)` each lies on."""
    a, b, c = np.concatenate(parts).transpose(1, 0, 2)
    reach = np.linalg.norm(np.cross(b - a, c - a), axis=1).cumsum()
    # Rounding may put the draw on the very end of the last triangle.
    chosen = np.searchsorted(reach, rng.random(count) * reach[-1], side="right").clip(max=len(a) - 1)
    u, v = rng.random((2, count, 1))
    root = np.sqrt(u)
    points: Array = (1 - root) * a[chosen] + root * (1 - v) * b[chosen] + root * v * c[chosen]
    return points, np.repeat(np.arange(len(parts)), [len(part) for part in parts])[chosen]

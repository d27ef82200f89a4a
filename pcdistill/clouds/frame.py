"""The frame that all clouds are brought into, by readers of files and of arrays alike: z up, in the unit sphere."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError

Floats = NDArray[np.floating]

NORMALISED = "mean of the points at the origin, largest norm 1"
CHUNK = 256  # clouds normalised at a time: bounds the float64 copies


def unit_sphere(points: Floats, place: object, numbers: Sequence[int] | None = None) -> NDArray[np.float32]:
    """Clouds `(B, P, 3)` centred on the mean of their points and scaled to largest norm 1.

    Worked out in float64, cloud by cloud independent of B; returned as float32. `numbers` are those of
    the clouds in their set, for messages; by default they are counted from 0.

    Raises:
        InputError: naming `place` and the cloud, for NaN, infinity, or points that all coincide.
    """
    named = range(len(points)) if numbers is None else numbers
    wide = points.astype(np.float64)
    broken = ~np.isfinite(wide).all(axis=(1, 2))
    if broken.any():
        found = f"cloud {named[int(broken.argmax())]} has NaN or infinite coordinates"
        raise InputError(place, found, "finite ones")
    wide /= np.maximum(np.abs(wide).max(axis=(1, 2), keepdims=True), np.finfo(np.float64).tiny)
    wide -= wide.mean(axis=1, keepdims=True)
    radius = np.sqrt((wide**2).sum(axis=2).max(axis=1))
    # Relative to the largest coordinate: what is left below this is rounding noise, not a shape.
    if (radius < 1e-12).any():
        found = f"all points of cloud {named[int(radius.argmin())]} coincide"
        raise InputError(place, found, "a cloud with some extent")
    scaled: NDArray[np.float32] = (wide / radius[:, None, None]).astype(np.float32)
    return scaled


def z_up(points: Floats, up_axis: str) -> Floats:
    """`points` `(..., 3)` turned about x so that a stored up axis y becomes z; others are left alone."""
    if up_axis != "y":
        return points
    return np.stack((points[..., 0], -points[..., 2], points[..., 1]), axis=-1)


def frame(stored_up_axis: str) -> dict[str, str | bool]:
    """Provenance of the frame that `z_up` and `unit_sphere` make of clouds stored with this up axis."""
    up = "z" if stored_up_axis == "y" else stored_up_axis
    return {"up_axis": up, "stored_up_axis": stored_up_axis, "normalised": True, "normalisation": NORMALISED}

"""Arrays and tensors of anyone's as `PointClouds`: clouds of any sizes, labels of any kind."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.clouds.frame import CHUNK, Floats, frame, unit_sphere, z_up
from pcdistill.clouds.labels import as_array, coded_labels
from pcdistill.clouds.parts import PartNames
from pcdistill.clouds.point_clouds import PointClouds
from pcdistill.core.errors import InputError

POINTS = 1024  # of a cloud, as many as protocols test on
UP_AXES = ("z", "y", "unspecified")
COLUMNS = 9  # at least so many are taken for coordinates, normals and colours, and not for points


def from_arrays(
    points: Any,
    labels: Any,
    class_names: Sequence[str] | None,
    points_per_cloud: int | None,
    normalise: bool,
    seed: int,
    up_axis: str,
    name: str,
    parts: Any = None,
    part_names: PartNames | Sequence[str] | None = None,
) -> PointClouds:
    """See `PointClouds.from_arrays`."""
    check_asked(points_per_cloud, seed, up_axis)
    clouds = [as_cloud(cloud, f"{name} cloud {number}") for number, cloud in enumerate(_split(points, name))]
    if not clouds:
        raise InputError(name, "0 clouds", "at least one")
    coded, names = coded_labels(labels, len(clouds), class_names, name)
    sizes = {len(cloud) for cloud in clouds}
    count = points_per_cloud or (sizes.pop() if len(sizes) == 1 else POINTS)
    own = None if parts is None and part_names is None else _own_parts(parts, clouds, name)
    made = np.empty((len(clouds), count, 3), dtype=np.float32)
    kept = None if own is None else np.empty((len(clouds), count), dtype=np.int64)
    for low in range(0, len(clouds), CHUNK):
        numbers = range(low, min(low + CHUNK, len(clouds)))
        index = [resized(len(clouds[number]), count, generator(number, seed)) for number in numbers]
        raw = z_up(np.stack([clouds[number][at] for number, at in zip(numbers, index, strict=True)]), up_axis)
        if own is not None and kept is not None:
            kept[low : low + CHUNK] = [own[number][at] for number, at in zip(numbers, index, strict=True)]
        with np.errstate(over="ignore"):  # beyond float32 is infinite, which is refused
            made[low : low + CHUNK] = unit_sphere(raw, name, numbers) if normalise else raw
    facts = {"name": name, "source": name, **frame(up_axis)}
    if not normalise:
        facts |= {"normalised": False, "normalisation": "none"}
    if kept is None:
        return PointClouds(torch.from_numpy(made), coded, names, facts)
    found = torch.from_numpy(kept)
    if not isinstance(part_names, PartNames):
        part_names = _named_parts(part_names, found, coded, len(names), name)
    return PointClouds(torch.from_numpy(made), coded, names, facts, parts=found, part_names=part_names)


def check_asked(points_per_cloud: int | None, seed: int, up_axis: str) -> None:
    """Raise InputError for a number of points below 1, a seed below 0, or an axis that is not known."""
    if points_per_cloud is not None and (not isinstance(points_per_cloud, int | np.integer) or points_per_cloud < 1):
        raise InputError("points_per_cloud", f"{points_per_cloud!r:.40}", "an integer, at least 1, or None")
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError("seed", f"{seed!r:.40}", "an integer, 0 or more")
    if up_axis not in UP_AXES:
        raise InputError("up_axis", f"{up_axis!r:.40}", "z, y or unspecified")


def as_cloud(value: Any, place: str) -> Floats:
    """A cloud `(P, 3 or more)`, of which three columns are kept: float32 of narrow floats and float32, else float64.

    Raises:
        InputError: no numbers, another shape, coordinates first, no points, or some that are not finite.
    """
    try:
        cloud = as_array(value)
    except (ValueError, TypeError):
        raise InputError(place, "rows of unequal length, or no numbers", "(points, 3 or more)") from None
    if cloud.dtype.kind not in "fiu":
        raise InputError(place, f"values of type {cloud.dtype}", "numbers (points, 3 or more)")
    if cloud.ndim != 2 or cloud.shape[1] < 3 or cloud.shape[0] == 0:
        raise InputError(place, f"shape {cloud.shape}", "(points, 3 or more)")
    if cloud.shape[1] > max(COLUMNS, cloud.shape[0]):
        raise InputError(place, f"shape {cloud.shape}", "(points, 3 or more): transpose it if coordinates come first")
    narrow = cloud.dtype.kind == "f" and cloud.dtype.itemsize <= 4
    cloud = cloud[:, :3].astype(np.float32 if narrow else np.float64, copy=False)
    if not np.isfinite(cloud).all():
        raise InputError(place, "NaN or infinite coordinates", "finite ones")
    return cloud


def resized(size: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Places of `count` points of a cloud of `size`: some of more, drawn without repeats; all of fewer, then repeats.

    Repeats are as even as can be, and stand behind the points as they were.
    """
    if size == count:
        return np.arange(size)
    if size > count:
        return rng.permutation(size)[:count]
    more = count - size
    repeats = np.concatenate([rng.permutation(size) for _ in range(0, more, size)])[:more]
    return np.concatenate([np.arange(size), repeats])


def generator(number: int, seed: int) -> np.random.Generator:
    """Random numbers of a cloud, which do not depend on the clouds before it."""
    return np.random.default_rng([seed, number])


def _split(points: Any, name: str) -> Iterable[Any]:
    """Clouds one by one, of an array `(N, P, 3 or more)` or a sequence."""
    if isinstance(points, Tensor) or (isinstance(points, np.ndarray) and points.dtype.kind != "O"):
        if points.ndim != 3:
            raise InputError(name, f"points of shape {tuple(points.shape)}", "(clouds, points, 3 or more)")
        try:
            whole: NDArray[Any] = as_array(points)
        except TypeError as error:  # sparse or quantised
            raise InputError(name, f"points that are no array ({error})", "a dense tensor") from None
        return whole
    if isinstance(points, str | dict) or not isinstance(points, Iterable):
        raise InputError(name, f"points of type {type(points).__name__}", "an array, or a sequence of clouds")
    return points


def _own_parts(parts: Any, clouds: Sequence[Floats], name: str) -> list[NDArray[np.int64]]:
    """The part of every point of every cloud, as given.

    Raises:
        InputError: naming the cloud, for none, or other than one integer a point.
    """
    if not isinstance(parts, Iterable) or isinstance(parts, str | dict):
        raise InputError(name, "names of parts, but no parts" if parts is None else "parts of a strange type", "both")
    found = []
    for number, given in enumerate(parts):
        place = f"{name} cloud {number}"
        if given is None:
            raise InputError(place, "no parts, while others have some", "a part for each point")
        values = as_array(given)
        size = len(clouds[number]) if number < len(clouds) else 0
        if values.shape != (size,) or values.dtype.kind not in "iu":
            raise InputError(place, f"parts {values.dtype} {values.shape}", f"integers ({size},), one for each point")
        found.append(values.astype(np.int64))
    if len(found) != len(clouds):
        raise InputError(name, f"parts of {len(found)} clouds", f"of all {len(clouds)}")
    return found


def _named_parts(given: Sequence[str] | None, parts: Tensor, labels: Tensor, classes: int, place: str) -> PartNames:
    """Parts as they occur in classes; those that occur nowhere are refused."""
    if labels.ndim != 1:
        raise InputError(place, "soft labels of clouds with parts", "one class a cloud")
    least, most = int(parts.min()), int(parts.max())
    names = list(map(str, range(most + 1))) if given is None else list(given)
    if least < 0 or most >= len(names):
        found = f"part {least if least < 0 else most}"
        raise InputError(place, found, f"0 to {len(names) - 1} for {len(names)} parts")
    return PartNames.seen(names, parts, labels, classes)

"""Data sets of anyone's Python as `PointClouds`: of torch, of torch-geometric, of lists and generators."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.clouds.arrays import POINTS, as_cloud, check_asked, generator, resized
from pcdistill.clouds.frame import Floats, unit_sphere
from pcdistill.clouds.labels import as_array
from pcdistill.core.errors import InputError
from pcdistill.data.objects import Mesh, sample_surface
from pcdistill.data.prepare import Bad, too_few

POINT_KEYS = ("points", "pos", "xyz", "x")
LABEL_KEYS = ("label", "labels", "y", "target")
EXPECTED = "(points, label) or (points, label, parts), a mapping of these, or pos and y"


class _Item(NamedTuple):
    """What a data set says of one cloud, or of a batch of them."""

    points: Any
    label: Any
    faces: Any = None  # (F, 3): then points are the vertices of a mesh
    parts: Any = None  # (P,): what each point is a part of


def from_dataset(
    dataset: Iterable[Any] | Sequence[Any],
    class_names: Sequence[str] | None = None,
    points_per_cloud: int | None = 1024,
    normalise: bool = True,
    seed: int = 0,
    up_axis: str = "z",
    *,
    name: str | None = None,
    part_names: PartNames | Sequence[str] | None = None,
) -> PointClouds:
    """A data set in memory, or read as it is asked, in the frame that everything here expects.

    Args:
        dataset: a torch `Dataset`, a `DataLoader`, a torch-geometric data set or loader, a list, a generator. Its
            items are pairs (points, label); mappings with points (`points`, `pos`, `xyz` or `x`) and label (`label`,
            `labels`, `y` or `target`); objects with `pos` and `y`; or batches of these. With `face` `(3, F)` (or
            `faces` `(F, 3)` of a mapping) points are the vertices of a mesh, and its surface is sampled. Points have
            parts in triples (points, label, parts), in mappings with `parts`, and in objects with a `category`, which
            is then the label, and `y` a part for each point.
        class_names: as in `PointClouds.from_arrays`; None takes those of `dataset.class_names` or `dataset.classes`,
            if there are some.
        points_per_cloud: as there; a mesh gets 1024 for None.
        normalise, seed, up_axis: as there.
        name: of the set, by default that of its class.
        part_names: as there; None takes the `seg_classes` of the data set, if it has some (names of classes, and the
            numbers of their parts).

    Raises:
        InputError: naming the item, for what `PointClouds.from_arrays` refuses, for other items, and for a mesh
            without area.
    """
    return read_dataset(
        dataset, class_names, points_per_cloud, normalise, seed, up_axis, name=name, part_names=part_names
    )  # fmt: skip


def read_dataset(
    dataset: Iterable[Any] | Sequence[Any],
    class_names: Sequence[str] | None,
    points_per_cloud: int | None,
    normalise: bool,
    seed: int,
    up_axis: str,
    *,
    name: str | None = None,
    part_names: PartNames | Sequence[str] | None = None,
    bad: Bad | None = None,
) -> PointClouds:
    """`from_dataset`, of whose clouds those that cannot be used, or have too few points, are noted in `bad`.

    Raises:
        InputError: as `from_dataset`; with `bad` as `Bad.facts`, of all clouds at once.
    """
    place = type(dataset).__name__ if name is None else name
    check_asked(points_per_cloud, seed, up_axis)
    clouds: list[Floats] = []
    labels: list[Any] = []
    parts: list[Any] = []
    total = 0
    for number, item in enumerate(_items(dataset, place)):
        here, total = f"{place} item {number}", number + 1
        try:
            cloud, own = _made(item, points_per_cloud, generator(number, seed), here, normalise, bad)
            label = _checked_label(item.label, here)
        except InputError as problem:
            if bad is None:
                raise
            bad.note(problem)
            continue
        clouds.append(cloud)
        labels.append(label)
        if own is not None:
            parts.append(own)
        if parts and len(parts) != len(clouds):
            what = "no parts, while those before have some" if item.parts is None else "parts, while others have none"
            raise InputError(here, what, "parts of all items or of none")
    left_out = {} if bad is None else bad.facts(place, total)
    if not clouds:
        raise InputError(place, "0 items", "at least one")
    names = _names_of(dataset) if class_names is None else class_names
    if part_names is None and parts and names is not None:
        part_names, parts = _known_parts(dataset, names, parts)
    made = PointClouds.from_arrays(
        clouds, labels, names, points_per_cloud, normalise, seed, up_axis,
        name=place, parts=parts or None, part_names=part_names,
    )  # fmt: skip
    return replace(made, provenance={**made.provenance, **left_out}) if left_out else made


def _made(
    item: _Item, points: int | None, rng: np.random.Generator, place: str, unit: bool, bad: Bad | None
) -> tuple[Floats, NDArray[np.int64] | None]:
    """A cloud of so many points, at once, so that no more than what is kept of a set has to fit into memory; its parts.

    Raises:
        InputError: it cannot be used, or has fewer points than `bad` wants.
    """
    if item.faces is not None:
        if item.parts is not None:
            raise InputError(place, "a mesh with parts", "points with parts")
        return _sampled(item, points or POINTS, rng, place, unit), None
    cloud = as_cloud(item.points, place)
    if bad is not None:
        if len(cloud) < bad.wanted.least_points:
            raise too_few(place, len(cloud), bad.wanted.least_points)
        unit_sphere(cloud[None], place)
    kept = np.arange(len(cloud)) if points is None else resized(len(cloud), points, rng)
    parts = None if item.parts is None else _own_parts(item.parts, len(cloud), place)[kept]
    return cloud if points is None else cloud[kept], parts


def _items(dataset: Any, place: str) -> Iterator[_Item]:
    """All clouds of a data set one by one, batches taken apart."""
    if isinstance(dataset, str | bytes):
        raise InputError(place, f"{dataset!r:.60}", "a data set in memory (pcdistill.load reads files)")
    if isinstance(dataset, Mapping):
        dataset = [dataset]
    if not hasattr(dataset, "__iter__"):
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise InputError(place, f"a {type(dataset).__name__}", "a data set, or something else to iterate over")
        dataset = map(dataset.__getitem__, range(len(dataset)))  # torch's have no end of their own
    for number, given in enumerate(dataset):
        here = f"{place} item {number}"
        # A batch of torch-geometric's; a dense one has no number of graphs, and is one of tensors (B, P, 3).
        parts = given.to_data_list() if getattr(given, "num_graphs", None) is not None else [given]
        for part in parts:
            yield from _apart(_read(part, here), here)


def _read(given: Any, place: str) -> _Item:
    """Points and label of an item, whatever its kind."""
    if isinstance(given, Mapping):
        found = [next((key for key in keys if key in given), None) for keys in (POINT_KEYS, LABEL_KEYS)]
        if None in found:
            missing, keys = ("points", POINT_KEYS) if found[0] is None else ("label", LABEL_KEYS)
            raise InputError(place, f"no {missing} among {', '.join(map(str, given))}", f"one of {', '.join(keys)}")
        faces = _faces(given.get("face"), given.get("faces"), place)
        return _Item(given[found[0]], given[found[1]], faces, given.get("parts"))
    if isinstance(given, tuple | list):
        if len(given) not in (2, 3):
            raise InputError(place, f"{len(given)} values", EXPECTED)
        return _Item(given[0], given[1], None, given[2] if len(given) == 3 else None)
    pos, y = getattr(given, "pos", None), getattr(given, "y", None)
    if pos is None or y is None:
        known = hasattr(given, "pos") or hasattr(given, "y")
        found_here = f"no {'pos' if pos is None else 'y'}" if known else f"a {type(given).__name__}"
        raise InputError(place, found_here, "pos (P, 3) and y" if known else EXPECTED)
    faces, category = _faces(getattr(given, "face", None), None, place), getattr(given, "category", None)
    return _Item(pos, y, faces) if category is None else _Item(pos, category, faces, y)


def _faces(face: Any, faces: Any, place: str) -> NDArray[np.int64] | None:
    """Triangles `(F, 3)`, of torch-geometric's `(3, F)` or as they are; None if there are neither."""
    if face is None and faces is None:
        return None
    try:
        found = as_array(faces) if face is None else as_array(face).T
    except ValueError:
        raise InputError(place, "faces of unequal length", "integers (3, F)") from None
    if found.ndim != 2 or found.shape[1] != 3 or found.dtype.kind not in "iu":
        shape = found.T.shape if face is not None else found.shape
        raise InputError(place, f"faces {shape} of {found.dtype}", "integers (3, F), of a mapping's 'faces' (F, 3)")
    return found.astype(np.int64)


def _apart(item: _Item, place: str) -> Iterator[_Item]:
    """The clouds of a batch `(B, P, 3)`, or of a list of clouds; a cloud alone is itself."""
    listed = isinstance(item.points, list | tuple) and len(item.points) > 0
    if (getattr(item.points[0] if listed else item.points, "ndim", 0)) != (2 if listed else 3):
        yield item
        return
    size = len(item.points)
    labels = item.label if hasattr(item.label, "__len__") and not isinstance(item.label, str) else [item.label]
    if getattr(labels, "ndim", 1) == 0 or len(labels) != size:
        raise InputError(place, f"{size} clouds and {getattr(labels, 'shape', len(labels))} labels", "as many of both")
    parts = [None] * size if item.parts is None else item.parts
    if len(parts) != size:
        raise InputError(place, f"{size} clouds and parts of {len(parts)}", "as many of both")
    yield from (_Item(*one[:2], None, one[2]) for one in zip(item.points, labels, parts, strict=True))


def _checked_label(label: Any, place: str) -> Any:
    """The label, unless it is one of every point."""
    if isinstance(label, Tensor | np.ndarray):
        values = as_array(label)
        if values.size != 1 and (values.dtype.kind not in "biuf" or not np.isclose(values.sum(), 1, atol=1e-3)):
            raise InputError(place, f"labels of shape {values.shape}", "one, or probabilities that sum to 1")
    return label


def _own_parts(given: Any, points: int, place: str) -> NDArray[np.int64]:
    """The part of every point of a cloud.

    Raises:
        InputError: other than one integer a point.
    """
    values = as_array(given)
    if values.shape != (points,) or values.dtype.kind not in "iu":
        raise InputError(place, f"parts {values.dtype} {values.shape}", f"integers ({points},), one for each point")
    return values.astype(np.int64)


def _known_parts(dataset: Any, class_names: Sequence[str], parts: list[Any]) -> tuple[PartNames | None, list[Any]]:
    """Parts of these classes as a data set knows them itself, and labels of points numbered by them.

    torch-geometric's ShapeNet does, whose numbers run through all classes, those of its own or not.
    """
    known = getattr(dataset, "seg_classes", None)
    if not isinstance(known, Mapping) or not set(class_names) <= known.keys():
        return None, parts
    own = [sorted(map(int, known[name])) for name in class_names]
    numbers = sorted({number for each in own for number in each})
    names = {number: f"{name}/{number}" for name, each in zip(class_names, own, strict=True) for number in each}
    for cloud, given in enumerate(parts):
        if not np.isin(given, numbers).all():
            raise InputError(f"item {cloud}", f"part {np.setdiff1d(given, numbers)[0]}", "a part of its classes")
    of_class = tuple(tuple(map(numbers.index, each)) for each in own)
    made = PartNames(tuple(names[number] for number in numbers), of_class)
    return made, [np.searchsorted(numbers, given) for given in parts]


def _sampled(item: _Item, count: int, rng: np.random.Generator, place: str, unit: bool) -> Floats:
    """`(count, 3)` float64 points on the surface of a mesh, in unit size or in its own."""
    vertices, faces = as_cloud(item.points, place).astype(np.float64), item.faces
    sampled = sample_surface(Mesh(vertices, faces), count, rng, place)
    if unit:
        return sampled
    corners = vertices[faces]  # `sample_surface` works around their middle, and in their size
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    own: Floats = sampled * (high / 2 - low / 2).max() + (high / 2 + low / 2)
    return own


def _names_of(dataset: Any) -> Sequence[str] | None:
    """Names of classes that a data set knows itself, or the one behind a loader or a subset."""
    for _ in range(8):  # subsets of subsets
        for key in ("class_names", "classes", "categories"):
            names = getattr(dataset, key, None)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return names
        if (dataset := getattr(dataset, "dataset", None)) is None:
            break
    return None

"""Any HDF5 file of point arrays and labels, as tutorials and other tools write it.

Pairs of datasets such as `data` and `label`, `points` and `labels`, `X` and `y`: at the top, where a seeded, stratified
fifth becomes the test split unless a file of the other split lies beside; in groups `train` and `test`; or named
`X_train`, `y_train`, `train_data`, `train_labels`. Points are `(N, P, 3 or more)`, labels `(N,)` or `(N, 1)`, integers
or texts. Class names are the attribute or dataset `class_names`, lines of a text file beside (`class_names.txt`, ...),
else the labels themselves. Axes are as the attribute `up_axis` says, else as stored.
"""

import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import PointClouds
from pcdistill.clouds.arrays import COLUMNS
from pcdistill.core.errors import InputError
from pcdistill.core.hdf5 import member, names
from pcdistill.data.hdf5 import dataset, group, is_own, open_hdf5, reading, up_axis_of
from pcdistill.data.layouts import modelnet_hdf5
from pcdistill.data.layouts.folders import WORDS
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.layouts.tree import TEST_FRACTION
from pcdistill.data.prepare import (
    Floats,
    MissingSplit,
    Wanted,
    assemble,
    check_set,
    check_split,
    enough,
    generator_for,
    lines_of,
    stratified,
)

NAME = "HDF5 of points and labels"
POINTS = ("data", "points", "pointclouds", "point_clouds", "clouds", "pcs", "xyz", "pos", "x")
LABELS = ("label", "labels", "y", "target", "targets", "class", "classes", "category")
NAMES = ("class_names", "shape_names", "classes", "names", "labels", "categories")  # .txt, beside the file


class Pair(NamedTuple):
    """Names of the datasets of a split in their file."""

    file: Path
    points: str
    labels: str


def recognises(path: Path) -> bool:
    """A file with a pair of datasets that this project's own layout has not."""
    if not path.is_file() or path.suffix.lower() not in (".h5", ".hdf5") or modelnet_hdf5.recognises(path.parent):
        return False  # of PointNet's release a file is a part only
    try:
        with h5py.File(path, "r") as file:
            try:
                return bool(_pairs(file, path)) and not any(f"{split}/points" in file for split in ("train", "test"))
            except InputError:
                return not is_own(file)  # whose reader says what is wrong
    except (OSError, RuntimeError, KeyError, ValueError):
        return False


def read(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split. Of more points than are wanted a seeded subset is kept, the same positions in every cloud.

    Raises:
        MissingSplit: there is no such split.
        InputError: naming file and dataset, for anything that is not this layout.
    """
    check_split(split)
    with open_hdf5(path) as file, reading(path):
        pairs = _pairs(file, path)
    whole = _whole(pairs, path)
    if whole is None and split not in pairs:
        raise MissingSplit(f"{path} {split}", f"no {split} part, only {', '.join(pairs)}", "datasets of that part")
    wanted_pair = pairs["all"] if whole else pairs[split]
    data, raw, up_axis = _arrays(wanted_pair, wanted)
    every = [raw, *(_labels(pair) for name, pair in pairs.items() if pair != wanted_pair and name != "val")]
    labels, names = _named(raw, every, path)
    check_set(data.shape, labels, names, path)
    rule = "as in the file"
    if whole:
        counts = np.bincount(labels, minlength=len(names))
        if (counts < 2).any():
            name = names[int(counts.argmin())]
            raise InputError(path, f"{counts.min()} clouds of class '{name}'", "at least two, for train and test")
        chosen = stratified(labels, len(names), TEST_FRACTION, wanted.seed) == (split == "test")
        data, labels = data[chosen], labels[chosen]
        rule = f"own, stratified, {TEST_FRACTION:.0%} test, seed {wanted.seed}"
    facts = {"name": path.stem, "split": split, "source": path.name, "layout": NAME, "split_rule": rule}
    return assemble(
        data, labels, names, place=path, up_axis=wanted.up_axis or up_axis or "unspecified",
        provenance={**facts, "points_kept": "seeded subset", "seed": wanted.seed}, wanted=wanted,
    )  # fmt: skip


def described(path: Path) -> str:
    """What datasets a file holds, for refusing it: `X (12, 1024, 3), y (12,)`."""
    found = list[str]()

    def note(name: str, one: object) -> None:
        if isinstance(one, h5py.Dataset) and len(found) < 8:
            found.append(f"{name} {member(file, name, path).shape}")

    try:
        with h5py.File(path, "r") as file:
            file.visititems(note)
    except (InputError, OSError, RuntimeError, KeyError, ValueError):
        return ""
    return ", ".join(found) or "no datasets"


def _whole(pairs: dict[str, Pair], path: Path) -> Pair | None:
    """The pair that is to be split here, if none is of a split; a sibling file may hold the other part."""
    pair = pairs.get("all")
    if pair is None:
        return None
    for split, other in (("train", "test"), ("test", "train")):
        sibling = _sibling(path, split, other)
        if sibling is not None:
            pairs.clear()
            pairs.update({split: pair, other: pair._replace(file=sibling)})
            return None
    return pair


def _sibling(path: Path, split: str, other: str) -> Path | None:
    """The file beside `train.h5` or `my_train_2048.h5` that is called the same but for the word."""
    for word in (name for name, meant in WORDS.items() if meant == split and "_" not in name):
        for place in re.finditer(rf"(?<![^\W_]){word}(?![^\W_])", path.stem, re.IGNORECASE):
            for replacing in (name for name, meant in WORDS.items() if meant == other):
                stem = path.stem[: place.start()] + replacing + path.stem[place.end() :]
                if (path.with_name(stem + path.suffix)).is_file():
                    return path.with_name(stem + path.suffix)
    return None


def _pairs(file: h5py.File, path: Path) -> dict[str, Pair]:
    """Pairs of datasets by split: "all" for those that say none."""
    found = _pairs_in(file, "", path)
    for name in names(file):
        part = member(file, name, f"{path} {name}")
        if isinstance(part, h5py.Group) and (split := WORDS.get(name.lower())) is not None:
            inner = _pairs_in(part, f"{name}/", path).get("all")
            found |= {} if inner is None else {split: inner}
    if "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    return found if len(found) == 1 else {split: pair for split, pair in found.items() if split != "all"}


def _pairs_in(holder: h5py.Group, prefix: str, path: Path) -> dict[str, Pair]:
    """Pairs at one level, whose names may have a split's word before or behind."""
    kinds: dict[str, dict[str, str]] = {}
    for name in names(holder):
        one = member(holder, name, f"{path} {prefix}{name}")
        if not isinstance(one, h5py.Dataset):
            continue
        words = re.split(r"[_\-. ]", name.lower())
        splits = [WORDS[word] for word in words if word in WORDS]
        plain = "_".join(word for word in words if word not in WORDS)
        kind = "points" if plain in POINTS and one.ndim == 3 else "labels" if plain in LABELS and one.ndim <= 2 else ""
        if kind:
            kinds.setdefault(splits[0] if splits else "all", {}).setdefault(kind, prefix + name)
    return {
        split: Pair(path, names["points"], names["labels"]) for split, names in kinds.items() if len(names) == 2
    }  # fmt: skip


def _arrays(pair: Pair, wanted: Wanted) -> tuple[Floats, NDArray[np.generic], str | None]:
    """Points `(N, P, 3)` and labels `(N,)` as stored, and the file's `up_axis`."""
    with open_hdf5(pair.file) as file, reading(pair.file):
        place, stored = f"{pair.file} {pair.points}", _dataset(file, pair.points, pair.file, "fiu")
        if stored.ndim != 3 or stored.shape[2] < 3:
            raise InputError(place, f"shape {stored.shape}", "(clouds, points, 3 or more)")
        if stored.shape[2] > max(COLUMNS, stored.shape[1]):
            expected = "(clouds, points, 3 or more): transpose it if coordinates come first"
            raise InputError(place, f"shape {stored.shape}", expected)
        count = enough(stored.shape[1], wanted, place)
        data = stored[:, :, :3].astype(np.float64 if stored.dtype.itemsize > 4 else np.float32)
        if count < data.shape[1]:
            data = data[:, generator_for("arrays", wanted.seed).permutation(data.shape[1])[:count]]
        return data, _stored_labels(file, pair, len(data)), up_axis_of(file)


def _dataset(file: h5py.File, name: str, path: Path, kinds: str) -> h5py.Dataset:
    """A dataset of the root or of a group in it, whose values lie in the file and whose type is of these kinds."""
    *above, last = name.split("/")
    return dataset(group(file, above[0], path) if above else file, last, path, kinds)


def _labels(pair: Pair) -> NDArray[np.generic]:
    with open_hdf5(pair.file) as file, reading(pair.file):
        return _stored_labels(file, pair, None)


def _stored_labels(file: h5py.File, pair: Pair, clouds: int | None) -> NDArray[np.generic]:
    """Labels `(N,)`: integers (also as floats without a fraction), or texts."""
    place = f"{pair.file} {pair.labels}"
    values = np.asarray(_dataset(file, pair.labels, pair.file, "fiuOSU")[()])
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or (clouds is not None and len(values) != clouds):
        raise InputError(place, f"labels of shape {values.shape}", f"one for each of {clouds or 'the'} clouds")
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.round(values)).all():
        return values.astype(np.int64)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    if values.dtype.kind in "OSU":
        return np.array([one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in values])
    raise InputError(place, f"labels of type {values.dtype}", "integers or texts")


def _named(
    labels: NDArray[np.generic], every: list[NDArray[np.generic]], path: Path
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels as places in a list of names, which is the file's, one beside it, or what labels there are."""
    names = _names(path)
    if names and labels.dtype.kind == "i":
        return labels.astype(np.int64), names
    known = np.unique(np.concatenate(every))
    return np.searchsorted(known, labels).astype(np.int64), [str(one) for one in known.tolist()]


def _names(path: Path) -> list[str]:
    with open_hdf5(path) as file, reading(path):
        stored = file.attrs.get("class_names")
        listed = next((member(file, name, path) for name in ("class_names", "shape_names") if name in file), None)
        if stored is None and isinstance(listed, h5py.Dataset) and listed.dtype.kind in "OS":
            stored = listed[()]
    if stored is not None and np.ndim(stored) == 1:
        return [one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in stored]
    for stem in (*NAMES, *(f"{path.stem}_{name}" for name in NAMES)):
        if path.with_name(f"{stem}.txt").is_file():
            return lines_of(path.with_name(f"{stem}.txt"))
    return []


LAYOUT = Layout(NAME, recognises, read)

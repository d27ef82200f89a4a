"""A folder per class of meshes or clouds, one object per file (suffixes: `objects.READERS`).

Three forms: `train/<class>/*` with `test/<class>/*`; `<class>/train/*` with `<class>/test/*`, which is
how the ModelNet OFF files come; and `<class>/*` without splits, of which a seeded, stratified fifth
becomes the test split. `folders` says what splits may be called, how deep files may lie, how classes of files without
folders are found and what is passed over. Sorted classes make the labels.

A folder with a text file `part_names.txt` in it, a name a line, is a set whose points have parts: labels of all points
of all files (`formats.point_labels`) are places in that list, from 0. A class has those that occur in its clouds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.formats import Mesh, labels_of
from pcdistill.data.gathering import SAMPLED, read_objects
from pcdistill.data.layouts.folders import Survey, survey
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.objects import original
from pcdistill.data.prepare import Counted, Wanted, assemble, check_split, lines_of, stratified

NAME = "folder per class"
PART_NAMES = "part_names.txt"
TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Listing:
    """The files of one split, the class of each, and how the split came about."""

    files: list[Path]
    labels: list[int]
    class_names: list[str]
    rule: str


def recognises(path: Path) -> bool:
    """A folder with files of a known suffix, in class folders or called by their class."""
    if not path.is_dir():
        return False
    try:
        return survey(path) is not None
    except InputError:
        return True  # so that the reader says what is wrong with it


def read(path: Path, split: str, wanted: Wanted, usual_axis: str = "unspecified") -> PointClouds:
    """One split; see `read_counted`."""
    return read_counted(path, split, wanted, usual_axis).clouds


def read_counted(path: Path, split: str, wanted: Wanted, usual_axis: str = "unspecified") -> Counted:
    """One split, and the points that clouds had. All get as many as are wanted, see `gathering`.

    The axes are as stored; y is turned to z, if that is wanted or `usual_axis`.

    Raises:
        InputError: naming folder or file, for a missing split or class, a class of one file where the split is to be
            made here, and all that `read_objects` refuses.
    """
    check_split(split)
    seen = _seen(path)
    found = listing(seen, split, wanted.seed)
    up_axis = wanted.up_axis or usual_axis
    facts: dict[str, str | int] = {"name": path.name, "split": split, "source": path.name, "layout": NAME}
    facts |= {"points_kept": SAMPLED, "seed": wanted.seed, "split_rule": found.rule, **seen.facts()}

    part_names = part_names_of(path)

    def convert() -> Counted:
        of_points = None if part_names is None else partial(parts_in, names=part_names)
        gathered = read_objects(found.files, path, wanted, f"reading {path.name} {split}", of_points)
        labels, every = np.array(found.labels)[gathered.kept], {**facts, **gathered.facts()}
        clouds = assemble(
            gathered.points, labels, found.class_names, place=path, up_axis=up_axis, provenance=every,
            parts=gathered.labels,
            part_names=None if part_names is None else _of_classes(seen, found.class_names, part_names, wanted),
        )  # fmt: skip
        return Counted(clouds, gathered.numbers)

    asked = {**wanted.asked(), "classes": "/".join(found.class_names), "up": up_axis}
    if part_names is None:
        return cached(found.files, path, {**facts, **asked}, convert)
    # Which class has which part hangs on all files, of the other split as well.
    every = [file for files in seen.parts.values() for own in files.values() for file in own]
    return cached([path / PART_NAMES, *every], path, {**facts, **asked, "parts": "/".join(part_names)}, convert)


def part_names_of(path: Path) -> list[str] | None:
    """The names of the parts of a set whose points have some; InputError of a file that cannot be read."""
    return lines_of(path / PART_NAMES) if (path / PART_NAMES).is_file() else None


def parts_in(file: Path, points: int, names: Sequence[str]) -> NDArray[np.int64]:
    """The part of every point of a file, as a place in the list of names; InputError of labels that are none."""
    found = labels_of(file, points)
    wrong = (found < 0) | (found >= len(names))
    if wrong.any():
        at = int(wrong.argmax())
        place = f"0 to {len(names) - 1}, the lines of {PART_NAMES}"
        raise InputError(file, f"label {found[at]} of point {at}", place)
    return found


def _of_classes(seen: Survey, classes: Sequence[str], names: Sequence[str], wanted: Wanted) -> PartNames:
    """Parts that occur in the files of a class, of all splits.

    Raises:
        InputError: one that occurs in none; a file that cannot be read, unless these are left out.
    """
    found: dict[str, set[int]] = {name: set() for name in classes}
    for files in seen.parts.values():
        for name, own in files.items():
            for file in own if name in found else ():
                try:
                    cloud = original(file, wanted.least_points)
                    found[name].update([] if isinstance(cloud, Mesh) else parts_in(file, len(cloud), names).tolist())
                except InputError:
                    if not wanted.skip_bad:
                        raise
    try:
        return PartNames(tuple(names), tuple(tuple(sorted(found[name])) for name in classes))
    except InputError as error:
        raise InputError(seen.path / PART_NAMES, str(error)) from None


def listing(seen: Survey, split: str, seed: int) -> Listing:
    """The files of a split, which is drawn here if the folders do not say it.

    Raises:
        InputError: as `Survey.files`; a class of one file, where the split is drawn here.
    """
    names = seen.class_names
    files = seen.files(split)
    paths = [file for name in names for file in files[name]]
    labels = np.repeat(np.arange(len(names)), [len(files[name]) for name in names])
    if seen.split:
        return Listing(paths, labels.tolist(), names, "as in the folders")
    for name in names:
        if len(files[name]) < 2:
            raise InputError(seen.path / name, "one file", "at least two, for a train and a test split")
    chosen = stratified(labels, len(names), TEST_FRACTION, seed) == (split == "test")
    kept = np.flatnonzero(chosen).tolist()
    rule = f"own, stratified, {TEST_FRACTION:.0%} test, seed {seed}"
    return Listing([paths[at] for at in kept], labels[kept].tolist(), names, rule)


def _seen(path: Path) -> Survey:
    seen = survey(path)
    if seen is None:
        raise InputError(path, "no object files", "a folder per class")
    return seen


LAYOUT = Layout(NAME, recognises, read, read_counted)
MODELNET = Layout(
    "ModelNet OFF tree",
    recognises,
    partial(read, usual_axis="z"),
    partial(read_counted, usual_axis="z"),
)

"""A folder per class of meshes or clouds, one object per file (suffixes: `objects.READERS`).

Three forms: `train/<class>/*` with `test/<class>/*`; `<class>/train/*` with `<class>/test/*`, which is
how the ModelNet OFF files come; and `<class>/*` without splits, of which a seeded, stratified fifth
becomes the test split. `folders` says what splits may be called, how deep files may lie, how classes of files without
folders are found and what is passed over. Sorted classes make the labels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.gathering import SAMPLED, read_objects
from pcdistill.data.layouts.folders import Survey, survey
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Counted, Wanted, assemble, check_split, stratified

NAME = "folder per class"
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

    def convert() -> Counted:
        gathered = read_objects(found.files, path, wanted, f"reading {path.name} {split}")
        labels, every = np.array(found.labels)[gathered.kept], {**facts, **gathered.facts()}
        clouds = assemble(
            gathered.points, labels, found.class_names, place=path, up_axis=up_axis, provenance=every
        )  # fmt: skip
        return Counted(clouds, gathered.numbers)

    asked = {**wanted.asked(), "classes": "/".join(found.class_names), "up": up_axis}
    return cached(found.files, path, {**facts, **asked}, convert)


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

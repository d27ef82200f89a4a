"""A folder per class of meshes or clouds, one object per file (suffixes: `objects.READERS`).

Three forms: `train/<class>/*` with `test/<class>/*`; `<class>/train/*` with `<class>/test/*`, which is
how the ModelNet OFF files come; and `<class>/*` without splits, of which a seeded, stratified fifth
becomes the test split. Other files are ignored. Sorted class folders make the labels.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.objects import READERS, read_objects
from pcdistill.data.prepare import SPLITS, assemble, check_split, stratified

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
    """A folder with a folder that holds, at most two levels down, a file of a known suffix."""
    if not path.is_dir():
        return False
    return any(_objects(inner) for folder in _folders(path) for inner in (folder, *_folders(folder)))


def read(path: Path, split: str, points: int | None, seed: int, up_axis: str = "unspecified") -> PointClouds:
    """One split. Meshes are sampled at `points` (default 1024), of clouds a seeded subset is kept.

    The axes are as stored (`up_axis` says what is known of them; y is turned to z).

    Raises:
        InputError: naming folder or file, for an empty class folder, a missing split, a class of one
            file where the split is to be made here, and all that `read_object` refuses.
    """
    check_split(split)
    found = _listing(path, split, seed)
    facts: dict[str, str | int] = {"name": path.name, "split": split, "source": path.name, "layout": NAME}
    facts |= {"points_kept": "surface sample or seeded subset", "seed": seed, "split_rule": found.rule}

    def convert() -> PointClouds:
        clouds = read_objects(found.files, path, points, seed, f"reading {path.name} {split}")
        labels = np.array(found.labels)
        return assemble(clouds, labels, found.class_names, place=path, up_axis=up_axis, provenance=facts)

    classes = "/".join(found.class_names)
    return cached(found.files, path, {**facts, "points": points, "classes": classes, "up": up_axis}, convert)


def _listing(path: Path, split: str, seed: int) -> Listing:
    top = {folder.name for folder in _folders(path)}
    if top & set(SPLITS) and top <= {*SPLITS, "val", "validation"}:
        return _split_first(path, split)
    names = [folder.name for folder in _folders(path)]
    if any((path / name / part).is_dir() for name in names for part in SPLITS):
        folders = [path / name / split for name in names]
        return _listed(folders, names, "as in the folders")
    whole = _listed([path / name for name in names], names, "")
    labels = np.array(whole.labels)
    for label, name in enumerate(names):
        if (labels == label).sum() < 2:
            raise InputError(path / name, "one file", "at least two, for a train and a test split")
    chosen = stratified(labels, len(names), TEST_FRACTION, seed) == (split == "test")
    kept = np.flatnonzero(chosen).tolist()
    rule = f"own, stratified, {TEST_FRACTION:.0%} test, seed {seed}"
    return Listing([whole.files[at] for at in kept], [whole.labels[at] for at in kept], names, rule)


def _split_first(path: Path, split: str) -> Listing:
    names = sorted({folder.name for part in SPLITS for folder in _folders(path / part)})
    return _listed([path / split / name for name in names], names, "as in the folders")


def _listed(folders: list[Path], names: list[str], rule: str) -> Listing:
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        inside = _objects(folder)
        if not inside:
            known = " ".join(sorted(READERS))
            raise InputError(folder, "no object files" if folder.is_dir() else "no such folder", f"files of {known}")
        files += inside
        labels += [label] * len(inside)
    return Listing(files, labels, names, rule)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _objects(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in READERS and entry.is_file() and not entry.name.startswith(".")
    )


LAYOUT = Layout(NAME, recognises, read)
MODELNET = Layout("ModelNet OFF tree", recognises, partial(read, up_axis="z"))

"""ShapeNetPart (Yi et al., SIGGRAPH Asia 2016) in both released forms.

Text, `shapenetcore_partanno_segmentation_benchmark_v0_normal`: `<synset>/<model>.txt` with lines "x y z nx ny nz part",
`synsetoffset2category.txt`, and `train_test_split/shuffled_{train,val,test}_file_list.json` of entries
"shape_data/<synset>/<model>".
HDF5, `shapenet_part_seg_hdf5_data` (PointNet's): `data` `(n, 2048, 3)`, `label` `(n, 1)`, `pid` `(n, 2048)` in files
that `{train,val,test}_hdf5_file_list.txt` name, and `all_object_categories.txt`.

As published code has it, train is train and val together. y is up, normals are not read. Parts are numbered from 0 to
49 through all classes (`PARTS`); copies that count from one, or anew in every class, are told by their numbers. A class
without training objects is left out, of the test split as well.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath

import h5py
import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.formats import labels_of
from pcdistill.data.gathering import read_objects
from pcdistill.data.hdf5 import data_and_label, dataset, open_hdf5, reading
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Counted, Floats, Wanted, assemble, check_split, lines_of

TEXT_NAME = "ShapeNetPart text"
HDF5_NAME = "ShapeNetPart HDF5"
CATEGORIES, HDF5_CATEGORIES = "synsetoffset2category.txt", "all_object_categories.txt"
SPLITS = {"train": ("train", "val"), "test": ("test",)}
# The first part of every class and their number; 50 parts in all.
PARTS = {
    "Airplane": (0, 4), "Bag": (4, 2), "Cap": (6, 2), "Car": (8, 4), "Chair": (12, 4), "Earphone": (16, 3),
    "Guitar": (19, 3), "Knife": (22, 2), "Lamp": (24, 4), "Laptop": (28, 2), "Motorbike": (30, 6), "Mug": (36, 2),
    "Pistol": (38, 3), "Rocket": (41, 3), "Skateboard": (44, 3), "Table": (47, 3),
}  # fmt: skip


def recognises_text(path: Path) -> bool:
    return (path / CATEGORIES).is_file() and (path / "train_test_split").is_dir()


def recognises_hdf5(path: Path) -> bool:
    return (path / HDF5_CATEGORIES).is_file() and (path / "train_hdf5_file_list.txt").is_file()


def read_text(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split; `points` is a seeded random subset, smaller clouds are filled up by repeats."""
    return read_text_counted(path, split, wanted).clouds


def read_text_counted(path: Path, split: str, wanted: Wanted) -> Counted:
    """`read_text`, with the points that clouds had."""
    check_split(split)
    names = _categories(path / CATEGORIES)
    listed = {part: _listed(path, part, names) for part in SPLITS}
    classes = sorted({label for label, _ in listed["train"]}, key=list(names.values()).index)
    chosen = [(label, file) for label, file in listed[split] if label in classes]
    files = [file for _, file in chosen]
    facts: dict[str, str | int] = {
        "name": path.name, "split": split, "source": path.name, "layout": TEXT_NAME, "seed": wanted.seed,
        "points_kept": "seeded subset",
    }  # fmt: skip
    left_out = sorted({label for label, _ in listed["test"]} - set(classes))
    facts |= {"remarks": f"classes without a training object, left out: {', '.join(left_out)}"} if left_out else {}

    def convert() -> Counted:
        found = read_objects(files, path, wanted, f"reading ShapeNetPart {split}", labels_of)
        assert found.labels is not None
        labels = np.array([classes.index(label) for label, _ in chosen])[found.kept]
        parts, part_names = _numbered(found.labels, labels, classes, path)
        every = {**facts, **found.facts()}
        clouds = assemble(
            found.points, labels, classes, place=path, up_axis=wanted.up_axis or "y", provenance=every,
            parts=parts, part_names=part_names,
        )  # fmt: skip
        return Counted(clouds, found.numbers)

    asked = {**wanted.asked(), "classes": " ".join(classes)}
    return cached([path / CATEGORIES, *files], path, {**facts, **asked}, convert)


def read_hdf5(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split; `points` keeps the first ones, nothing is random."""
    check_split(split)
    names = list(_categories(path / HDF5_CATEGORIES).values())
    read = {part: list(_arrays(path, part, names, wanted)) for part in {split, "train"}}
    present = np.unique(np.concatenate([labels for _, labels, _ in read["train"]]))
    classes = [names[label] for label in present]
    data, labels, parts = (np.concatenate(column) for column in zip(*read[split], strict=True))
    kept = np.isin(labels, present)
    places = np.searchsorted(present, labels[kept])
    numbers, part_names = _numbered(parts[kept].astype(np.int64), places, classes, path)
    return assemble(
        data[kept], places, classes, place=path, up_axis=wanted.up_axis or "y", parts=numbers, part_names=part_names,
        provenance={
            "name": path.name, "split": split, "source": path.name, "layout": HDF5_NAME, "points_kept": "first",
        },
    )  # fmt: skip


def _categories(path: Path) -> dict[str, str]:
    """Synset -> class, in the order of the file; names and synsets are parted by whatever blanks."""
    found = {}
    for line in lines_of(path):
        words = line.split()
        if len(words) != 2 or words[0] not in PARTS:
            raise InputError(path, f"line '{line:.60}'", "a class of ShapeNetPart and its synset")
        found[words[1]] = words[0]
    return found


def _listed(path: Path, split: str, names: dict[str, str]) -> list[tuple[str, Path]]:
    """Class and file of every object of a split."""
    found = []
    for part in SPLITS[split]:
        listing = path / "train_test_split" / f"shuffled_{part}_file_list.json"
        try:
            entries = json.loads(listing.read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            raise InputError(listing, f"unreadable ({problem})", "a list of objects") from None
        for entry in entries if isinstance(entries, list) else [entries]:
            words = PurePosixPath(entry.strip()).parts if isinstance(entry, str) else ()
            if len(words) != 3 or words[1] not in names or ".." in words:
                raise InputError(listing, f"entry {entry!r:.80}", "shape_data/<synset>/<model>")
            found.append((names[words[1]], path / words[1] / f"{words[2]}.txt"))
    if not found:
        raise InputError(path, f"no {split} objects", "some in its lists")
    return found


def _arrays(
    path: Path, split: str, names: Sequence[str], wanted: Wanted
) -> Iterator[tuple[Floats, NDArray[np.integer], NDArray[np.integer]]]:
    """Points, labels and parts of the files of a split."""
    for part in SPLITS[split]:
        listing = path / f"{part}_hdf5_file_list.txt"
        for line in lines_of(listing) if listing.is_file() or part != "val" else ():
            file = path / PurePosixPath(line).name
            data, labels, _ = data_and_label(file, len(names), wanted)
            with open_hdf5(file) as opened, reading(file):
                yield data, labels, _part_ids(opened, file, data.shape[:2])


def _part_ids(opened: h5py.File, file: Path, shape: tuple[int, ...]) -> NDArray[np.integer]:
    stored: NDArray[np.integer] = dataset(opened, "pid", file, "iu")[:, : shape[1]]
    if stored.shape != shape:
        raise InputError(f"{file} pid", f"shape {stored.shape}", f"{shape}, one for each point")
    return stored


def _numbered(
    parts: NDArray[np.int64], labels: NDArray[np.integer], classes: Sequence[str], path: Path
) -> tuple[NDArray[np.int64], PartNames]:
    """Parts `(N, P)` from 0 on through the classes that there are, and their names.

    Raises:
        InputError: numbers that are of no known way to count.
    """
    starts, sizes = (np.array([PARTS[name][at] for name in classes]) for at in (0, 1))
    for first in (starts, starts + 1, np.zeros_like(starts), np.ones_like(starts)):  # of a class, in the file
        own = parts - first[labels][:, None]
        wrong = (own < 0) | (own >= sizes[labels][:, None])
        if not wrong.any():
            kept = np.concatenate([[0], sizes.cumsum()])
            names = tuple(f"{name}/{number}" for name in classes for number in range(PARTS[name][1]))
            of_class = tuple(tuple(range(low, high)) for low, high in pairwise(kept.tolist()))
            return own + kept[labels][:, None], PartNames(names, of_class)
    in_file = (parts < starts[labels][:, None]) | (parts >= (starts + sizes)[labels][:, None])
    cloud, point = np.argwhere(in_file)[0]
    name = classes[labels[cloud]]
    wanted = f"{PARTS[name][0]} to {sum(PARTS[name]) - 1}, or counted from one or anew in every class"
    raise InputError(path, f"part {parts[cloud, point]} of a {name} (object {cloud})", wanted)


TEXT = Layout(TEXT_NAME, recognises_text, read_text, read_text_counted)
HDF5 = Layout(HDF5_NAME, recognises_hdf5, read_hdf5)

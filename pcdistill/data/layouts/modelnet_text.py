"""`modelnet40_normal_resampled`: ModelNet40 and 10 as released with PointNet++ (Qi et al., NeurIPS 2017).

`<class>/<class>_0001.txt` with 10,000 lines "x,y,z,nx,ny,nz"; `modelnet40_train.txt`, `_test.txt` and
`_shape_names.txt` list objects and classes, and so do the `modelnet10_` ones. y is up; normals are not
read. `points` keeps the first lines of a file, as the released loader does; where files have unequal numbers, those of
fewer are repeated from the first.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.gathering import unequal
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.objects import MESH_POINTS
from pcdistill.data.prepare import (
    Bad,
    Counted,
    Wanted,
    assemble,
    check_number,
    check_split,
    enough,
    lines_of,
    too_few,
    tracked,
    unit_sphere,
)

NAME = "modelnet40_normal_resampled"


def recognises(path: Path, family: str = "modelnet40") -> bool:
    return (path / f"{family}_shape_names.txt").is_file()


def read(path: Path, split: str, wanted: Wanted, family: str = "modelnet40") -> PointClouds:
    """One split of `family` ("modelnet40" or "modelnet10"); see `read_counted`."""
    return read_counted(path, split, wanted, family).clouds


def read_counted(path: Path, split: str, wanted: Wanted, family: str = "modelnet40") -> Counted:
    """One split, and the points that clouds had; nothing is random, no seed is used.

    Clouds of unequal numbers get the points that are wanted, or 1024.
    """
    check_split(split)
    check_number(wanted.points)
    names = lines_of(path / f"{family}_shape_names.txt")
    listing = path / f"{family}_{split}.txt"
    objects = lines_of(listing)
    labels = np.array([_label(entry, names, listing) for entry in objects])
    files = [path / names[label] / f"{entry}.txt" for entry, label in zip(objects, labels, strict=True)]
    facts = {"name": family, "split": split, "source": path.name, "layout": NAME, "points_kept": "first"}

    def convert() -> Counted:
        bad, clouds, kept = Bad(wanted), list[NDArray[np.float64]](), list[int]()
        for place, file in enumerate(tracked(files, f"reading {family} {split}")):
            try:
                clouds.append(_read_points(file, wanted))
                kept.append(place)
            except InputError as problem:
                bad.note(problem)
        skipped = bad.facts(listing, len(files))
        numbers = np.array([len(cloud) for cloud in clouds], dtype=np.int32)
        alike = len(np.unique(numbers)) == 1
        count = enough(len(clouds[0]), wanted, files[kept[0]]) if alike else wanted.points or MESH_POINTS
        stacked = np.stack([np.resize(cloud, (count, 3)) for cloud in clouds])
        every, up_axis = {**facts, **skipped, **unequal(numbers, count)}, wanted.up_axis or "y"
        made = assemble(stacked, labels[kept], names, place=listing, up_axis=up_axis, provenance=every)
        return Counted(made, None if alike else numbers)

    lists = [path / f"{family}_shape_names.txt", listing]
    return cached([*lists, *files], path, {**facts, **wanted.asked()}, convert)


def _label(entry: str, names: list[str], listing: Path) -> int:
    name = entry.rpartition("_")[0]
    if name not in names:
        raise InputError(listing, f"object '{entry}' of no known class", "<class>_<number>")
    if any(mark in entry for mark in "/\\\0") or name in ("", ".", ".."):
        raise InputError(listing, f"object {entry[:80]!r}", "a name within the folder")
    return names.index(name)


def _read_points(file: Path, wanted: Wanted) -> NDArray[np.float64]:
    if not file.is_file() or file.stat().st_size == 0:
        raise InputError(file, "empty" if file.is_file() else "no such file", "lines x,y,z,nx,ny,nz")
    try:
        # All of them: whether a file is refused must not hang on how many are wanted.
        rows = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as problem:
        raise InputError(file, f"unreadable ({problem})", "lines x,y,z,nx,ny,nz") from problem
    if rows.shape[0] == 0 or rows.shape[1] < 3:
        raise InputError(file, f"{rows.shape[0]} lines of {rows.shape[1]} numbers", "lines x,y,z,nx,ny,nz")
    if not np.isfinite(rows[:, :3]).all():
        raise InputError(file, "NaN or infinite coordinates", "finite ones")
    if len(rows) < wanted.least_points:
        raise too_few(file, len(rows), wanted.least_points)
    unit_sphere(rows[None, : wanted.points, :3], file)
    return rows[:, :3]


LAYOUT = Layout(NAME, recognises, read, read_counted)
MODELNET10 = Layout(
    NAME,
    partial(recognises, family="modelnet10"),
    partial(read, family="modelnet10"),
    partial(read_counted, family="modelnet10"),
)

"""`modelnet40_normal_resampled`: ModelNet40 and 10 as released with PointNet++ (Qi et al., NeurIPS 2017).

`<class>/<class>_0001.txt` with 10,000 lines "x,y,z,nx,ny,nz"; `modelnet40_train.txt`, `_test.txt` and
`_shape_names.txt` list objects and classes, and so do the `modelnet10_` ones. y is up; normals are not
read. `points` keeps the first lines of a file, as the released loader does.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Counted, Wanted, assemble, check_split, enough, lines_of, tracked

NAME = "modelnet40_normal_resampled"


def recognises(path: Path, family: str = "modelnet40") -> bool:
    return (path / f"{family}_shape_names.txt").is_file()


def read(path: Path, split: str, wanted: Wanted, family: str = "modelnet40") -> PointClouds:
    """One split of `family` ("modelnet40" or "modelnet10"); nothing is random, no seed is used."""
    check_split(split)
    names = lines_of(path / f"{family}_shape_names.txt")
    listing = path / f"{family}_{split}.txt"
    objects = lines_of(listing)
    labels = np.array([_label(entry, names, listing) for entry in objects])
    files = [path / names[label] / f"{entry}.txt" for entry, label in zip(objects, labels, strict=True)]
    facts = {"name": family, "split": split, "source": path.name, "layout": NAME, "points_kept": "first"}

    def convert() -> Counted:
        clouds = [_read_points(file, wanted) for file in tracked(files, f"reading {family} {split}")]
        if len({len(cloud) for cloud in clouds}) > 1:
            shortest = min(range(len(files)), key=lambda at: len(clouds[at]))
            raise InputError(files[shortest], f"{len(clouds[shortest])} points", f"{len(clouds[0])} as in {files[0]}")
        up_axis = wanted.up_axis or "y"
        return Counted(assemble(np.stack(clouds), labels, names, place=listing, up_axis=up_axis, provenance=facts))

    lists = [path / f"{family}_shape_names.txt", listing]
    return cached([*lists, *files], path, _asked(facts, wanted), convert).clouds


def _asked(facts: dict[str, str], wanted: Wanted) -> dict[str, str | int | None]:
    """What the result depends on besides the files."""
    return {**facts, "points": wanted.points, "at_most": wanted.at_most, "up": wanted.up_axis}


def _label(entry: str, names: list[str], listing: Path) -> int:
    name = entry.rpartition("_")[0]
    if name not in names:
        raise InputError(listing, f"object '{entry}' of no known class", "<class>_<number>")
    if any(mark in entry for mark in "/\\\0") or name in ("", ".", ".."):
        raise InputError(listing, f"object {entry[:80]!r}", "a name within the folder")
    return names.index(name)


def _read_points(file: Path, wanted: Wanted) -> NDArray[np.float64]:
    try:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2, max_rows=wanted.points)
    except (OSError, ValueError) as problem:
        raise InputError(file, f"unreadable ({problem})", "lines x,y,z,nx,ny,nz") from problem
    if rows.shape[0] == 0 or rows.shape[1] < 3:
        raise InputError(file, f"{rows.shape[0]} lines of {rows.shape[1]} numbers", "lines x,y,z,nx,ny,nz")
    if not np.isfinite(rows[:, :3]).all():
        raise InputError(file, "NaN or infinite coordinates", "finite ones")
    return rows[: enough(len(rows), wanted, file), :3]


LAYOUT = Layout(NAME, recognises, read)
MODELNET10 = Layout(NAME, partial(recognises, family="modelnet10"), partial(read, family="modelnet10"))

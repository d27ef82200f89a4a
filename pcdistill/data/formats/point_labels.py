"""Labels of points, beside their coordinates in files: a property of PLY, an array or field, a last column."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats.arrays import read_npy_last, read_npz_last
from pcdistill.data.formats.ply import read_ply_column
from pcdistill.data.formats.shape import Column
from pcdistill.data.formats.table import read_table_last

# Names of what holds them, the likeliest first, in small letters; CloudCompare writes the last one.
NAMES = ("label", "labels", "part", "parts", "part_label", "class", "seg", "scalar_label")
READERS: dict[str, Callable[[Path], Column | None]] = {
    ".ply": lambda path: read_ply_column(path, NAMES),
    ".npy": lambda path: read_npy_last(path, NAMES),
    ".npz": lambda path: read_npz_last(path, NAMES),
    **dict.fromkeys((".xyz", ".txt", ".pts", ".csv", ".asc"), read_table_last),
}


def read_labels(path: Path, points: int) -> NDArray[np.int64]:
    """The label of every point of a file that was read before and has so many.

    Raises:
        InputError: naming the file, where it has none, other than one a point, or some that are no whole numbers.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(path, f"a file {path.suffix}, of which no labels are read", "one of " + ", ".join(READERS))
    found = read(path)
    if found is None:
        wanted = f"a property or array {NAMES[0]}, or a last column behind x, y and z"
        raise InputError(path, "points without labels, in a set whose points have parts", wanted)
    if found.shape != (points,):
        raise InputError(path, f"{len(found)} labels for {points} points", "one for each")
    whole = np.isfinite(found) & (found == np.round(found)) & (np.abs(found) < 2**31)
    if not whole.all():
        at = int((~whole).argmax())
        raise InputError(path, f"label {found[at]:g} of point {at}", "whole numbers")
    return found.astype(np.int64)

"""Single files of meshes and clouds: a reader each, which names what is wrong in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats.arrays import read_npy, read_npz
from pcdistill.data.formats.glb import read_glb
from pcdistill.data.formats.las import read_las
from pcdistill.data.formats.obj import read_obj
from pcdistill.data.formats.off import read_off
from pcdistill.data.formats.pcd import read_pcd
from pcdistill.data.formats.ply import read_ply
from pcdistill.data.formats.point_labels import read_labels
from pcdistill.data.formats.shape import Mesh, Points, check_faces
from pcdistill.data.formats.stl import read_stl
from pcdistill.data.formats.table import read_table

T = TypeVar("T")
READERS = {
    ".off": read_off,
    ".ply": read_ply,
    ".obj": read_obj,
    ".stl": read_stl,
    ".glb": read_glb,
    ".pcd": read_pcd,
    ".las": read_las,
    ".laz": read_las,
    **dict.fromkeys((".xyz", ".txt", ".pts", ".csv", ".asc"), read_table),
    ".npy": read_npy,
    ".npz": read_npz,
}
# How files begin that are not what their name says.
IMPOSTORS = {
    b"version https://git-lfs": ("a pointer of Git LFS, not the file", "the file itself (git lfs pull)"),
    b"<!doctype html": ("a page of HTML", "the file itself"),
    b"<html": ("a page of HTML", "the file itself"),
}


def parse(path: Path) -> Mesh | Points:
    """What a file of a known suffix holds: a mesh, or points `(P, 3)` float64.

    Raises:
        InputError: naming the file and what is wrong with it.
    """
    return _read(path, READERS[path.suffix.lower()])


def labels_of(path: Path, points: int) -> NDArray[np.int64]:
    """The label of every point of a cloud's file, which was read before and has so many points.

    Raises:
        InputError: as `point_labels.read_labels`.
    """
    return _read(path, lambda file: read_labels(file, points))


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        check_beginning(path, "a mesh or a cloud")
        return reader(path)
    except InputError:
        raise
    except OSError as problem:
        raise InputError(path, f"unreadable ({problem.strerror or problem})", "a file") from problem
    except MemoryError:
        raise InputError(path, f"{path.stat().st_size} bytes, more than memory holds", "a smaller file") from None
    except Exception as problem:  # readers name what they know of; libraries may raise anything on a damaged file
        raise InputError(path, f"unreadable ({type(problem).__name__}: {problem})", "a whole file") from problem


def check_beginning(path: Path, expected: str) -> None:
    """Refuse what is no file of data at all: nothing, or what stands for a file that was not fetched.

    Raises:
        InputError: saying so; OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start and path.stat().st_size == 0:
        raise InputError(path, "an empty file", expected)
    for beginning, (found, instead) in IMPOSTORS.items():
        if start.startswith(beginning):
            raise InputError(path, found, instead)


__all__ = ["READERS", "Mesh", "Points", "check_faces", "labels_of", "parse"]

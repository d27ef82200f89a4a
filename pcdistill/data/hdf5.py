"""Opening HDF5 files without trusting them."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.core.hdf5 import check_heaps, member, names
from pcdistill.core.limits import PACKED, check_room
from pcdistill.data.formats import check_beginning
from pcdistill.data.prepare import Floats, Wanted, check_set, enough

KINDS = {"f": "floating point", "iu": "integers", "fiu": "numbers"}  # NumPy's, in words


def open_hdf5(path: Path) -> h5py.File:
    """An HDF5 file opened for reading, or InputError naming it."""
    try:
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(h5py.File(path, "r"))  # which says what is none
            check_heaps(path)
            opened.pop_all()  # it stays open
            return file
    except FileNotFoundError:
        raise InputError(path, "no such file", "an HDF5 file") from None
    except OSError as problem:
        with contextlib.suppress(OSError):
            check_beginning(path, "a whole HDF5 file")
        raise InputError(path, f"unreadable ({problem})", "a whole HDF5 file") from problem


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into InputError naming it."""
    try:
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError) as problem:
        raise InputError(path, f"damaged ({problem})", "a whole HDF5 file") from problem


def group(file: h5py.File, name: str, path: Path) -> h5py.Group:
    """Group `name` in the root of the same file, or InputError naming it."""
    found = member(file, name, f"{path} {name}")
    if not isinstance(found, h5py.Group):
        raise InputError(f"{path} {name}", "no such group", f"one of {', '.join(names(file)) or 'none'}")
    return found


def dataset(group: h5py.Group, name: str, path: Path, kinds: str) -> h5py.Dataset:
    """Dataset `name` of `group` in the same file, whose type is of one of NumPy's `kinds`, or InputError naming it."""
    place = f"{path} {group.name.strip('/')}/{name}".replace(" /", " ")
    found = member(group, name, place)
    if not isinstance(found, h5py.Dataset):
        raise InputError(place, "no such dataset", f"one beside {', '.join(names(group)) or 'nothing'}")
    if found.shape is None or not found.shape:
        raise InputError(place, "no array", "one")
    if found.dtype.kind not in kinds:
        raise InputError(place, f"values of type {found.dtype}", KINDS.get(kinds, "numbers or texts"))
    # Values that were never written take no room, and repeated ones little when compressed.
    check_room(math.prod(found.shape or ()) * max(4, found.dtype.itemsize), found.id.get_storage_size(), place, PACKED)
    return found


def is_own(file: h5py.File) -> bool:
    """Whether a file looks like one of this project's sets, by its names alone."""
    return bool({"train", "test"} & set(file)) or "class_names" in file.attrs


def up_axis_of(file: h5py.File) -> str | None:
    """The attribute `up_axis`, if a file has one."""
    value = file.attrs.get("up_axis")
    return None if value is None else value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def data_and_label(path: Path, classes: int, wanted: Wanted) -> tuple[Floats, NDArray[np.integer], str | None]:
    """Arrays `data` `(n, P, 3)` and `label` `(n,)` or `(n, 1)` of the released benchmark files, and their `up_axis`.

    The first points that are wanted are kept. Raises InputError naming file and field.
    """
    with open_hdf5(path) as file, reading(path):
        data = dataset(file, "data", path, "f")
        label = dataset(file, "label", path, "iu")[()]
        labels = label[:, 0] if label.ndim == 2 and label.shape[1] == 1 else label
        check_set(data.shape, labels, [""] * classes, path)
        return data[:, : enough(data.shape[1], wanted, f"{path} data")], labels, up_axis_of(file)

"""Arrays of NumPy: .npy and .npz, plain or structured. What a header says is believed only if the file can hold it."""

import math
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Column, Points, wide

# Names of the points, the likeliest first, in small letters.
NAMES = ("points", "pos", "xyz", "coord", "coords", "positions", "pointcloud", "point_cloud", "cloud", "pc")
WIDEST = 64  # columns: more, and more than there are points, are points that lie the other way round
# Bytes that one packed byte may become. Coordinates shrink to a half, at most a tenth where they are of few values.
MOST = 100
SMALL = 2**20  # bytes that may be packed as tightly as they like


def read_npy(path: Path) -> Points:
    """Points `(P, 3)` of the array `(P, 3 or more)`, or of its fields x, y and z.

    Raises:
        InputError: for anything else.
    """
    with path.open("rb") as file:
        return _points(file, path.stat().st_size, path)


def read_npz(path: Path) -> Points:
    """Points `(P, 3)` of the array that is named as points are, or of the only one, or of three named x, y and z.

    Raises:
        InputError: for anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            axes = [_named(axis, list(members)) for axis in "xyz"]
            known = [found for name in NAMES if (found := _named(name, list(members)))]
            if known or len(members) == 1:
                return _points_of_member(archive, members[(known or list(members))[0]], path)
            if None not in axes:
                columns = [_member(archive, members[axis], path) for axis in axes if axis is not None]
                if len({column.shape for column in columns}) == 1 and columns[0].ndim == 1:
                    return np.stack([_numbers(column, path) for column in columns], axis=1)
            raise InputError(path, f"arrays {', '.join(members) or 'of no name'}", f"one of {', '.join(NAMES)}")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as problem:
        raise InputError(path, f"a damaged archive ({problem})", "one that np.savez wrote") from problem


def read_npy_last(path: Path, names: Sequence[str]) -> Column | None:
    """`(P,)` the field of one of these names, or the last column behind x, y and z; None where there is none."""
    with path.open("rb") as file:
        return _last(_array(file, path.stat().st_size, path), names, path)


def read_npz_last(path: Path, names: Sequence[str]) -> Column | None:
    """`(P,)` the array of one of these names, or the last column of the points; None where there is none."""
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        for name in names:
            if (found := _named(name, list(members))) is not None:
                return _numbers(_member(archive, members[found], path).reshape(-1), path)
        known = [found for name in NAMES if (found := _named(name, list(members)))]
        if not known and len(members) != 1:
            return None
        return _last(_member(archive, members[(known or list(members))[0]], path), names, path)


def _last(values: NDArray[Any], names: Sequence[str], path: Path) -> Column | None:
    if values.dtype.names:
        found = [field for name in names if (field := _named(name, values.dtype.names))]
        return _numbers(values[found[0]].reshape(-1), path) if found else None
    return _numbers(values[:, -1], path) if values.ndim == 2 and values.shape[1] > 3 else None


def _points_of_member(archive: zipfile.ZipFile, name: str, path: Path) -> Points:
    place = f"{path} {name.removesuffix('.npy')}"
    return _three_columns(_member(archive, name, path), place)


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    place = f"{path} {name.removesuffix('.npy')}"
    entry = archive.getinfo(name)
    packed = min(entry.compress_size, path.stat().st_size)  # either may lie
    if entry.file_size > max(MOST * packed, SMALL):
        found = f"{packed} bytes that unpack to {entry.file_size}"
        raise InputError(place, found, f"at most {MOST} times as many")
    with archive.open(entry) as file:
        return _array(file, entry.file_size, place)


def _points(file: IO[bytes], size: int, place: object) -> Points:
    return _three_columns(_array(file, size, place), place)


def _array(file: IO[bytes], size: int, place: object) -> NDArray[Any]:
    """The array of a .npy file of `size` bytes; never a pickled one."""
    magic = file.read(npy.MAGIC_LEN)
    if not magic.startswith(npy.MAGIC_PREFIX):
        raise InputError(place, "no array of NumPy" if magic else "an empty file", "one that np.save wrote")
    try:
        read_header = npy.read_array_header_1_0 if magic[-2] == 1 else npy.read_array_header_2_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was written by Python 2
            shape, transposed, dtype = read_header(file)
    except Exception as problem:  # NumPy reads it as Python, whose parser raises many things
        raise InputError(place, "a damaged header of an array", "one that np.save wrote") from problem
    if dtype.hasobject:
        raise InputError(place, "Python objects (a pickle, which is not run)", "an array of numbers")
    count, held = math.prod(shape), size - npy.MAGIC_LEN
    if min(shape, default=0) < 0 or count * dtype.itemsize > held:
        raise InputError(place, f"{held} bytes", f"{count * dtype.itemsize} of an array of shape {shape}")
    raw = file.read(count * dtype.itemsize)
    if len(raw) < count * dtype.itemsize:
        raise InputError(
            place, f"{len(raw)} bytes of numbers", f"{count * dtype.itemsize} of an array of shape {shape}"
        )
    flat = np.frombuffer(raw, dtype=dtype)
    return flat.reshape(shape, order="F" if transposed else "C")


def _three_columns(values: NDArray[Any], place: object) -> Points:
    names = values.dtype.names
    if names:
        return _three_fields(values, names, place)
    if values.ndim != 2 or values.shape[1] < 3 or values.shape[1] > max(WIDEST, len(values)):
        raise InputError(place, f"an array of shape {values.shape}", "(points, 3 or more)")
    return _numbers(values[:, :3], place)


def _three_fields(values: NDArray[Any], names: Sequence[str], place: object) -> Points:
    axes = [_named(axis, names) for axis in "xyz"]
    if None not in axes:
        return np.stack([_numbers(values[axis].reshape(-1), place) for axis in axes if axis is not None], axis=1)
    whole = [found for name in NAMES if (found := _named(name, names))]
    if whole and values[whole[0]].shape[-1:] == (3,):
        return _numbers(values[whole[0]].reshape(-1, 3), place)
    raise InputError(place, f"fields {', '.join(names)}", "x, y and z")


def _named(name: str, names: Sequence[str]) -> str | None:
    """Which of `names` is `name`, in whatever case; as it is written here before others."""
    return name if name in names else next((each for each in names if each.lower() == name), None)


def _numbers(values: NDArray[Any], place: object) -> Points:
    if values.dtype.kind not in "fiu":
        raise InputError(place, f"values of type {values.dtype}", "numbers")
    return wide(values)

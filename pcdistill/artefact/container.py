"""The file around an artefact: a checksummed header and plain HDF5 datasets. See docs/format.md.

The header fills the block that HDF5 leaves to the user at the start of a file, so that the checksum is
known to be right before the HDF5 library sees a byte.
"""

import hashlib
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.core.hdf5 import member
from pcdistill.core.limits import MOST_FILE
from pcdistill.storage.base import Arrays

MAGIC = b"pcdistill artefact "
VERSION = 1
HEADER_BYTES = 512
MAX_TEXT = 1 << 20
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def seal(text: str, datasets: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A whole file with `text` as dataset `metadata` beside `datasets`, by path; same content, same bytes."""
    encoded = text.encode()
    if len(encoded) > MAX_TEXT:
        raise InputError("metadata", f"{len(encoded)} bytes", f"at most {MAX_TEXT}")
    file_bytes = io.BytesIO()
    # The format of HDF5 1.8 is the oldest that checksums its structures and keeps them small.
    with h5py.File(file_bytes, "w", libver=("v108", "v108"), userblock_size=HEADER_BYTES) as file:
        file.create_dataset("metadata", data=np.bytes_(encoded), dtype=h5py.string_dtype("utf-8", len(encoded)))
        for path, array in datasets.items():
            file.create_dataset(path, data=array)
    body = file_bytes.getvalue()[HEADER_BYTES:]
    return _header(body) + body


def read(path: Path) -> bytes:
    """Content of a file whose header and checksum are right.

    Raises:
        InputError: no such file, another kind of file, another version, or damaged.
    """
    if not path.is_file():
        raise InputError(path, "no such file", "an artefact")
    with path.open("rb") as stream:
        return _checked(stream.read(HEADER_BYTES), stream, path)


def read_if_sealed(path: Path) -> bytes | None:
    """As `read`; None where `path` is no file that begins like an artefact."""
    if not path.is_file():
        return None
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES)
        return _checked(header, stream, path) if header.startswith(MAGIC) else None


def is_sealed(path: Path) -> bool:
    """Whether `path` is a file that begins like an artefact, of any version and in any state."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def unseal(content: bytes) -> tuple[str, Arrays]:
    """The inverse of `seal`. Trusts nothing but the checksum that `read` saw to.

    Only uncompressed, contiguous datasets of plain numbers within the file are read, so what is allocated is at
    most as large as the file; links to other places and files are not followed.

    Raises:
        InputError: naming the dataset.
    """
    try:
        with h5py.File(h5py.h5f.open_file_image(content), "r") as file:
            datasets = dict(_plain_datasets(file, len(content)))
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError) as problem:
        raise InputError("HDF5 structure", f"damaged ({problem})", "a whole file") from None
    text = datasets.pop("metadata", None)
    if text is None or text.dtype.kind != "S" or text.ndim:
        raise InputError("metadata", "missing or not a text", "JSON")
    if text.nbytes > MAX_TEXT:
        raise InputError("metadata", f"{text.nbytes} bytes", f"at most {MAX_TEXT}")
    try:
        return bytes(text[()]).decode(), datasets
    except UnicodeDecodeError as problem:
        raise InputError("metadata", f"not UTF-8 ({problem})", "JSON") from None


def _header(body: bytes) -> bytes:
    text = MAGIC + f"{VERSION}\nsha256 {hashlib.sha256(body).hexdigest()}\n".encode()
    return text.ljust(HEADER_BYTES, b"\0")


def _checked(header: bytes, stream: BinaryIO, path: Path) -> bytes:
    """The whole file of which the header was read."""
    version = _version(header, path)
    if version != VERSION:
        raise InputError(
            path,
            f"artefact of format version {version}",
            f"{VERSION}, the one this release reads (update pcdistill or make the artefact again)",
        )
    if (size := os.fstat(stream.fileno()).st_size) > MOST_FILE:
        raise InputError(path, f"a file of {size} bytes", f"at most {MOST_FILE}")
    body = stream.read(size)
    if header != _header(body):
        raise InputError(path, "checksum differs: damaged or cut short", "the file as it was written")
    return header + body


def _version(header: bytes, path: Path) -> int:
    found = re.match(re.escape(MAGIC) + rb"(\d{1,9})\n", header)
    if found is None:
        kind = "an HDF5 file, but no artefact" if header.startswith(b"\x89HDF\r\n\x1a\n") else "not an artefact"
        raise InputError(path, kind, f"a file that begins with '{MAGIC.decode()}{VERSION}'")
    return int(found[1])


def _plain_datasets(file: h5py.File, room: int) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Path and content of every dataset in the root and in `arrays`, no more than `room` bytes in all."""
    for path, item in _members(file, ""):
        inner = _members(item, f"{path}/") if path == "arrays" and isinstance(item, h5py.Group) else [(path, item)]
        for name, dataset in inner:
            _check_plain(name, dataset)
            size = math.prod(dataset.shape) * dataset.dtype.itemsize
            room -= size
            if size != dataset.id.get_storage_size() or room < 0:
                raise InputError(name, f"{size} bytes", "no more than the file holds")
            yield name, np.asarray(dataset[()])


def _members(group: h5py.Group, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in group:
        place = prefix + name
        if not NAME.fullmatch(name):
            raise InputError(ascii(place)[:80], "unknown name", "lower-case letters, digits and _")
        yield place, member(group, name, place)


def _check_plain(name: str, dataset: Any) -> None:
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(name, f"a {type(dataset).__name__.lower()}", "a dataset")
    if dataset.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise InputError(name, "chunked or compressed data", "contiguous data")
    if dataset.shape is None or dataset.dtype.kind not in "uifS" or dataset.dtype.subdtype is not None:
        raise InputError(name, f"values of type {dataset.dtype}", "plain numbers")

"""What an HDF5 file may be made of: everything that is read lies in the file itself.

HDF5 can take values from elsewhere: external storage reads any file that the reader may read, external links open
one, virtual datasets do both. Whoever publishes what was made of such a set publishes bytes of that file.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from pcdistill.core.errors import InputError

HEAP = b"GCOL\1\0\0\0"  # begins a heap of values of variable length: texts of attributes
SEARCHED = 2**28  # bytes of the largest file that is searched for heaps, which takes a tenth of a second
LONGEST = 2**26  # bytes of a text that there may be memory for, whether or not it is in the file
HITS = 1000  # places in the file that are looked at for references to a heap


def member(group: h5py.Group, name: str, place: object) -> Any:
    """Group, dataset or named type `name` of `group`; None if there is none. It is in the file, not linked to.

    Raises:
        InputError: a soft or external link, which is not followed, or a dataset with values outside the file.
    """
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise InputError(place, "a link to another place", "the data itself")
    found = group[name]
    if isinstance(found, h5py.Dataset):
        _check_inside(found, place)
    return found


def names(group: h5py.Group) -> list[str]:
    """What lies in a group, whose names are not trusted: those that are no UTF-8, which h5py has as bytes, escaped."""
    return [name.decode(errors="backslashreplace") if isinstance(name, bytes) else name for name in group]


def check_heaps(path: Path) -> None:
    """Refuse what the HDF5 library never comes back from, or takes gigabytes for before it refuses it.

    That is texts in a heap whose objects have no size, and references to a heap for texts longer than the file. Files
    above `SEARCHED`, where this would take longer than what is read of them, are taken for sound.

    Raises:
        InputError: naming the file.
    """
    if path.stat().st_size > SEARCHED:
        return
    with _mapped(path) as content:
        start, room = content.find(HEAP), 2 * SEARCHED
        while start >= 0:
            end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
            at, numbers = start + 16, set[int]()
            while at + 16 <= end:
                number, _, _, size = struct.unpack_from("<HHIQ", content, at)
                if size > len(content) or (number == 0 and size < 16):
                    raise InputError(path, f"damaged (texts at byte {start})", "a whole HDF5 file")
                at += size if number == 0 else 16 + (size + 7) // 8 * 8
                numbers.add(number)
            room -= len(content)
            for place, length, number in _references(content, start) if room > 0 else ():
                if number and number in numbers and length > max(len(content), LONGEST):
                    raise InputError(path, f"damaged (a text of {length} bytes at byte {place})", "a whole HDF5 file")
            start = content.find(HEAP, start + 8)


def _references(content: mmap.mmap, heap: int) -> Iterator[tuple[int, int, int]]:
    """What may be references to a heap: where, the length of the value, and its number in the heap."""
    address, place = struct.pack("<Q", heap), 3
    for _ in range(HITS):
        place = content.find(address, place + 1)
        if place < 0 or place + 12 > len(content):
            return
        yield place - 4, *struct.unpack_from("<I8xI", content, place - 4)


def _mapped(path: Path) -> mmap.mmap:
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return mmap.mmap(file, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(file)


def _check_inside(dataset: h5py.Dataset, place: object) -> None:
    """Before shape or type: asking a virtual dataset for its shape may open other files."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise InputError(place, "virtual or external data", "data within the file")

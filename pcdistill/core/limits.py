"""What a file may make its reader do: one bound on memory, checked before anything is allocated.

Files are not trusted, and a small one may claim to be large: datasets that were never written, archives that unpack to
a thousand times their size, formulas that make many clouds of a few numbers. Whatever is made of a file takes at most
`FREE` bytes, and `PER_BYTE` more for each of its own.
"""

import os
from pathlib import Path

from pcdistill.core.errors import InputError

FREE = 2**28  # a quarter of a gigabyte
PER_BYTE = 1024  # more than any file of this package needs: 64 points a byte in storage `coded`, 12 bytes each
PACKED = 64  # in place of it, of data sets: coordinates are hardly compressed to half
MOST_FILE = 2**31  # bytes of a file that is read whole: sparse ones take no room on a disk
MOST_TEXT = 2**24  # of settings and lists


def check_room(needed: float, nbytes: int, place: object, per_byte: int = PER_BYTE) -> None:
    """Refuse what takes `needed` bytes of memory and is made of a file, or a part of one, of `nbytes`.

    Raises:
        InputError: naming `place`.
    """
    room = FREE + per_byte * nbytes
    if needed > room:
        raise InputError(place, f"{needed:.0f} bytes when read, of {nbytes} in the file", f"at most {room}")


def read_whole(path: Path, most: int = MOST_FILE) -> bytes:
    """The content of a file.

    Raises:
        InputError: more than `most` bytes.
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > most:
            raise InputError(path, f"a file of {size} bytes", f"at most {most}")
        return stream.read(size)

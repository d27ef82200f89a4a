"""LAS and LAZ clouds of laser scanners, by laspy, which is an extra.

Format: "LAS Specification 1.4 - R15", ASPRS, and laszip's chunk table. What a header says is compared with the size of
the file before laspy sees it, which would make room for all of it.
"""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Points

INSTALL = "pip install 'pcdistill[las]'"
CHUNK = 2**24  # bytes of points read at a time
MOST = 100  # bytes that one packed byte may become: a tenth of that is usual
HEADER, RECORD = 227, 54  # bytes of the shortest header and of that of a variable length record
PACKED = 0x80  # bit of the point format of a LAZ


def read_las(path: Path) -> Points:
    """Points `(P, 3)` of the file, in its units.

    Raises:
        InputError: if there are fewer points than the file declares, it is damaged, or laspy is not there.
    """
    try:
        import laspy  # an extra, and slow to import
    except ModuleNotFoundError:
        raise InputError(path, "LAS and LAZ need laspy", INSTALL) from None
    backend = laspy.LazBackend.Lazrs
    if _check(path.read_bytes(), path) and not backend.is_available():
        raise InputError(path, "LAZ needs lazrs", INSTALL)
    log = logging.getLogger("laspy.lasreader")
    log.disabled = True  # it says once more what is raised
    try:
        # What is beyond float64 is infinite, which is refused later.
        with laspy.open(path, laz_backend=(backend,)) as file, np.errstate(over="ignore", invalid="ignore"):
            declared = file.header.point_count
            parts = list(_parts(file))
    except Exception as problem:  # laspy raises anything on a damaged file
        raise InputError(path, "a damaged LAS or LAZ", "a whole file") from problem
    except BaseException as problem:
        if type(problem).__name__ != "PanicException":  # so does what is below it, with an exception of Rust
            raise
        raise InputError(path, "a damaged LAS or LAZ", "a whole file") from problem
    finally:
        log.disabled = False
    cloud = np.concatenate(parts) if parts else np.zeros((0, 3))
    if len(cloud) != declared:
        raise InputError(path, f"{len(cloud)} points", f"the {declared} that its header declares")
    return cloud


def _parts(file: Any) -> Iterator[Points]:
    for chunk in file.chunk_iterator(max(CHUNK // file.header.point_format.size, 1)):
        yield np.stack([chunk.x, chunk.y, chunk.z], axis=1).astype(np.float64)


def _check(content: bytes, path: Path) -> bool:
    """Whether the file is packed; InputError if it cannot hold what it says."""
    size = len(content)
    if size < HEADER or content[:4] != b"LASF":
        raise InputError(path, "no LAS (it does not begin with LASF and a header)", "a LAS or LAZ file")
    start, records, kind, row, points = struct.unpack_from("<IIBHI", content, 96)
    more = 0
    if content[25] >= 4 and size >= HEADER + 28:
        more, longer = struct.unpack_from("<IQ", content, 243)
        points = max(points, longer)
    packed = bool(kind & PACKED)
    if start > size or records * RECORD > size or more * RECORD > size:
        raise InputError(path, f"{size} bytes", "as many as its header declares")
    room = size - start
    if row == 0 or points * row > (max(MOST * room, 2**20) if packed else room):
        raise InputError(path, f"{room} bytes of points", f"{points} points of {row} bytes")
    if packed and not (_chunks_fit(content, start) and _packed_row(content, records) == row):
        raise InputError(path, "a damaged LAZ", "a whole file")
    return packed


def _chunks_fit(content: bytes, start: int) -> bool:
    """Whether the table of packed chunks is in the file and says no more of them than it can hold."""
    if start + 8 > len(content):
        return False
    (table,) = struct.unpack_from("<q", content, start)
    if table == -1:  # written to a pipe: where it is stands at the end
        (table,) = struct.unpack_from("<q", content, len(content) - 8)
    if not start <= table <= len(content) - 8:
        return False
    chunks = int(struct.unpack_from("<I", content, table + 4)[0])
    return chunks <= len(content) - start


def _packed_row(content: bytes, records: int) -> int:
    """Bytes of a point by the record of laszip, which lists what a point is made of; 0 without one."""
    (at,) = struct.unpack_from("<H", content, 94)
    for _ in range(records):
        if at + RECORD > len(content):
            return 0
        user, number, length = struct.unpack_from("<16sHH", content, at + 2)
        at += RECORD
        if user.rstrip(b"\0") == b"laszip encoded" and number == 22204:
            items = struct.unpack_from("<H", content, at + 32)[0] if at + 34 <= len(content) else 0
            if at + 34 + 6 * items > len(content):
                return 0
            return sum(struct.unpack_from("<H", content, at + 36 + 6 * item)[0] for item in range(items))
        at += length
    return 0

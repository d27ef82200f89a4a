"""STL, binary or text. A binary file may begin with `solid`, as a text does: its size tells."""

import struct
from array import array
from pathlib import Path

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Mesh, Points, points_of, wide
from pcdistill.data.formats.text import at_line, coordinates, lines, shown

HEADER = 84  # bytes: 80 of free text and the number of facets
FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
KEYWORDS = {"solid", "facet", "outer", "endloop", "endfacet", "endsolid"}


def read_stl(path: Path) -> Mesh:
    """Mesh of the file, three vertices of its own to every facet.

    Raises:
        InputError: if there are fewer or more facets than declared, or naming the line that is no STL.
    """
    content = path.read_bytes()
    corners = _text(content, path) if _is_text(content) else _binary(content, path)
    return Mesh(corners, np.arange(len(corners), dtype=np.int64).reshape(-1, 3))


def _is_text(content: bytes) -> bool:
    if len(content) >= HEADER and len(content) == HEADER + FACET.itemsize * _declared(content):
        return False
    return content.lstrip(b"\xef\xbb\xbf \t\r\n")[:5].lower() == b"solid" and b"\0" not in content[:512]


def _declared(content: bytes) -> int:
    (facets,) = struct.unpack_from("<I", content, HEADER - 4)
    return int(facets)


def _binary(content: bytes, path: Path) -> Points:
    if len(content) < HEADER:
        raise InputError(path, f"{len(content)} bytes without 'solid' in front", "an STL, text or binary")
    facets, held = _declared(content), (len(content) - HEADER) // FACET.itemsize
    if facets != held:
        raise InputError(path, f"room for {held} facets", f"the {facets} that its header declares")
    table = np.frombuffer(content, dtype=FACET, count=facets, offset=HEADER)
    return wide(table["corners"]).reshape(-1, 3)


def _text(content: bytes, path: Path) -> Points:
    corners, in_facet, last = array("d"), 0, ""
    for number, line in lines(content, comment=None).rest():
        last, *words = line.lower().split()
        if last == "vertex":
            corners.extend(coordinates(words, path, number))
            in_facet += 1
        elif last not in KEYWORDS:
            raise InputError(at_line(path, number), shown(line), "a line of an STL (facet, vertex, endfacet ...)")
        elif last in ("endfacet", "endsolid", "facet"):
            if in_facet != (3 if last == "endfacet" else 0):
                raise InputError(at_line(path, number), f"a facet of {in_facet} vertices", "three")
            in_facet = 0
    if last != "endsolid":
        raise InputError(path, f"ends in '{last}'", "a last line 'endsolid'")
    return points_of(corners)

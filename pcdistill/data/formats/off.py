"""OFF and its kin with colours, normals or texture coordinates, of which x y z are read.

Format: Geomview's manual, "OFF: object file format". ModelNet holds files whose first line runs into the second
("OFF490 518 0").
"""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Mesh, Points, Triangles, points_of
from pcdistill.data.formats.text import at_line, coordinates, integers, lines, shown

HEADER = re.compile(r"(ST)?C?N?(ST)?OFF", re.IGNORECASE)
KNOWN = "OFF, COFF, NOFF, CNOFF or STOFF"
COUNTS = "the numbers of vertices and faces"


def read_off(path: Path) -> Mesh | Points:
    """Mesh of the file; of one without faces, its vertices as a cloud.

    Raises:
        InputError: naming the line that is not as it should be.
    """
    rows = lines(path.read_bytes())
    vertices, faces = _counts(rows, path)
    if vertices == 0:
        raise InputError(path, "a mesh without faces and vertices", "at least one triangle")
    points = array("d")
    for number, line in _rows(rows, vertices, "vertices", path):
        points.extend(coordinates(line.split(), path, number))
    triangles = Triangles()
    for number, line in _rows(rows, faces, "faces", path):
        triangles.add(_corners(line, path, number), number)
    more = next(rows, None)
    if more is not None:
        raise InputError(at_line(path, more[0]), shown(more[1]), f"an end after {vertices} vertices and {faces} faces")
    cloud = points_of(points)
    return Mesh(cloud, triangles.checked(vertices, path)) if faces else cloud


def _counts(rows: Iterator[tuple[int, str]], path: Path) -> tuple[int, int]:
    number, line = next(rows, (1, ""))
    header = HEADER.match(line)
    if header is None:
        raise InputError(at_line(path, number), shown(line), KNOWN)
    rest = line[header.end() :].strip()
    if rest.upper().startswith("BINARY"):
        raise InputError(at_line(path, number), "a binary OFF", "one of text")
    if not rest:
        number, rest = next(rows, (number, ""))
    if not rest:
        raise InputError(path, "ends after its first line", COUNTS)
    counts = integers(rest.split()[:2], path, number, COUNTS)
    if len(counts) < 2 or min(counts) < 0:
        raise InputError(at_line(path, number), shown(rest), COUNTS)
    return counts[0], counts[1]


def _rows(rows: Iterator[tuple[int, str]], count: int, what: str, path: Path) -> Iterator[tuple[int, str]]:
    """The next `count` rows; InputError if the file ends before."""
    for done in range(count):
        row = next(rows, None)
        if row is None:
            raise InputError(path, f"ends after {done} of {count} {what}", "as many lines as its counts say")
        yield row


def _corners(line: str, path: Path, number: int) -> list[int]:
    """Corners of a face "n i j k ... colour"."""
    words = line.split()
    try:
        count = int(words[0])
        corners = [int(word) for word in words[1 : count + 1]]
        if 1 <= count == len(corners):
            return corners
    except ValueError:
        pass
    raise InputError(at_line(path, number), shown(line), "a face 'n i j k' of n whole numbers")

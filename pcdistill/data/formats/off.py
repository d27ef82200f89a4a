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
from pcdistill.data.formats.text import Lines, Rows, at_line, integers, lines, shown, triangles, xyz

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
    for chunk in _rows(rows, vertices, "vertices", path):
        points.extend(xyz(chunk, path))
    polygons = Triangles()
    for chunk in _rows(rows, faces, "faces", path):
        _add(polygons, chunk, path)
    more = next(rows, None)
    if more is not None:
        raise InputError(at_line(path, more[0]), shown(more[1]), f"an end after {vertices} vertices and {faces} faces")
    cloud = points_of(points)
    return Mesh(cloud, polygons.checked(vertices, path)) if faces else cloud


def _counts(rows: Lines, path: Path) -> tuple[int, int]:
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


def _rows(rows: Lines, count: int, what: str, path: Path) -> Iterator[Rows]:
    """The next `count` rows, many at a time; InputError if the file ends before."""
    done = 0
    for chunk in rows.many(count):
        done += len(chunk[1])
        yield chunk
    if done < count:
        raise InputError(path, f"ends after {done} of {count} {what}", "as many lines as its counts say")


def _add(polygons: Triangles, rows: Rows, path: Path) -> None:
    """Add faces, those of rows of triangles alone at once."""
    numbers, texts = rows
    corners = triangles(texts)
    if corners is not None:
        polygons.extend(corners, numbers)
        return
    for number, line in zip(numbers, texts, strict=True):
        polygons.add(_corners(line, path, number), number)


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

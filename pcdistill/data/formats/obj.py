"""Wavefront OBJ: vertices and faces. Materials, which would be other files, are not looked for.

Format: "Object Files (.obj)", Wavefront Technologies. A negative index counts back from the vertices read so far.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Mesh, Points, Triangles, points_of
from pcdistill.data.formats.text import at_line, coordinates, lines, shown

# Free-form surfaces and what they end in: their vertices are control points, not points of the surface.
FREE_FORM = ("surf", "curv", "curv2", "cstype")


def read_obj(path: Path) -> Mesh | Points:
    """Mesh of the file; of one without faces, its vertices as a cloud.

    Raises:
        InputError: naming the line that is not as it should be, or a surface other than of polygons.
    """
    points, triangles, faces = array("d"), Triangles(), 0
    for number, line in _joined(lines(path.read_bytes())):
        keyword, *words = line.split()
        if keyword in ("v", "V"):
            points.extend(coordinates(words, path, number))
        elif keyword in ("f", "F", "fo"):
            triangles.add(_corners(words, len(points) // 3, path, number), number)
            faces += 1
        elif keyword in FREE_FORM:
            raise InputError(at_line(path, number), f"a free-form surface ({keyword})", "faces of polygons")
    if not points:
        raise InputError(path, "no vertices", "lines 'v x y z'")
    vertices = points_of(points)
    return Mesh(vertices, triangles.checked(len(vertices), path, first=1)) if faces else vertices


def _joined(rows: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    r"""Rows of which those that end in a \ are one with the next."""
    start, parts = 0, list[str]()
    for number, line in rows:
        start = start if parts else number
        parts.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            yield start, " ".join(parts)
            parts = []
    if parts:
        yield start, " ".join(parts)


def _corners(words: Sequence[str], vertices: int, path: Path, number: int) -> list[int]:
    """Corners, counted from 0, of a face `i`, `i/texture`, `i//normal` or `i/texture/normal` ..."""
    try:
        corners = [int(word.partition("/")[0]) for word in words]
    except ValueError:
        corners = [0]
    if not corners:
        raise InputError(at_line(path, number), "a face without vertices", "'f i j k'")
    least = min(corners)
    if 0 in corners:
        raise InputError(at_line(path, number), f"a face {shown(' '.join(words))}", "whole numbers but 0")
    if least < -vertices:
        raise InputError(at_line(path, number), f"a face of vertex {least}", f"one of the {vertices} so far")
    if least > 0:
        return [corner - 1 for corner in corners]
    return [corner - 1 if corner > 0 else vertices + corner for corner in corners]

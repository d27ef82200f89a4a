"""Wavefront OBJ: vertices and faces. Materials, which would be other files, are not looked for.

Format: "Object Files (.obj)", Wavefront Technologies. A negative index counts back from the vertices read so far.
"""

from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Mesh, Points, Triangles, points_of
from pcdistill.data.formats.text import Lines, Rows, at_line, lines, shown, table, whole, xyz

# Free-form surfaces and what they end in: their vertices are control points, not points of the surface.
FREE_FORM = ("surf", "curv", "curv2", "cstype")


def read_obj(path: Path) -> Mesh | Points:
    """Mesh of the file; of one without faces, its vertices as a cloud.

    Raises:
        InputError: naming the line that is not as it should be, or a surface other than of polygons.
    """
    points, polygons, faces = array("d"), Triangles(), 0
    for keyword, rows in _runs(_joined(lines(path.read_bytes()))):
        if keyword in ("v", "V"):
            points.extend(xyz(rows, path, skipped=1))
        elif keyword in ("f", "F", "fo"):
            _add(polygons, rows, len(points) // 3, path)
            faces += len(rows[1])
        elif keyword in FREE_FORM:
            raise InputError(at_line(path, rows[0][0]), f"a free-form surface ({keyword})", "faces of polygons")
    if not points:
        raise InputError(path, "no vertices", "lines 'v x y z'")
    vertices = points_of(points)
    return Mesh(vertices, polygons.checked(len(vertices), path, first=1)) if faces else vertices


def _runs(rows: Lines) -> Iterator[tuple[str, Rows]]:
    """Rows that follow one another and begin with the same word, and that word."""
    for numbers, texts in rows.many():
        at = 0
        for keyword, run in groupby(texts, lambda line: line.split(None, 1)[0]):
            end = at + sum(1 for _ in run)
            yield keyword, (numbers[at:end], texts[at:end])
            at = end


def _add(polygons: Triangles, rows: Rows, vertices: int, path: Path) -> None:
    """Add faces, those of rows of triangles alone, whose vertices are counted from the first, at once."""
    numbers, texts = rows
    words = table(texts, 4)
    if words is not None:
        del words[::4]
        corners = whole([word.partition("/")[0] for word in words] if "/" in texts[0] else words)
        if corners is not None and min(corners) > 0:
            polygons.extend(array("q", [corner - 1 for corner in corners]), numbers)
            return
    for number, line in zip(numbers, texts, strict=True):
        polygons.add(_corners(line.split()[1:], vertices, path, number), number)


def _joined(rows: Lines) -> Lines:
    r"""Rows of which those that end in a \ are one with the next."""
    return Lines(_joining(rows))


def _joining(rows: Lines) -> Iterator[Rows]:
    start, parts = 0, list[str]()
    for numbers, texts in rows.many():
        if not parts and not any(line.endswith("\\") for line in texts):
            yield numbers, texts
            continue
        for number, line in zip(numbers, texts, strict=True):
            start = start if parts else number
            parts.append(line.removesuffix("\\"))
            if not line.endswith("\\"):
                yield [start], [" ".join(parts)]
                parts = []
    if parts:
        yield [start], [" ".join(parts)]


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

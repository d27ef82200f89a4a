"""Clouds as tables of text (.xyz .txt .pts .csv .asc): a point a line, however its numbers are parted.

Blanks, tabs, commas or semicolons part numbers; beside blanks and semicolons a comma may be the decimal sign. In front
there may be comments, names of columns ("x y z", "//X Y Z R G B") and a count of points, as Leica's PTS has it.
"""

import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Column, Points, points_of
from pcdistill.data.formats.text import Lines, Row, at_line, floats, lines, shown, table

DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?")
UNIT = re.compile(r"\s*[\[(].*[\])]$")  # "x [m]"
COMMENTS = ("#", "//", "%", "!")
# What columns of x, y and z are called, in small letters.
TRIPLES = (
    ("x", "y", "z"),
    ("points:0", "points:1", "points:2"),  # ParaView
    ("point_x", "point_y", "point_z"),
    ("pos_x", "pos_y", "pos_z"),
    ("easting", "northing", "elevation"),
    ("easting", "northing", "height"),
)
EXPECTED = "a point 'x y z', or names of columns with x, y and z"
Places = tuple[int, int, int]


@dataclass(frozen=True)
class _Head:
    """What stands in front of the points: columns, which of them are x y z, a count of points; and the first point."""

    columns: int
    places: Places
    declared: int | None
    first: tuple[int, str]


def read_table(path: Path) -> Points:
    """Points `(P, 3)` of the file: the columns named x, y and z, or the first three.

    Raises:
        InputError: naming the first line that is no point or has more or fewer columns than the first one, or if a
            count in the file is not that of its points.
    """
    return _columns(path, lambda head: head.places)


def read_table_last(path: Path) -> Column | None:
    """`(P,)` the last column behind x, y and z; None where there is none."""
    found = _columns(path, lambda head: [head.columns - 1] if head.columns > 3 else [])
    return found[:, 0] if found.shape[1] else None


def _columns(path: Path, chosen: Callable[[_Head], Sequence[int]]) -> Points:
    """The numbers `(P, K)` in K columns of the file."""
    rows = lines(path.read_bytes(), comment=None)
    head, kept = _head(rows, path), array("d")
    declared, places = head.declared, chosen(head)
    if not places:
        return np.empty((0, 0))
    for number, line in _singly(head, rows, kept, places):
        words = _words(line)
        if head.columns not in (len(words), len(_trimmed(words))):
            count = _count(words)
            if count is not None and declared == len(kept) // len(places):  # the next scan of a PTS file
                declared += count
                continue
            found = f"{len(words)} columns in {shown(line)}"
            raise InputError(at_line(path, number), found, f"{head.columns} as in the lines before")
        try:
            kept.extend([float(words[place]) for place in places])
        except ValueError:
            raise InputError(at_line(path, number), shown(line), "a point 'x y z'") from None
    points = points_of(kept, len(places))
    if declared is not None and declared != len(points):
        raise InputError(path, f"{len(points)} points", f"the {declared} that its count declares")
    return points


def _head(rows: Lines, path: Path) -> _Head:
    commented, named, declared = list[str](), list[str](), None
    for number, line in rows:
        if line.startswith(COMMENTS):
            words = _words(line.lstrip("#/%! "), whole=True)
            commented = words if _triple(words) else commented
            continue
        words = _trimmed(_words(line))
        if declared is None and (declared := _count(words)) is not None:
            continue
        if not named and not any(map(_is_number, words)):
            named = words
            if _triple(named) is None:
                raise InputError(at_line(path, number), shown(line), EXPECTED)
            continue
        columns = len(named or words)
        if columns < 3:
            raise InputError(at_line(path, number), f"{columns} columns in {shown(line)}", EXPECTED)
        names = named or (commented if len(commented) == columns else [])
        return _Head(columns, _triple(names) or (0, 1, 2), declared, (number, line))
    raise InputError(path, "no points", EXPECTED)


def _singly(head: _Head, rows: Lines, kept: "array[float]", places: Sequence[int]) -> Iterator[Row]:
    """Rows that have to be looked at one by one; those that are plainly points are put into `kept`, many at once."""
    yield head.first
    for numbers, texts in rows.many():
        found = _plain(texts, head, places)
        if found is not None:
            kept.extend(found)
            continue
        for number, line in zip(numbers, texts, strict=True):
            if not line.startswith(COMMENTS):
                yield number, line


def _plain(texts: Sequence[str], head: _Head, places: Sequence[int]) -> "array[float] | None":
    """Numbers at these places of rows that are numbers parted by blanks, or by commas, alone; None if one is not."""
    text = "\n".join(texts)
    if any(mark in text for mark in ';#"'):
        return None
    separator = "," if "," in text else None
    if separator is not None and (" " in text or "\t" in text):
        return None  # the comma may be the decimal sign
    return floats(table(texts, head.columns, separator), head.columns, places)


def _words(line: str, whole: bool = False) -> list[str]:
    """Columns of a line, with points for decimal commas; a comment at its end is left out unless it is `whole`."""
    if "#" in line and not whole:
        line = line.partition("#")[0].rstrip()
    if '"' in line:
        line = line.replace('"', "")
    if ";" in line:
        return [word.strip().replace(",", ".") for word in line.split(";")]
    if "," not in line:
        return line.split()
    blank = line.split()
    if len(blank) >= 3 and all(DECIMAL_COMMA.fullmatch(word) for word in blank):
        return [word.replace(",", ".") for word in blank]
    if len(blank) > 1:  # commas here and blanks there, of numbers only: names and labels may hold blanks
        mixed = re.split(r"\s*,\s*|\s+", line)
        if all(not word or _is_number(word) for word in mixed):
            return mixed
    return [word.strip() for word in line.split(",")]


def _trimmed(words: list[str]) -> list[str]:
    """`words` without empty ones at the end, which separators there leave."""
    kept = len(words)
    while kept and not words[kept - 1]:
        kept -= 1
    return words[:kept]


def _count(words: Sequence[str]) -> int | None:
    """The number of points, if that is all that stands on a line."""
    return int(words[0]) if len(words) == 1 and re.fullmatch(r"[0-9]{1,18}", words[0]) else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _triple(names: Sequence[str]) -> Places | None:
    """Which of the columns are x, y and z, or None."""
    plain = [UNIT.sub("", name).strip(" '").lower() for name in names]
    for x, y, z in TRIPLES:
        if {x, y, z} <= set(plain):
            return plain.index(x), plain.index(y), plain.index(z)
    return None

"""Point Cloud Library .pcd files, ASCII, binary and compressed: x, y, z only.

Format: "The PCD (Point Cloud Data) file format", pointclouds.org. Older files have COLUMNS for FIELDS; some writers
leave out POINTS, which is WIDTH x HEIGHT, or, in text, the types.
"""

import struct
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.lzf import MOST, decompress
from pcdistill.data.formats.ply_header import name_of
from pcdistill.data.formats.shape import Points, points_of, wide
from pcdistill.data.formats.text import at_line, coordinates, floats, integers, lines, shown, table

KEYWORDS = ("VERSION", "FIELDS", "SIZE", "TYPE", "COUNT", "WIDTH", "HEIGHT", "VIEWPOINT", "POINTS", "DATA")
NUMPY = {("F", 4): "<f4", ("F", 8): "<f8"} | {(k, s): f"<{k.lower()}{s}" for k in "IU" for s in (1, 2, 4, 8)}
STORAGES = ("ascii", "binary", "binary_compressed")


@dataclass(frozen=True)
class _Layout:
    """What a header says: points, how they are stored, and of each field its bytes, numbers, and type for NumPy."""

    points: int
    storage: str
    axes: list[int]  # places of x, y and z among the fields
    sizes: list[int]
    counts: list[int]
    kinds: list[str]
    start: int  # where the body begins: byte and line
    line: int

    @property
    def widths(self) -> list[int]:
        """Bytes of a point's fields."""
        return [size * count for size, count in zip(self.sizes, self.counts, strict=True)]


def read_pcd(path: Path) -> Points:
    """Points `(P, 3)` of the file.

    Raises:
        InputError: naming the line of the header or text that is not as it should be, or if there are fewer or more
            points than it declares.
    """
    content = path.read_bytes()
    layout = _layout(content, path)
    if layout.storage == "ascii":
        return _text(content, layout, path)
    if layout.storage == "binary":
        return _binary(content, layout, path)
    return _compressed(content, layout, path)


def _header(content: bytes, path: Path) -> tuple[dict[str, tuple[int, list[str]]], int, int]:
    """Line and words of every keyword, and byte and line at which the body begins."""
    header: dict[str, tuple[int, list[str]]] = {}
    at, number = 0, 0
    while "DATA" not in header:
        number, end = number + 1, content.find(b"\n", at)
        line = content[at : end if end >= 0 else len(content)].decode("utf-8-sig", "replace").partition("#")[0]
        if line.strip():
            keyword, *words = line.split()
            keyword = "FIELDS" if keyword.upper() == "COLUMNS" else keyword.upper()
            if keyword not in KEYWORDS:
                raise InputError(at_line(path, number), shown(line.strip()), f"one of {', '.join(KEYWORDS)}")
            header[keyword] = number, words
        if end < 0 and "DATA" not in header:
            raise InputError(path, "the header has no DATA line", f"DATA and one of {', '.join(STORAGES)}")
        at = end + 1 if end >= 0 else len(content)
    return header, at, number


def _layout(content: bytes, path: Path) -> _Layout:
    header, start, line = _header(content, path)
    data_line, data = header["DATA"]
    storage = " ".join(data).lower()
    if storage not in STORAGES:
        raise InputError(at_line(path, data_line), f"data stored as {shown(storage)}", f"one of {', '.join(STORAGES)}")
    needed = {"FIELDS"} if storage == "ascii" else {"FIELDS", "SIZE", "TYPE"}
    if needed - set(header):
        raise InputError(path, f"the header has no {', '.join(sorted(needed - set(header)))} line", "one")
    fields_line, fields = header["FIELDS"]
    axes = [name_of(axis, fields) for axis in "xyz"]
    if None in axes:
        raise InputError(at_line(path, fields_line), f"fields {shown(' '.join(fields))}", "x, y and z")

    def numbers(keyword: str, default: int) -> list[int]:
        at, words = header.get(keyword, (0, [str(default)] * len(fields)))
        found = integers(words, path, at, f"{keyword} of {len(fields)} whole numbers")
        if len(found) != len(fields) or min(found) < 0:
            raise InputError(at_line(path, at), f"{keyword} {shown(' '.join(words))}", f"{len(fields)} numbers")
        return found

    sizes, counts = numbers("SIZE", 4), numbers("COUNT", 1)
    type_line, types = header.get("TYPE", (0, ["F"] * len(fields)))
    kinds = [NUMPY.get((kind.upper(), size), "") for kind, size in zip(types, sizes, strict=False)]
    chosen = [at for at in axes if at is not None]
    if len(types) != len(fields) or not all(kinds[at] and counts[at] for at in chosen):
        found = f"TYPE {shown(' '.join(types))} of SIZE {' '.join(map(str, sizes))}"
        raise InputError(at_line(path, type_line), found, "F of 4 or 8, I or U of 1, 2, 4 or 8 bytes for each field")
    return _Layout(_points(header, path), storage, chosen, sizes, counts, kinds, start, line)


def _points(header: dict[str, tuple[int, list[str]]], path: Path) -> int:
    """The number of points: POINTS, or WIDTH x HEIGHT, which agree where both are given."""
    given = {}
    for keyword in ("WIDTH", "HEIGHT", "POINTS"):
        if keyword in header:
            line, words = header[keyword]
            found = integers(words, path, line, f"{keyword} and a whole number")
            if len(found) != 1 or found[0] < 0:
                raise InputError(at_line(path, line), f"{keyword} {shown(' '.join(words))}", "one number")
            given[keyword] = found[0]
    product = given["WIDTH"] * given.get("HEIGHT", 1) if "WIDTH" in given else None
    points = given.get("POINTS", product)
    if points is None:
        raise InputError(path, "the header has no POINTS line", "one, or WIDTH and HEIGHT")
    if product is not None and product != points:
        raise InputError(at_line(path, header["POINTS"][0]), f"POINTS {points}", f"WIDTH x HEIGHT, {product}")
    return points


def _text(content: bytes, layout: _Layout, path: Path) -> Points:
    columns, kept = sum(layout.counts), array("d")
    at = [sum(layout.counts[:axis]) for axis in layout.axes]
    for numbers, texts in lines(content, None, layout.start, layout.line + 1).many():
        found = floats(table(texts, columns), columns, at)
        if found is not None:
            kept.extend(found)
            continue
        for number, line in zip(numbers, texts, strict=True):
            words = line.split()
            if len(words) != columns:
                raise InputError(at_line(path, number), f"{len(words)} numbers", f"{columns} as the fields say")
            kept.extend(coordinates([words[place] for place in at], path, number))
    _enough(len(kept) // 3, layout, path)
    return points_of(kept)


def _binary(content: bytes, layout: _Layout, path: Path) -> Points:
    row = sum(layout.widths)
    left = len(content) - layout.start
    _enough(left // row if left < row * layout.points else layout.points, layout, path)
    if content[layout.start + row * layout.points :].strip(b"\0\r\n"):
        raise InputError(path, f"{left - row * layout.points} bytes after its points", f"{layout.points} points")
    offsets = [sum(layout.widths[:axis]) for axis in layout.axes]
    kinds = [layout.kinds[axis] for axis in layout.axes]
    table = np.dtype({"names": ["x", "y", "z"], "formats": kinds, "offsets": offsets, "itemsize": row})
    rows = np.frombuffer(content, dtype=table, count=layout.points, offset=layout.start)
    return np.stack([wide(rows[axis]) for axis in "xyz"], axis=1)


def _compressed(content: bytes, layout: _Layout, path: Path) -> Points:
    """Field after field, all of it packed by LZF; in front, how many bytes that is, packed and not."""
    body = content[layout.start :]
    size = sum(layout.widths) * layout.points
    if len(body) < 8:
        raise InputError(path, "ends after the header", f"{layout.points} points")
    packed, unpacked = struct.unpack_from("<II", body)
    if packed > len(body) - 8:
        raise InputError(path, f"{len(body) - 8} packed bytes", f"the {packed} that it declares")
    if unpacked != size or size > MOST * packed:
        raise InputError(path, f"{packed} packed bytes that declare {unpacked}", f"{size} of {layout.points} points")
    try:
        raw = decompress(body[8 : 8 + packed], size)
    except ValueError as problem:
        raise InputError(path, str(problem), "a whole file") from problem
    starts = [layout.points * sum(layout.widths[:axis]) for axis in layout.axes]
    columns = [
        np.frombuffer(raw, layout.kinds[axis], layout.points * layout.counts[axis], start)[:: layout.counts[axis]]
        for axis, start in zip(layout.axes, starts, strict=True)
    ]
    return np.stack([wide(column) for column in columns], axis=1)


def _enough(held: int, layout: _Layout, path: Path) -> None:
    if held != layout.points:
        raise InputError(path, f"{held} points", f"the {layout.points} that its header declares")

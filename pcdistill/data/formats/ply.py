"""PLY of text and of bytes in both orders: vertices, faces, triangle strips; everything else is passed over.

Format: "The PLY Polygon File Format", Greg Turk, 1994. Strips are lists of vertices in which -1 ends a strip, as in
the Stanford models.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.ply_header import Element, Header, read_header
from pcdistill.data.formats.shape import Column, Indices, Mesh, Points, Triangles, check_faces, fans, points_of, wide
from pcdistill.data.formats.text import Rows, at_line, floats, integers, lines, shown, table, triangles


def read_ply(path: Path) -> Mesh | Points:
    """Mesh of the file; of one without faces and strips, its vertices as a cloud.

    Raises:
        InputError: naming the line of the header or text that is not as it should be, if there is less or more than the
            header declares, or if the surface is kept in a way that is not known.
    """
    header, body = _opened(path)
    vertices, surfaces = None, []
    for element in header.elements:
        if element.name == "vertex":
            vertices = body.columns(element, element.axes(path))
        elif element.corners is not None:
            surfaces.append(body.triangles(element))
        else:
            body.skip(element)
    body.end()
    if vertices is None:
        raise InputError(path, "no element vertex in the header", "one")
    if not surfaces:
        return vertices
    return Mesh(vertices, np.concatenate([triangles(len(vertices)) for triangles in surfaces]))


def read_ply_column(path: Path, names: Sequence[str]) -> Column | None:
    """`(V,)` the first of these properties that vertices have, whatever its case; None where they have none."""
    header, body = _opened(path)
    for element in header.elements:
        if element.name == "vertex":
            known = [each.name.lower() for each in element.properties]
            found = [known.index(name) for name in names if name in known]
            element.axes(path)  # refuses lists among the properties
            return body.columns(element, found[:1])[:, 0] if found else None
        body.skip(element)
    return None


def _opened(path: Path) -> "tuple[Header, _Text | _Binary]":
    content = path.read_bytes()
    header = read_header(content, path)
    return header, _Text(content, header, path) if header.order == "" else _Binary(content, header, path)


class _Late:
    """Triangles whose corners can be checked only when the number of vertices is known."""

    def __init__(self, found: "Triangles | Indices", path: Path) -> None:
        self._found, self._path = found, path

    def __call__(self, vertices: int) -> Indices:
        if isinstance(self._found, Triangles):
            return self._found.checked(vertices, self._path)
        check_faces(self._found, vertices, self._path)
        return self._found


def _strips(corners: Indices) -> Indices:
    """Triangles of strips that end in -1. Which way round they are does not matter here."""
    triples = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    kept: Indices = triples[(triples != -1).all(axis=1)]
    return kept


class _Text:
    """Rows of text: one line each, with as many words as the header says."""

    def __init__(self, content: bytes, header: Header, path: Path) -> None:
        self._rows = lines(content, None, header.size, header.lines + 1)
        self._path = path

    def columns(self, element: Element, at: Sequence[int]) -> Points:
        """`(rows, len(at))` numbers of the properties at these places."""
        columns = len(element.properties)
        kept = array("d")
        for numbers, texts in self._many(element):
            found = floats(table(texts, columns), columns, at)
            if found is not None:
                kept.extend(found)
                continue
            for number, words in _words(numbers, texts):
                if len(words) != columns:
                    counted = f"{len(words)} numbers for a {element.name}"
                    raise InputError(at_line(self._path, number), counted, f"{columns} as the header says")
                try:
                    kept.extend([float(words[axis]) for axis in at])
                except ValueError:
                    raise InputError(at_line(self._path, number), shown(" ".join(words)), "numbers") from None
        return points_of(kept, len(at))

    def triangles(self, element: Element) -> _Late:
        polygons = Triangles()
        alone = element.name == "face" and len(element.properties) == 1
        for numbers, texts in self._many(element):
            found = triangles(texts) if alone else None
            if found is not None:
                polygons.extend(found, numbers)
                continue
            for number, words in _words(numbers, texts):
                corners = integers(self._lists(element, words, number), self._path, number, "numbers of vertices")
                if element.name == "face":
                    polygons.add(corners, number)
                else:
                    for triangle in _strips(np.array(corners, dtype=np.int64)).tolist():
                        polygons.add(triangle, number)
        return _Late(polygons, self._path)

    def skip(self, element: Element) -> None:
        for numbers, texts in self._many(element):
            for number, words in _words(numbers, texts):
                self._lists(element, words, number)

    def end(self) -> None:
        more = next(self._rows, None)
        if more is not None:
            raise InputError(at_line(self._path, more[0]), shown(more[1]), "an end after the rows that are declared")

    def _many(self, element: Element) -> Iterator[Rows]:
        count, done = element.count if element.properties else 0, 0
        for rows in self._rows.many(count):
            done += len(rows[1])
            yield rows
        if done < count:
            raise short(self._path, done, element)

    def _lists(self, element: Element, words: list[str], number: int) -> list[str]:
        """The words of the list of corners, after a check that all lists of the row fill it."""
        at, corners = 0, list[str]()
        for each in element.properties:
            length = 1
            if each.length:
                length = integers(words[at : at + 1] or [""], self._path, number, "the length of a list")[0]
                at += 1
                if length < 0:
                    raise InputError(at_line(self._path, number), f"a list of length {length}", "0 or more")
            if each is element.corners:
                corners = words[at : at + length]
            at += length
        if at != len(words):
            found = f"{len(words)} numbers for a {element.name}"
            raise InputError(at_line(self._path, number), found, f"{at}, as its lists are long")
        return corners


def _words(numbers: Sequence[int], texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Rows one by one, in words."""
    return ((number, line.split()) for number, line in zip(numbers, texts, strict=True))


class _Binary:
    """Rows of bytes, of one size if there are no lists."""

    def __init__(self, content: bytes, header: Header, path: Path) -> None:
        self._content, self._order, self._path = content, header.order, path
        self._at = header.size

    def columns(self, element: Element, at: Sequence[int]) -> Points:
        """As those of text."""
        offsets, size = [0], 0
        for each in element.properties:
            size += each.size
            offsets.append(size)
        self._room(element, size)
        kinds = [self._order + element.properties[axis].kind for axis in at]
        names = [str(place) for place in range(len(at))]
        row = np.dtype({"names": names, "formats": kinds, "offsets": [offsets[a] for a in at], "itemsize": size})
        table = np.frombuffer(self._content, dtype=row, count=element.count, offset=self._at)
        self._at += size * element.count
        return np.stack([wide(table[name]) for name in names], axis=1)

    def triangles(self, element: Element) -> _Late:
        even = self._even(element)
        if even is not None and element.name == "face":
            return _Late(fans(even), self._path)
        polygons = Triangles()
        for corners in self._walk(element) if even is None else even.tolist():
            if element.name == "face":
                polygons.add(list(corners), 0)
            else:
                for triangle in _strips(np.array(corners, dtype=np.int64)).tolist():
                    polygons.add(triangle, 0)
        return _Late(polygons.unchecked(), self._path)

    def skip(self, element: Element) -> None:
        if any(each.length for each in element.properties):
            for _ in self._walk(element):
                pass
        else:
            size = sum(each.size for each in element.properties)
            self._room(element, size)
            self._at += size * element.count

    def end(self) -> None:
        more = len(self._content[self._at :].rstrip(b"\0 \t\r\n"))
        if more:
            raise InputError(self._path, f"{more} bytes after the rows that its header declares", "an end")

    def _room(self, element: Element, size: int) -> None:
        held = (len(self._content) - self._at) // size if size else element.count
        if held < element.count:
            raise short(self._path, held, element)

    def _even(self, element: Element) -> Indices | None:
        """The corners `(F, K)` if all lists are as long as those of the first row, else None and nothing is read."""
        start, fields, lengths = self._at, list[tuple[str, str, tuple[int, ...]]](), dict[str, int]()
        at = start
        for number, each in enumerate(element.properties):
            if each.length:
                code = struct.Struct(self._order + each.length_code)
                if at + code.size > len(self._content):
                    return None
                lengths[f"n{number}"] = length = code.unpack_from(self._content, at)[0]
                fields.append((f"n{number}", self._order + each.length, ()))
                at += code.size
            else:
                length = 1
            if not 0 <= length <= len(self._content):
                return None
            fields.append((str(number), self._order + each.kind, (length,)))
            at += length * each.size
        if element.count == 0 or element.count * (at - start) > len(self._content) - start:
            return None
        table = np.frombuffer(self._content, dtype=np.dtype(fields), count=element.count, offset=start)
        if any((table[name] != length).any() for name, length in lengths.items()):
            return None
        self._at += element.count * (at - start)
        return table[str(element.properties.index(element.corners))].astype(np.int64)  # type: ignore[arg-type]

    def _walk(self, element: Element) -> Iterator[tuple[int, ...]]:
        """The corners of row after row (nothing where the element has none)."""
        if not element.properties:
            return
        for done in range(element.count):
            corners: tuple[int, ...] = ()
            for each in element.properties:
                length = 1
                if each.length:
                    (length,) = self._take(each.length_code, 1, element, done)
                    if length < 0:
                        raise InputError(self._path, f"a list of length {length} in {element.name} {done}", "0 or more")
                values = self._take(each.code, length, element, done)
                if each is element.corners:
                    corners = values
            yield corners

    def _take(self, code: str, count: int, element: Element, done: int) -> tuple[int, ...]:
        size = count * struct.calcsize("<" + code)
        if self._at + size > len(self._content):
            raise short(self._path, done, element)
        values: tuple[int, ...] = struct.unpack_from(f"{self._order}{count}{code}", self._content, self._at)
        self._at += size
        return values


def short(path: Path, done: int, element: Element) -> InputError:
    """What is said of a file that was cut."""
    return InputError(path, f"ends after {done} of {element.count} rows of element {element.name}", "a whole file")

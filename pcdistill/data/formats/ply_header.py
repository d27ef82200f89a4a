"""The header of a PLY file: elements, their properties, and how the body is stored."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcdistill.core.errors import InputError
from pcdistill.data.formats.text import at_line, shown

# Names of types, old and new: as NumPy and as struct know them.
TYPES = {
    **dict.fromkeys(("char", "int8"), ("i1", "b")),
    **dict.fromkeys(("uchar", "uint8"), ("u1", "B")),
    **dict.fromkeys(("short", "int16"), ("i2", "h")),
    **dict.fromkeys(("ushort", "uint16"), ("u2", "H")),
    **dict.fromkeys(("int", "int32"), ("i4", "i")),
    **dict.fromkeys(("uint", "uint32"), ("u4", "I")),
    **dict.fromkeys(("float", "float32"), ("f4", "f")),
    **dict.fromkeys(("double", "float64"), ("f8", "d")),
}
ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
CORNERS = ("vertex_indices", "vertex_index")
SURFACES = ("face", "tristrips")


@dataclass(frozen=True)
class Property:
    """A number of a row, or, with a type of its length, a list of them. Types as NumPy and struct name them."""

    name: str
    kind: str
    code: str
    length: str = ""
    length_code: str = ""

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return int(self.kind[1:])


@dataclass
class Element:
    """A table of the file: so many rows of these properties."""

    name: str
    count: int
    properties: list[Property] = field(default_factory=list)
    corners: Property | None = None  # of a face or of strips: the list of their vertices

    def axes(self, path: Path) -> list[int]:
        """Places of x, y and z among the properties of the vertices."""
        names = [each.name for each in self.properties]
        chosen = [name_of(axis, names) for axis in "xyz"]
        if None in chosen or any(each.length for each in self.properties):
            raise InputError(path, f"vertices of {shown(' '.join(names))}", "x, y and z, and no lists")
        return [at for at in chosen if at is not None]


@dataclass(frozen=True)
class Header:
    """Elements, order of bytes ("" for text), and how many bytes and lines the header takes."""

    elements: list[Element]
    order: str
    size: int
    lines: int


def name_of(axis: str, names: Sequence[str]) -> int | None:
    """Where the name of an axis stands, in small letters or else in capitals."""
    return next((names.index(name) for name in (axis, axis.upper()) if name in names), None)


def read_header(content: bytes, path: Path) -> Header:
    """The header that `content` begins with.

    Raises:
        InputError: naming the line that is none of a header, or for elements that would be left out of a surface.
    """
    first = re.match(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)", content, re.IGNORECASE)
    if first is None:
        raise InputError(at_line(path, 1), shown(content[:60].split(b"\n")[0].decode("utf-8", "replace")), "ply")
    end_of_line, at, number = first[1], first.end(), 1
    order, elements = None, list[Element]()
    while True:
        end = content.find(end_of_line, at)
        line = content[at : end if end >= 0 else None].decode("utf-8", "replace")
        number, at = number + 1, end + len(end_of_line)
        keyword, *words = line.split() or ["comment"]
        if end < 0 and keyword != "end_header":
            raise InputError(at_line(path, number), "an end of the file in the header", "a line 'end_header'")
        match keyword.lower(), words:
            case (("comment" | "obj_info"), _):
                continue
            case "end_header", []:
                break
            case "format", [storage, _] if storage.lower() in ORDERS:
                order = ORDERS[storage.lower()]
            case "element", [name, count] if re.fullmatch(r"\d{1,18}", count):
                elements.append(Element(name.lower(), int(count)))
            case "property", _ if elements and (found := _property(words)):
                elements[-1].properties.append(found)
            case _:
                raise InputError(at_line(path, number), shown(line.strip()), "a line of a PLY header, or end_header")
    if order is None:
        raise InputError(path, "a header without format", "a line 'format ascii 1.0' or of binary storage")
    for element in elements:
        _find_corners(element, path)
    _no_other_surface(elements, path)
    return Header(elements, order, at if end >= 0 else len(content), number)


def _property(words: list[str]) -> Property | None:
    match [word.lower() for word in words[:-1]]:
        case [kind] if kind in TYPES:
            return Property(words[-1], *TYPES[kind])
        case ["list", length, kind] if kind in TYPES and TYPES.get(length, "f")[0][0] in "iu":
            return Property(words[-1], *TYPES[kind], *TYPES[length])
    return None


def _find_corners(element: Element, path: Path) -> None:
    if element.name not in SURFACES or element.count == 0:
        return
    lists = [each for each in element.properties if each.length and each.name.lower() in CORNERS]
    if not lists or lists[0].kind[0] == "f":
        names = " ".join(each.name for each in element.properties)
        raise InputError(path, f"element {element.name} of {shown(names)}", "a list vertex_indices of whole numbers")
    element.corners = lists[0]


def _no_other_surface(elements: list[Element], path: Path) -> None:
    """Vertices are no cloud if what is left out beside them says how they are joined to a surface."""
    if any(element.corners for element in elements):
        return
    for element in elements:
        joins = any(each.length and each.name.lower() in CORNERS for each in element.properties)
        # The grid of a scanner tells where its points were seen: they are a cloud all the same.
        if joins and element.count and element.name not in (*SURFACES, "range_grid"):
            raise InputError(path, f"a surface of element {shown(element.name)}", "face or tristrips")

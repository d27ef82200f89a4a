"""What a file holds: a mesh, or the points of a cloud; and triangles gathered polygon by polygon."""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.formats.text import at_line

Points = NDArray[np.float64]
Column = NDArray[np.float64]
Indices = NDArray[np.int64]
MOST = 2**62  # no index is larger, so that sums of two fit into 64 bits


@dataclass(frozen=True)
class Mesh:
    """Vertices `(V, 3)` float64 and triangles `(F, 3)` int64 that index them."""

    vertices: Points
    faces: Indices


class Triangles:
    """Triangles of polygons that come one by one, each with the line it stands on."""

    def __init__(self) -> None:
        self._corners = array("q")
        self._lines = array("q")

    def add(self, polygon: list[int], line: int) -> None:
        """Cut a polygon into a fan; one of less than three corners has no surface and leaves nothing."""
        fan = polygon
        if len(polygon) != 3:
            fan = [corner for pair in pairwise(polygon[1:]) for corner in (polygon[0], *pair)]
        try:
            self._corners.fromlist(fan)
        except OverflowError:  # no vertex has such a number, which is said when all of them are known
            self._corners.fromlist([min(max(corner, -MOST), MOST) for corner in fan])
        self._lines.extend([line] * (len(fan) // 3))

    def extend(self, corners: "array[int]", lines: Iterable[int]) -> None:
        """Add triangles `i j k i j k ...`, with the line of each."""
        self._corners.extend(corners)
        self._lines.extend(lines)

    def unchecked(self) -> Indices:
        """The triangles `(F, 3)` as they came."""
        return np.frombuffer(self._corners, dtype=np.int64).reshape(-1, 3)

    def checked(self, vertices: int, path: Path, first: int = 0) -> Indices:
        """The triangles `(F, 3)`, counted from 0; InputError with the line of one that is of no vertex.

        `first` is the number that the file gives its first vertex, for the message.
        """
        faces = self.unchecked()
        wrong = wrong_face(faces, vertices)
        if wrong is not None:
            check_faces(faces[wrong : wrong + 1], vertices, at_line(path, self._lines[wrong]), first)
        return faces


def wrong_face(faces: Indices, vertices: int) -> int | None:
    """The first of `faces` `(F, 3)` with a corner that is none of so many vertices."""
    outside = ((faces < 0) | (faces >= vertices)).any(axis=1)
    return int(outside.argmax()) if outside.any() else None


def check_faces(faces: Indices, vertices: int, place: object, first: int = 0) -> None:
    """Raise InputError, naming the number, if a corner of `faces` is none of so many vertices."""
    wrong = wrong_face(faces, vertices)
    if wrong is not None:
        corner = next(corner for corner in faces[wrong].tolist() if not 0 <= corner < vertices)
        raise InputError(place, f"a face of vertex {corner + first}", f"{first} to {vertices - 1 + first}")


def fans(polygons: Indices) -> Indices:
    """Polygons `(F, K)` of K corners each as triangles `(F * (K - 2), 3)`."""
    starts = np.broadcast_to(polygons[:, :1], polygons[:, 2:].shape)
    return np.stack([starts, polygons[:, 1:-1], polygons[:, 2:]], axis=2).reshape(-1, 3)


def wide(values: NDArray[Any]) -> Points:
    """Numbers of any type as float64; of what is none in them (NaN) NumPy need not warn, as it is refused later."""
    with np.errstate(all="ignore"):
        return values.astype(np.float64)


def points_of(values: "array[float]", columns: int = 3) -> Points:
    """Numbers x y z x y z ... as `(P, 3)`, or rows of other columns."""
    return np.frombuffer(values, dtype=np.float64).reshape(-1, columns)

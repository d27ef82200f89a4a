"""A layout: how a set lies on disk, how to tell, and how to read it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pcdistill.clouds import PointClouds
from pcdistill.data.prepare import Counted, Wanted

Read = Callable[[Path, str, Wanted], PointClouds]


@dataclass(frozen=True)
class Layout:
    """One way a labelled set is laid out on disk.

    Attributes:
        name: for messages and provenance.
        recognises: whether a file or folder is laid out so; cheap, never raises for readable paths.
        read: `(path, split, wanted)` to the clouds of that split in the common frame:
            float32, mean of the points at the origin, largest norm 1, z up where the up axis is known.
        counted: the same with the numbers of points of the files, where these differ.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Read
    counted: Callable[[Path, str, Wanted], Counted] | None = None

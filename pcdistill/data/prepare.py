"""What every reader does to raw coordinates: check, turn z up, normalise, choose points, split."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pcdistill.clouds import PartNames, PointClouds, Provenance
from pcdistill.clouds.frame import CHUNK as CHUNK
from pcdistill.clouds.frame import NORMALISED as NORMALISED
from pcdistill.clouds.frame import Floats as Floats
from pcdistill.clouds.frame import frame as frame
from pcdistill.clouds.frame import unit_sphere as unit_sphere
from pcdistill.clouds.frame import z_up as z_up
from pcdistill.core.errors import InputError
from pcdistill.core.progress import progress
from pcdistill.core.registry import nearest

T = TypeVar("T")

SPLITS = ("train", "test")
MOST_POINTS = 2**24  # of a cloud: sets of more would not fit into memory


@dataclass(frozen=True)
class Wanted:
    """How a reader is to read a set.

    Attributes:
        points: per cloud; None: as many as are stored, of meshes and of clouds of unequal numbers 1024.
        at_most: whether as many as are stored will do where they are fewer than `points`.
        seed: of everything random.
        up_axis: of what is stored, "y" or "z"; None: what the file says, else what is usual in the layout.
        least_points: that a cloud has to have where it is stored; one of fewer is as bad as one that cannot be read.
        skip_bad: leave out clouds that are bad, and say so in the provenance, instead of refusing the set.
    """

    points: int | None = None
    at_most: bool = False
    seed: int = 0
    up_axis: str | None = None
    least_points: int = 1
    skip_bad: bool = False

    def check(self) -> None:
        """Raise InputError for what nobody can want."""
        if self.up_axis not in (None, "y", "z"):
            raise InputError("up_axis", f"'{self.up_axis}'", "y or z")
        if self.least_points < 1:
            raise InputError("least_points", str(self.least_points), "at least 1")
        check_number(self.points)

    def asked(self) -> dict[str, int | str | None]:
        """What a converted set depends on besides its files, but for the seed."""
        return {
            "points": self.points, "at_most": self.at_most, "up": self.up_axis,
            "least_points": self.least_points, "skip_bad": self.skip_bad,
        }  # fmt: skip


@dataclass
class Bad:
    """Clouds of a set that cannot be used, met while it is read: refused all at once, or left out.

    Attributes:
        wanted: how the set is read.
        lines: what is wrong, a line for each.
    """

    wanted: Wanted
    lines: list[str] = field(default_factory=list)

    def note(self, problem: InputError) -> None:
        """Remember what is wrong with a cloud."""
        self.lines.append(str(problem))

    def facts(self, place: object, total: int) -> dict[str, int | str]:
        """For the provenance of the others: how many of `total` clouds are left out, and why; nothing if none are.

        Raises:
            InputError: there are bad ones, and they are not to be left out; or no others are there.
        """
        if not self.lines:
            return {}
        first, count = self.lines[0], len(self.lines)
        if count == total:
            raise InputError(place, f"none of {total} clouds can be used ({first})", "at least one")
        if self.wanted.skip_bad:
            return {"skipped": count, "skipped_clouds": "\n".join(self.lines)}
        if count == 1:
            where, _, rest = first.partition(": ")
            raise InputError(where, f"{rest} (--skip-bad goes on without it)")
        listed = "; ".join(self.lines)
        raise InputError(place, f"{count} of {total} clouds cannot be used (--skip-bad goes on without them): {listed}")


AS_STORED = Wanted()


class Counted(NamedTuple):
    """Clouds, and the points `(N,)` int32 that each had in its file; None where all have what was stored."""

    clouds: PointClouds
    numbers: NDArray[np.int32] | None = None


class TooFewPoints(InputError):
    """Fewer points than asked for; `stored` are there."""

    def __init__(self, place: object, stored: int, points: int) -> None:
        super().__init__(place, f"{stored} points per cloud", f"at least the {points} asked for")
        self.stored = stored


class MissingSplit(InputError):
    """A set without the part that is asked for."""


def assemble(
    raw: Floats,
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    *,
    place: object,
    up_axis: str,
    provenance: Provenance,
    wanted: Wanted = AS_STORED,
    parts: NDArray[np.integer] | None = None,
    part_names: PartNames | None = None,
) -> PointClouds:
    """Raw clouds `(N, P, 3)` of any float type as `PointClouds` in the common frame.

    Raises:
        InputError: naming `place`, for everything `check_set`, `unit_sphere` and `PointClouds` refuse; of what
            `unit_sphere` does, all at once, unless it is `wanted` without.
    """
    check_set(raw.shape, labels, class_names, place)
    bad, points, sound = Bad(wanted), np.empty(raw.shape, dtype=np.float32), np.empty(len(raw), dtype=bool)
    for low in range(0, len(raw), CHUNK):
        part = z_up(raw[low : low + CHUNK], up_axis)
        points[low : low + CHUNK], sound[low : low + CHUNK] = sifted(part, place, range(low, low + len(part)), bad)
    facts = {**provenance, **frame(up_axis), **bad.facts(place, len(raw))}
    whole = points if sound.all() else points[sound]
    kept = torch.from_numpy(labels.astype(np.int64)[sound])
    return PointClouds(
        torch.from_numpy(whole), kept, tuple(class_names), facts,
        parts=None if parts is None else torch.from_numpy(parts.astype(np.int64)[sound]), part_names=part_names,
    )  # fmt: skip


def sifted(
    points: Floats, place: object, numbers: Sequence[int], bad: Bad
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Clouds `(B, P, 3)` as `unit_sphere` gives them, and which it does `(B,)`; the others are noted, and zeros."""
    try:
        return unit_sphere(points, place, numbers), np.ones(len(points), dtype=bool)
    except InputError:
        sound = np.zeros(len(points), dtype=bool)  # some of them: each on its own
    framed = np.zeros(points.shape, dtype=np.float32)
    for row, number in enumerate(numbers):
        try:
            framed[row] = unit_sphere(points[row : row + 1], place, [number])[0]
            sound[row] = True
        except InputError as problem:
            bad.note(problem)
    return framed, sound


def check_set(shape: tuple[int, ...], labels: NDArray[np.integer], names: Sequence[str], place: object) -> None:
    """Raise InputError unless points of `shape`, labels and class names belong together."""
    if len(shape) != 3 or shape[-1] != 3:
        raise InputError(place, f"points of shape {shape}", "(clouds, points, 3)")
    if shape[0] == 0 or shape[1] == 0:
        raise InputError(place, f"{shape[0]} clouds of {shape[1]} points", "at least one of each")
    if labels.shape != shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(place, f"labels of shape {labels.shape} and type {labels.dtype}", f"{shape[0]} integers")
    wrong = (labels < 0) | (labels >= len(names))
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(place, f"label {labels[at]} of cloud {at}", f"0 to {len(names) - 1} for {len(names)} classes")


def enough(stored: int, wanted: Wanted, place: object) -> int:
    """How many points to keep of `stored` ones, in layouts whose clouds all have as many."""
    points = wanted.points
    check_number(points)
    if points is not None and points > stored and not wanted.at_most:
        raise TooFewPoints(place, stored, points)
    if stored < wanted.least_points:
        raise too_few(f"{place}, every cloud", stored, wanted.least_points)
    return stored if points is None else min(points, stored)


def too_few(place: object, points: int, least: int) -> InputError:
    """What is wrong with a cloud of fewer points than it has to have."""
    return InputError(place, f"{points} points", f"at least {least}{' (--least-points)' if least > 1 else ''}")


def check_number(points: int | None) -> None:
    """Raise InputError for a number of points that is none, or that no cloud has."""
    if points is not None and not 1 <= points <= MOST_POINTS:
        raise InputError("points", str(points), f"1 to {MOST_POINTS:,}")


def check_split(split: str) -> None:
    """Raise InputError unless `split` is "train" or "test"."""
    if split not in SPLITS:
        raise InputError("split", nearest(split, SPLITS), "train or test")


def lines_of(path: Path) -> list[str]:
    """The non-empty lines of a text file, stripped; InputError naming it if there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(path, f"unreadable ({problem})", "a list, one entry a line") from problem
    if not any(lines):
        raise InputError(path, "empty", "a list, one entry a line")
    return [line for line in lines if line]


def generator_for(name: str, seed: int) -> np.random.Generator:
    """Random numbers that depend on a file's name and the seed only, not on the order files are read in."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def stratified(labels: NDArray[np.integer], classes: int, fraction: float, seed: int) -> NDArray[np.bool_]:
    """Boolean mask `(N,)`: a seeded draw of `fraction` of each class, at least one in and one out.

    Raises:
        InputError: for a class of fewer than two clouds (the message gives its number).
    """
    if not 0 < fraction < 1:
        raise InputError("fraction", str(fraction), "a number between 0 and 1")
    chosen = np.zeros(len(labels), dtype=bool)
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise InputError("split", f"class {label} has {len(members)} clouds", "at least two, one for each side")
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        order = generator_for(f"split:{label}", seed).permutation(len(members))
        chosen[members[order[:count]]] = True
    return chosen


def tracked(items: Sequence[T], title: str) -> Iterator[T]:
    """`items`, with a progress bar if there are enough of them to wait for."""
    if len(items) < 32:
        yield from items
        return
    with progress(title, len(items)) as report:
        for done, item in enumerate(items, start=1):
            yield item
            report(done, "")

"""All that is wrong with a set, found in one pass over it: every file and every point is looked at."""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.catalog import SHAPES, load_counted, locate
from pcdistill.data.gathering import remarks, skipped
from pcdistill.data.hub import is_remote
from pcdistill.data.layouts import tree
from pcdistill.data.layouts.folders import Survey, survey
from pcdistill.data.objects import Mesh, original, sample_surface
from pcdistill.data.poses import spread, turned
from pcdistill.data.prepare import (
    AS_STORED,
    SPLITS,
    MissingSplit,
    Wanted,
    generator_for,
    tracked,
    unit_sphere,
    z_up,
)

FEW = 32  # points that hardly tell a shape
SAMPLED = 256  # points of a mesh that its spread is told by
Digests = dict[str, tuple[str, str, str]]  # of a content: split, class and name of what was met first


@dataclass(frozen=True)
class Findings:
    """What was found.

    Attributes:
        faults: what is wrong, a line each.
        facts: what there is, a line each.
    """

    faults: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)


@dataclass
class _Met:
    """Clouds that were met before, to tell copies and poses."""

    findings: Findings
    wanted: Wanted
    seen: Digests = field(default_factory=dict)
    copies: int = 0
    spreads: list[NDArray[np.float64]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # of the spreads

    def bad(self, line: str) -> None:
        """A cloud that cannot be used: a fault, unless such ones are to be left out."""
        if self.wanted.skip_bad:
            self.findings.facts.append(f"left out: {line}")
        else:
            self.findings.faults.append(line)

    def stands(self, name: str, spread: NDArray[np.float64]) -> None:
        """Remember how a cloud of a class stands."""
        self.spreads.append(spread)
        self.classes.append(name)

    def note(self, content: bytes, split: str, name: str, place: str) -> None:
        """Remember a cloud; a copy in the other split, or of another class, is a fault."""
        digest = hashlib.sha256(content).hexdigest()
        first = self.seen.setdefault(digest, (split, name, place))
        if first[2] == place:
            return
        if first[0] != split:
            self.findings.faults.append(f"{place} ({split}): the same as {first[2]} ({first[0]}), expected another one")
        elif first[1] != name:
            self.findings.faults.append(f"{place}: the same as {first[2]} of another class, expected one class")
        else:
            self.copies += 1


def check(name: str, wanted: Wanted = AS_STORED, root: str | os.PathLike[str] | None = None) -> Findings:
    """Read a set once, and say all that is wrong with it.

    Files that cannot be read, points that are not finite or too few, clouds without extent, splits and classes without
    clouds, and exact copies between train and test or two classes are faults; bad clouds are facts if they are to be
    left out. What there is of every class, how many points clouds have, what is no object, copies within a class, and
    whether clouds of a class stand in different poses are facts.

    Raises:
        InputError: no such set, or no layout that is known.
    """
    findings = Findings()
    met = _Met(findings, wanted)
    path = None if name in SHAPES or is_remote(name) else locate(name, root)
    try:
        seen = survey(path[0]) if path is not None and path[1] in (tree.LAYOUT, tree.MODELNET) else None
    except InputError as problem:
        return Findings([str(problem)])
    if seen is not None:
        _check_folder(seen, met)
    else:
        _check_file(name, root, met)
    if met.copies:
        findings.facts.append(f"copies of a cloud of the same class and split: {met.copies}")
    found = turned(met.spreads, met.classes)
    if found != "none":
        how = "about the up axis" if found == "z" else "in every way"
        findings.facts.append(f"clouds of the same class are turned {how}: train with --rotate {found}")
    findings.faults[:] = dict.fromkeys(findings.faults)  # of a whole file both splits say them
    return findings


def _check_folder(seen: Survey, met: _Met) -> None:
    """Every file of a folder; what is wrong with the folders themselves."""
    findings = met.findings
    if len(seen.class_names) < 2:
        findings.faults.append(f"{seen.path}: {len(seen.class_names)} class, expected at least two")
    for split in SPLITS:
        files = _files(seen, split, met.wanted.seed, findings)
        if files is None:
            continue
        numbers, counts = dict[str, int](), Counter[str]()
        for name, file in tracked(files, f"checking {seen.path.name} {split}"):
            counts[name] += 1
            try:
                look = _looked_at(file, met.wanted)
            except InputError as problem:
                met.bad(str(problem))
                continue
            place = file.relative_to(seen.path).as_posix()
            numbers |= {} if look.points is None else {place: look.points}
            met.note(look.content, split, name, place)
            met.stands(name, look.spread)
        findings.facts.extend([_summary(split, counts, list(numbers.values())), *_few(numbers)])
    texts = {"left_out": "no objects, left out: {}", "passed_over": "no classes, passed over: {}", "remarks": "{}"}
    findings.facts.extend(texts[fact].format(said) for fact, said in seen.facts().items())


def _files(seen: Survey, split: str, seed: int, findings: Findings) -> list[tuple[str, Path]] | None:
    """Classes and files of a split, as far as there are any; None for a split that there is not."""
    if seen.split:
        missing = seen.faults(split)
        if missing and isinstance(missing[0], MissingSplit):
            (findings.faults if split == "train" else findings.facts).append(str(missing[0]))
            return None
        findings.faults.extend(map(str, missing))
        part = seen.part(split)
        return [(name, file) for name in seen.class_names for file in part.get(name, [])]
    try:
        found = tree.listing(seen, split, seed)
    except InputError as problem:
        if split == "train":
            findings.faults.append(str(problem))
            return [(name, file) for name in seen.class_names for file in seen.parts["all"][name]]
        return None
    return [(found.class_names[label], file) for file, label in zip(found.files, found.labels, strict=True)]


class _Look(NamedTuple):
    """What a file holds."""

    content: bytes  # whatever its name and form
    points: int | None  # None of a mesh
    spread: NDArray[np.float64]


def _looked_at(file: Path, wanted: Wanted) -> _Look:
    """A file, as it would be read."""
    found, axis = original(file, wanted.least_points), wanted.up_axis or "z"
    if isinstance(found, Mesh):
        sampled = sample_surface(found, SAMPLED, generator_for("check", 0), file)
        return _Look(found.vertices.tobytes() + found.faces.tobytes(), None, spread(z_up(sampled, axis)))
    framed = unit_sphere(z_up(found[None], axis), file)[0]
    return _Look(np.ascontiguousarray(found).tobytes(), len(found), spread(framed))


def _check_file(name: str, root: str | os.PathLike[str] | None, met: _Met) -> None:
    """A set in arrays: every cloud of it."""
    findings = met.findings
    for split in SPLITS:
        try:
            clouds, numbers = load_counted(name, split, replace(met.wanted, skip_bad=True), root)
        except MissingSplit as problem:
            (findings.faults if split == "train" else findings.facts).append(str(problem))
            continue
        except InputError as problem:
            findings.faults.append(str(problem))
            continue
        for line in skipped(clouds):
            met.bad(line)
        names = [clouds.class_names[label] for label in clouds.hard_labels.tolist()]
        for place, one in enumerate(clouds.points):
            met.note(one.numpy().tobytes(), split, names[place], f"{split} cloud {place}")
            met.stands(names[place], spread(one.numpy()))
        stored = [clouds.points_per_cloud] if numbers is None else numbers.tolist()
        few = _few({f"{split} cloud {place}": number for place, number in enumerate(stored)})
        findings.facts.extend([_summary(split, Counter(names), stored), *few])
        findings.facts.extend(line for line in remarks(clouds) if line not in findings.facts)


def _few(numbers: dict[str, int]) -> list[str]:
    """A line on clouds that have hardly any points, if others have more."""
    few = sorted((points, place) for place, points in numbers.items() if points < FEW <= max(numbers.values()))
    listed = ", ".join(f"{place} {points}" for points, place in few)
    return [f"fewer than {FEW} points (--least-points {FEW} --skip-bad goes on without): {listed}"] if few else []


def _summary(split: str, counts: Counter[str], numbers: list[int]) -> str:
    """`train: 12 clouds of 10 to 2000 points: ball 6, stick 6`."""
    points = "" if not numbers else f" of {min(numbers)} points"
    if numbers and min(numbers) != max(numbers):
        points = f" of {min(numbers)} to {max(numbers)} points"
    return f"{split}: {sum(counts.values())} clouds{points}: " + ", ".join(f"{name} {counts[name]}" for name in counts)

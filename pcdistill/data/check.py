"""All that is wrong with a set, found in one pass over it: every file and every point is looked at."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.data.catalog import SHAPES, load_counted, locate
from pcdistill.data.gathering import remarks, skipped
from pcdistill.data.hub import is_remote
from pcdistill.data.layouts import tree
from pcdistill.data.layouts.folders import Survey, survey
from pcdistill.data.looking import Look, looks
from pcdistill.data.objects import MESH_POINTS
from pcdistill.data.poses import spread, turned
from pcdistill.data.prepare import (
    AS_STORED,
    SPLITS,
    MissingSplit,
    Wanted,
    too_few,
)

FEW = 32  # points that hardly tell a shape
NO_PARTS = f"no train and test parts: {tree.TEST_FRACTION:.0%} of every class are taken for testing"
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
    parts: set[int] = field(default_factory=set)  # that points have, as places in the list of names

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

    def note(self, digest: str, split: str, name: str, place: str) -> None:
        """Remember a cloud by its content; a copy in the other split, or of another class, is a fault."""
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
    parts = {split: _files(seen, split, met.wanted.seed, findings) for split in SPLITS}
    files = [file for part in parts.values() for _, file in part or []]
    try:
        part_names = tree.part_names_of(seen.path)
    except InputError as problem:
        findings.faults.append(str(problem))
        part_names = None
    title, axis = f"checking {seen.path.name}", met.wanted.up_axis or "z"
    with closing(looks(files, seen.path, axis, title, part_names)) as found:
        for split, part in parts.items():
            if part is not None:
                _check_part(seen, split, part, found, met)
    if not seen.split:
        findings.facts.append(NO_PARTS)
    for number, name in enumerate(part_names or ()):
        if number not in met.parts:
            findings.faults.append(f"{seen.path / tree.PART_NAMES}: no point is part '{name}', expected some")
    texts = {"left_out": "no objects, left out: {}", "passed_over": "no classes, passed over: {}", "remarks": "{}"}
    findings.facts.extend(texts[fact].format(said) for fact, said in seen.facts().items())


def _check_part(
    seen: Survey, split: str, files: list[tuple[str, Path]], found: Iterator[Look | str], met: _Met
) -> None:
    """Every file of a split, of which `found` says what is seen in it."""
    numbers, counts, least = dict[str, int](), Counter[str](), met.wanted.least_points
    meshes = 0
    for name, file in files:
        look = next(found)
        counts[name] += 1
        if isinstance(look, str):
            met.bad(look)
            continue
        if look.points is not None and look.points < least:
            met.bad(str(too_few(file, look.points, least)))
            continue
        place = file.relative_to(seen.path).as_posix()
        if look.points is None:
            meshes += 1
        else:
            numbers[place] = look.points
        met.parts.update(look.parts)
        met.note(look.digest, split, name, place)
        met.stands(name, look.spread)
    own = list(numbers.values())
    met.findings.facts.extend([_summary(split, counts, own), *_read_as(own, meshes, met.wanted), *_few(numbers)])


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
            content = hashlib.sha256(one.numpy().tobytes()).hexdigest()
            met.note(content, split, names[place], f"{split} cloud {place}")
            met.stands(names[place], spread(one.numpy()))
        stored = [clouds.points_per_cloud] if numbers is None else numbers.tolist()
        few = _few({f"{split} cloud {place}": number for place, number in enumerate(stored)})
        findings.facts.extend([_summary(split, Counter(names), stored), *few])
        findings.facts.extend(line for line in remarks(clouds) if line not in findings.facts)
        if str(clouds.provenance.get("split_rule", "")).startswith("own") and split == "test":
            findings.facts.append(NO_PARTS)


def _few(numbers: dict[str, int]) -> list[str]:
    """A line on clouds that have hardly any points, if others have more."""
    few = sorted((points, place) for place, points in numbers.items() if points < FEW <= max(numbers.values()))
    listed = ", ".join(f"{place} {points}" for points, place in few)
    return [f"fewer than {FEW} points (--least-points {FEW} --skip-bad goes on without): {listed}"] if few else []


def _read_as(numbers: list[int], meshes: int, wanted: Wanted) -> list[str]:
    """A line on what becomes of clouds of so many points, beside meshes, where not all are taken as they are."""
    alike = len({*numbers, *([MESH_POINTS] if meshes else [])}) == 1
    points = wanted.points or (MESH_POINTS if not alike or not numbers else numbers[0])
    more, fewer = sum(number > points for number in numbers), sum(number < points for number in numbers)
    done = [f"{more} larger sampled down to a random subset"] * (more > 0)
    done += [f"{fewer} smaller filled up by repeats"] * (fewer > 0)
    return [f"read as clouds of {points} points (--points): {', '.join(done)}"] if done else []


def _summary(split: str, counts: Counter[str], numbers: list[int]) -> str:
    """`train: 12 clouds of 10 to 2000 points: ball 6, stick 6`."""
    points = "" if not numbers else f" of {min(numbers)} points"
    if numbers and min(numbers) != max(numbers):
        points = f" of {min(numbers)} to {max(numbers)} points"
    return f"{split}: {sum(counts.values())} clouds{points}: " + ", ".join(f"{name} {counts[name]}" for name in counts)

"""All that is wrong with a set, found in one pass over it: every file and every point is looked at."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from pcdistill.core.errors import InputError
from pcdistill.core.hdf5 import member
from pcdistill.data.catalog import SHAPES, load_counted, locate
from pcdistill.data.gathering import remarks
from pcdistill.data.hdf5 import open_hdf5, reading
from pcdistill.data.layouts import tree
from pcdistill.data.layouts.folders import Survey, survey
from pcdistill.data.objects import Mesh, original, sample_surface
from pcdistill.data.prepare import CHUNK, SPLITS, MissingSplit, Wanted, generator_for, tracked, unit_sphere

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
    """Contents that were met before, to tell copies."""

    findings: Findings
    seen: Digests = field(default_factory=dict)
    copies: int = 0

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


def check(name: str, root: str | os.PathLike[str] | None = None, seed: int = 0) -> Findings:
    """Read a set once, and say all that is wrong with it.

    Files that cannot be read, points that are not finite, clouds without extent, splits and classes without clouds, and
    exact copies between train and test or two classes are faults. What there is of every class, how many points clouds
    have, what is no object and copies within a class are facts.

    Raises:
        InputError: no such set, or no layout that is known.
    """
    findings = Findings()
    met = _Met(findings)
    path = None if name in SHAPES else locate(name, root)
    try:
        seen = survey(path[0]) if path is not None and path[1] in (tree.LAYOUT, tree.MODELNET) else None
    except InputError as problem:
        return Findings([str(problem)])
    if seen is not None:
        _check_folder(seen, seed, met)
    else:
        _check_file(name, None if path is None else path[0], root, met)
    if met.copies:
        findings.facts.append(f"copies of a cloud of the same class and split: {met.copies}")
    return findings


def _check_folder(seen: Survey, seed: int, met: _Met) -> None:
    """Every file of a folder; what is wrong with the folders themselves."""
    findings = met.findings
    if len(seen.class_names) < 2:
        findings.faults.append(f"{seen.path}: {len(seen.class_names)} class, expected at least two")
    for split in SPLITS:
        files = _files(seen, split, seed, findings)
        if files is None:
            continue
        numbers, counts = list[int](), Counter[str]()
        for name, file in tracked(files, f"checking {seen.path.name} {split}"):
            counts[name] += 1
            try:
                content, points = _looked_at(file)
            except InputError as problem:
                findings.faults.append(str(problem))
                continue
            numbers += [] if points is None else [points]
            met.note(content, split, name, file.relative_to(seen.path).as_posix())
        findings.facts.append(_summary(split, counts, numbers))
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


def _looked_at(file: Path) -> tuple[bytes, int | None]:
    """Content of a file, whatever its name and form, and its points, None of a mesh; as it would be read."""
    found = original(file)
    if isinstance(found, Mesh):
        sample_surface(found, 16, generator_for("check", 0), file)
        return found.vertices.tobytes() + found.faces.tobytes(), None
    unit_sphere(found[None], file)
    return np.ascontiguousarray(found).tobytes(), len(found)


def _check_file(name: str, path: Path | None, root: str | os.PathLike[str] | None, met: _Met) -> None:
    """A set in arrays: every cloud of it."""
    findings = met.findings
    for split in SPLITS:
        broken = [] if path is None else list(_broken_clouds(path, split))
        findings.faults.extend(broken)
        try:
            clouds, numbers = load_counted(name, split, Wanted(), root)
        except MissingSplit as problem:
            (findings.faults if split == "train" else findings.facts).append(str(problem))
            continue
        except InputError as problem:
            findings.faults.extend([] if broken else [str(problem)])
            continue
        names = [clouds.class_names[label] for label in clouds.hard_labels.tolist()]
        for place, one in enumerate(clouds.points):
            met.note(one.numpy().tobytes(), split, names[place], f"{split} cloud {place}")
        stored = [clouds.points_per_cloud] if numbers is None else numbers.tolist()
        findings.facts.append(_summary(split, Counter(names), stored))
        findings.facts.extend(line for line in remarks(clouds) if line not in findings.facts)


def _broken_clouds(path: Path, split: str) -> Iterator[str]:
    """What is wrong with single clouds of a project HDF5 file, which a reader says of the first alone."""
    if not path.is_file() or path.suffix.lower() not in (".h5", ".hdf5"):
        return
    try:
        with open_hdf5(path) as file, reading(path):
            clouds = member(file, split, path)
            stored = member(clouds, "points", path) if isinstance(clouds, h5py.Group) else None
            if not isinstance(stored, h5py.Dataset) or stored.ndim != 3 or stored.dtype.kind != "f":
                return
            for low in range(0, len(stored), CHUNK):
                yield from _broken_rows(stored[low : low + CHUNK], low, f"{path} {split}/points")
    except InputError:
        return  # the reader says it, too


def _broken_rows(clouds: NDArray[np.floating], first: int, place: str) -> Iterator[str]:
    for number, cloud in enumerate(clouds, first):
        try:
            unit_sphere(cloud[None], place, [number])
        except InputError as problem:
            yield str(problem)


def _summary(split: str, counts: Counter[str], numbers: list[int]) -> str:
    """`train: 12 clouds of 10 to 2000 points: ball 6, stick 6`."""
    points = "" if not numbers else f" of {min(numbers)} points"
    if numbers and min(numbers) != max(numbers):
        points = f" of {min(numbers)} to {max(numbers)} points"
    return f"{split}: {sum(counts.values())} clouds{points}: " + ", ".join(f"{name} {counts[name]}" for name in counts)

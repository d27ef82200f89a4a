"""Objects in many files as one array: clouds of unequal numbers of points are brought to one number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.clouds import CloudSource
from pcdistill.core.errors import InputError
from pcdistill.data.objects import MESH_POINTS, Mesh, Points, chosen_points, of_points, original, whole_or_sampled
from pcdistill.data.prepare import Bad, Wanted, check_number, tracked

SAMPLED = "surface sample or seeded subset"  # `points_kept` of sets that can be had at any number of points
Clouds = NDArray[np.float32]
Labels = Callable[[Path, int], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Objects of files.

    Attributes:
        points: `(N, P, 3)` float32, normalised cloud by cloud.
        numbers: `(N,)` int32, points that clouds had in their files; of meshes P.
        kept: of the files, `(N,)` places of those that could be read.
        skipped: for the provenance, what is said of the others.
        labels: `(N, P)` of points, where they were asked for.
    """

    points: Clouds
    numbers: NDArray[np.int32]
    kept: NDArray[np.int64]
    skipped: dict[str, str | int]
    labels: NDArray[np.int64] | None = None

    def facts(self) -> dict[str, str | int]:
        """For the provenance: what was left out, and `unequal`."""
        return {**self.skipped, **unequal(self.numbers, self.points.shape[1])}


def unequal(numbers: NDArray[np.int32], points: int) -> dict[str, str | int]:
    """For the provenance of clouds of `points` that had these numbers: how many were filled up, and the extremes."""
    filled = int((numbers < points).sum())
    facts: dict[str, str | int] = {}
    if len(np.unique(numbers)) > 1:
        facts |= {"least_points": int(numbers.min()), "most_points": int(numbers.max())}
    if filled:
        facts |= {"filled": filled, "least_points": int(numbers.min())}
    return facts


def read_objects(
    files: Sequence[Path], root: Path, wanted: Wanted, description: str, labels: Labels | None = None
) -> Gathered:
    """The object of every file, random numbers seeded by the names relative to `root`.

    All get the points that are wanted: a sample of a mesh, a random subset of a larger cloud, repeats of a smaller one
    (see `of_points`). If none are wanted, or fewer will do, clouds that are all alike keep theirs. `labels` gives those
    of the points of a file, of which there are so many; they go with their points.

    Raises:
        InputError: as `objects.read_object`, and for clouds of fewer points than they have to have; for all of them at
            once, unless they are to be left out; or if nothing can be read.
    """
    check_number(wanted.points)
    bad = Bad(wanted)
    count = MESH_POINTS if wanted.points is None else wanted.points
    drawn = list[Clouds]()
    # All points of all clouds, for as long as these are alike; one that is not frees them.
    whole: list[Clouds] | None = [] if wanted.points is None or wanted.at_most else None
    numbers, kept, named = list[int](), list[int](), list[tuple[str, NDArray[np.int64]]]()
    for place, file in enumerate(tracked(files, description)):
        name = file.relative_to(root).as_posix()
        try:
            found = original(file, wanted.least_points)
            if labels is not None:
                own = own_labels(found, file, labels)
            cloud = of_points(found, file, wanted.seed, name, count)
            if whole is not None and _alike(found, whole, wanted):
                whole.append(whole_or_sampled(found, file, wanted.seed, name, wanted.points))
            else:
                whole = None
        except InputError as problem:
            bad.note(problem)
            continue
        if labels is not None:
            named.append((name, own))
        drawn.append(cloud)
        numbers.append(count if isinstance(found, Mesh) else len(found))
        kept.append(place)
    skipped = bad.facts(root, len(files))
    stacked = np.stack(drawn if whole is None else whole)
    parts = None
    if labels is not None:
        size = stacked.shape[1] if whole is None else 0  # of whole clouds all points, in their order
        parts = np.stack([own[chosen_points(len(own), wanted.seed, name, size or len(own))] for name, own in named])
    return Gathered(stacked, np.array(numbers, dtype=np.int32), np.array(kept, dtype=np.int64), skipped, parts)


def own_labels(found: Mesh | Points, file: Path, labels: Labels) -> NDArray[np.int64]:
    """Labels `(P,)` of the points of a file; InputError as `labels`, and for a mesh, which has none."""
    if isinstance(found, Mesh):
        raise InputError(file, "a mesh, in a set whose points have parts", "points with labels")
    return labels(file, len(found))


def _alike(found: Mesh | Points, before: list[Clouds], wanted: Wanted) -> bool:
    """Whether a cloud has as many points as those before, and no more than are wanted; a mesh has what it is asked."""
    length = (wanted.points or MESH_POINTS) if isinstance(found, Mesh) else len(found)
    fits = wanted.points is None or length <= wanted.points
    return fits and (not before or len(before[0]) == length)


def any_number(clouds: CloudSource) -> bool:
    """Whether the set can be read at any number of points, as those of folders can."""
    return clouds.provenance.get("points_kept") == SAMPLED


def remarks(*sets: CloudSource) -> list[str]:
    """What people are to know of how the splits of a set were read, a line each, of their provenance."""
    lines = list[str]()
    filled = [one for one in sets if "filled" in one.provenance]
    if filled:
        count, total = sum(int(one.provenance["filled"]) for one in filled), sum(len(one.labels) for one in sets)
        least = min(int(one.provenance["least_points"]) for one in filled)
        points = " and ".join(sorted({str(one.points_per_cloud) for one in filled}))
        said = f"{count} of {total} clouds filled up to {points} points by repeats, the smallest has {least}"
        lines.append(f"{said} (--least-points)")
    for fact, text in (
        ("left_out", "files left out, as they are no objects: {}"),
        ("passed_over", "passed over, as no classes: {}"),
        ("remarks", "{}"),
        ("without_points", "parts without a training point: {}"),
    ):
        lines += [text.format(said) for said in dict.fromkeys(one.provenance.get(fact) for one in sets) if said]
    return lines


def skipped(*sets: CloudSource) -> list[str]:
    """What is wrong with the clouds that the splits of a set were read without, a line each."""
    lines = (line for one in sets for line in str(one.provenance.get("skipped_clouds", "")).splitlines())
    return list(dict.fromkeys(lines))

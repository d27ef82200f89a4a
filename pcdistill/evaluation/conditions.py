"""Conditions: test sets made of the clean one, or of another data set.

A condition is cut to the test resolution first, then changed, then thinned if the protocol says so (`thin`).
What it draws follows from `CONDITION_SEED` alone: all networks and training sets see the same clouds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest
from pcdistill.data.stream import AnyClouds, StreamedClouds
from pcdistill.evaluation.part_scores import check_parts
from pcdistill.evaluation.scores import as_tested, thinning
from pcdistill.geometry import (
    MODELNET_C,
    POINTCLOUD_C,
    SEVERITIES,
    corrupt,
    corruptions,
    random_rotations,
    rotate,
    thinned,
)
from pcdistill.training.recipe import EvaluationProtocol

RESOLUTIONS = (64, 128, 256, 512, 1024, 2048)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "rotations": ("z", "so3"),
    "resolutions": tuple(map(str, RESOLUTIONS)),
    "corruptions": MODELNET_C,
    "pointcloud-c": POINTCLOUD_C,
}
DATA = "data:"
CONDITION_SEED = 0


@dataclass(frozen=True)
class Condition:
    """How a test set is made of the clean one; with nothing but a name it is the clean one.

    Attributes:
        name: `clean`, `z`, `so3`, `512`, `gaussian:3`, `data:modelnet40`.
        rotation: of every cloud, about z or any axis, uniform.
        points: of every cloud that are looked at, in place of the protocol's.
        corruption, severity: as in `geometry.corruptions`.
        dataset: another set, of which classes with names of the training set's are looked at.
    """

    name: str
    rotation: Literal["z", "so3"] | None = None
    points: int | None = None
    corruption: str | None = None
    severity: int = 0
    dataset: str | None = None


CLEAN = Condition("clean")
TestSets = Mapping[str, PointClouds]  # by name
NO_SETS: TestSets = MappingProxyType({})


def parse_conditions(words: Sequence[str], stored_points: int | None = None) -> list[Condition]:
    """The conditions that words ask for, the clean one first, each once.

    Args:
        words: names of conditions; a corruption without `:severity`, for all five; or groups: `rotations`,
            `resolutions` (as many as there are points for), `corruptions` (ModelNet40-C's), `pointcloud-c`, `all`.
        stored_points: of a test cloud; None does not check.

    Raises:
        InputError: something else, or more points than are stored.
    """
    asked = {"clean": CLEAN}
    for word in words:
        groups = [GROUPS[name] for name in (GROUPS if word == "all" else [word]) if name in GROUPS]
        for name in [name for group in groups for name in group] or [word]:
            conditions = _named(name)
            if stored_points is not None and (conditions[0].points or 0) > stored_points:
                if groups:
                    continue
                raise InputError("conditions", f"'{word}' of clouds of {stored_points} points", "at most as many")
            asked |= {condition.name: condition for condition in conditions}
    return list(asked.values())


def _named(name: str) -> list[Condition]:
    kind, colon, severity = name.replace("_", "-").partition(":")
    if name == "clean":
        return [CLEAN]
    if name in GROUPS["rotations"]:
        return [Condition(name, rotation="z" if name == "z" else "so3")]
    if re.fullmatch(r"[1-9]\d{0,8}", name):
        return [Condition(name, points=int(name))]
    if name.startswith(DATA) and name != DATA:
        return [Condition(name, dataset=name.removeprefix(DATA))]
    if kind in corruptions and (not colon or severity in map(str, SEVERITIES)):
        degrees = [int(severity)] if colon else SEVERITIES
        return [Condition(f"{kind}:{degree}", corruption=kind, severity=degree) for degree in degrees]
    names = ["clean", "all", *GROUPS, "z", "so3", *corruptions]
    hint = f"'{name}'" if colon else nearest(name, names)
    raise InputError("conditions", hint, "some of " + ", ".join([*names, "gaussian:3, points as 512, data:NAME"]))


def shown(
    test: PointClouds, condition: Condition, protocol: EvaluationProtocol, trained_points: int | None = None
) -> PointClouds:
    """The clouds of a condition: cut, changed, and thinned as `as_tested` has it.

    Args:
        test: `(N, P, 3)` clean clouds of the set, or of that of a `data:` condition, as they are stored.
        condition: which.
        protocol: resolution and thinning.
        trained_points: points of the clouds that the networks are trained on.

    Raises:
        InputError: too few points.
    """
    seen = _cut(test, test.class_names, condition, protocol)
    if condition.rotation is not None:
        generator = torch.Generator().manual_seed(CONDITION_SEED)
        turns = random_rotations(len(seen), generator, axis="z" if condition.rotation == "z" else None)
        seen = seen.with_points(rotate(seen.points, turns))
    if condition.corruption is not None:
        seen = corrupt(seen, condition.corruption, condition.severity, CONDITION_SEED)
    return thinned(seen, thinning(protocol, seen.points_per_cloud, trained_points))


def condition_label(condition: str, trained: str) -> str:
    """How tables call the condition of networks trained under rotations: `z/z`, `z/SO3`, `none/SO3`; or `512 points`.

    The former are the names of the three usual protocols (Esteves et al., "Learning SO(3) equivariant representations
    with spherical CNNs", ECCV 2018): rotation in training, then in the test.
    """
    if condition in GROUPS["rotations"]:
        return f"{trained}/{condition}".replace("so3", "SO3")
    return f"{condition} points" if condition.isdigit() else condition


class Part(NamedTuple):
    """Conditions that need the same networks: those trained on the classes that the conditions have."""

    training: AnyClouds
    conditions: list[tuple[Condition, PointClouds]]  # with the set that each is made of


def parts_of(
    clouds: AnyClouds,
    test: PointClouds,
    conditions: Sequence[Condition],
    protocol: EvaluationProtocol,
    others: Mapping[str, PointClouds] = NO_SETS,
) -> list[Part]:
    """The training sets that conditions need, and the test sets that they are made of.

    Across data sets the *training set* is restricted to the shared classes, so that guesses and chance are theirs: as
    in SADM's tables (2025). Classes are shared if their names are but for case, `_`, `-` and spaces.

    Args:
        clouds: the training set.
        test: the clean test set, of the same classes.
        conditions: at least one.
        protocol: as in `evaluate`.
        others: the test sets of `data:` conditions, by name.

    Raises:
        InputError: classes differ, fewer than two are shared, or not all of a training set on disk, or a test set has
            too few points.
    """
    check_parts(test, clouds.part_names)
    parts: dict[tuple[int, ...], Part] = {}
    for condition in conditions:
        kept, seen = seen_under(condition, clouds.class_names, test, protocol, others)
        training = clouds
        if len(kept) < clouds.num_classes:
            if isinstance(clouds, StreamedClouds):
                raise InputError(condition.name, f"{len(kept)} classes of a set on disk", "all, or a set in memory")
            training = of_classes(clouds, kept)
        parts.setdefault(kept, Part(training, [])).conditions.append((condition, seen))
    return list(parts.values())


def shared_classes(ours: Sequence[str], theirs: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of the classes that two sets share, in the order of `ours`; see `parts_of`.

    >>> shared_classes(["bed", "night_stand", "sofa"], ["Night Stand", "bed"])
    [(0, 1), (1, 0)]
    """
    places = {_plain(name): place for place, name in enumerate(theirs)}
    return [(place, places[_plain(name)]) for place, name in enumerate(ours) if _plain(name) in places]


def of_classes(clouds: PointClouds, kept: Sequence[int], names: Sequence[str] | None = None) -> PointClouds:
    """The clouds of some classes, labelled anew in the order of `kept`.

    Soft labels lose what they say of other classes and sum to one again; if nothing is left, all is the cloud's class.

    Args:
        clouds: the set.
        kept: class indices, all different.
        names: of these classes from now on.
    """
    places = torch.full((clouds.num_classes,), -1)
    places[list(kept)] = torch.arange(len(kept))
    chosen = places[clouds.hard_labels] >= 0
    classes = places[clouds.hard_labels[chosen]]
    labels = classes
    if clouds.labels.ndim == 2:
        soft = clouds.labels[chosen][:, list(kept)]
        soft = torch.where(soft.sum(1, keepdim=True) > 0, soft, torch.nn.functional.one_hot(classes, len(kept)))
        labels = soft / soft.sum(1, keepdim=True)
    if clouds.parts is not None:
        raise InputError("conditions", "some classes of a set with parts", "all of them")
    return replace(
        clouds,
        points=clouds.points[chosen],
        labels=labels,
        class_names=tuple(names or [clouds.class_names[label] for label in kept]),
        classes=None if clouds.classes is None else classes,
    )


def seen_under(
    condition: Condition,
    class_names: tuple[str, ...],
    test: PointClouds,
    protocol: EvaluationProtocol,
    others: Mapping[str, PointClouds],
) -> tuple[tuple[int, ...], PointClouds]:
    """The training classes that a condition has, and the test set that it is made of, of these classes.

    Raises:
        InputError: as `parts_of`.
    """
    if condition.dataset is None:
        _cut(test, class_names, condition, protocol)
        return tuple(range(len(class_names))), test
    other = others[condition.dataset]
    shared = shared_classes(class_names, other.class_names)
    if len(shared) < 2:
        both = ", ".join(class_names[ours] for ours, _ in shared) or "none"
        raise InputError(condition.name, f"classes shared with training: {both}", "at least 2")
    kept = tuple(ours for ours, _ in shared)
    seen = of_classes(other, [theirs for _, theirs in shared], [class_names[ours] for ours in kept])
    _cut(seen, seen.class_names, condition, protocol)
    return kept, seen


def _cut(
    test: PointClouds, class_names: tuple[str, ...], condition: Condition, protocol: EvaluationProtocol
) -> PointClouds:
    changes = {"thin": False, "test_points": condition.points or protocol.test_points}
    return as_tested(test, class_names, protocol.model_copy(update=changes))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()

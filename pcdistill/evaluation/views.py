"""Views: test sets made of the clean one, or of another data set, and networks scored on all of them.

A view is cut to the test resolution first, then changed, then thinned if the protocol says so (`Protocol.thin`).
What it draws follows from `VIEW_SEED` alone: all networks and training sets see the same clouds.
"""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.evaluation.scores import as_tested, score, test_digest, thinned
from pcdistill.evaluation.sweep import Evaluation
from pcdistill.geometry import MODELNET_C, POINTCLOUD_C, SEVERITIES, corrupt, corruptions, random_rotations, rotate
from pcdistill.models import Network, Output
from pcdistill.registry import nearest
from pcdistill.training import Lesson, OnProgress, Protocol, train_networks

RESOLUTIONS = (64, 128, 256, 512, 1024, 2048)
GROUPS: Mapping[str, tuple[str, ...]] = {
    "rotations": ("z", "so3"),
    "resolutions": tuple(map(str, RESOLUTIONS)),
    "corruptions": MODELNET_C,
    "pointcloud-c": POINTCLOUD_C,
}
DATA = "data:"
VIEW_SEED = 0


@dataclass(frozen=True)
class View:
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


CLEAN = View("clean")
NO_SETS: Mapping[str, PointClouds] = MappingProxyType({})


def parse_views(words: Sequence[str], stored_points: int | None = None) -> list[View]:
    """The views that words ask for, the clean one first, each once.

    Args:
        words: names of views; a corruption without `:severity`, for all five; or groups: `rotations`, `resolutions`
            (as many as there are points for), `corruptions` (ModelNet40-C's), `pointcloud-c`, `all` of these.
        stored_points: of a test cloud; None does not check.

    Raises:
        InputError: something else, or more points than are stored.
    """
    found = {"clean": CLEAN}
    for word in words:
        groups = [GROUPS[name] for name in (GROUPS if word == "all" else [word]) if name in GROUPS]
        for name in [name for group in groups for name in group] or [word]:
            views = _named(name)
            if stored_points is not None and (views[0].points or 0) > stored_points:
                if groups:
                    continue
                raise InputError("views", f"'{word}' of clouds of {stored_points} points", "at most as many")
            found |= {view.name: view for view in views}
    return list(found.values())


def _named(name: str) -> list[View]:
    kind, colon, severity = name.replace("_", "-").partition(":")
    if name == "clean":
        return [CLEAN]
    if name in GROUPS["rotations"]:
        return [View(name, rotation="z" if name == "z" else "so3")]
    if re.fullmatch(r"[1-9]\d{0,8}", name):
        return [View(name, points=int(name))]
    if name.startswith(DATA) and name != DATA:
        return [View(name, dataset=name.removeprefix(DATA))]
    if kind in corruptions and (not colon or severity in map(str, SEVERITIES)):
        degrees = [int(severity)] if colon else SEVERITIES
        return [View(f"{kind}:{degree}", corruption=kind, severity=degree) for degree in degrees]
    known = ["clean", "all", *GROUPS, "z", "so3", *corruptions]
    hint = f"'{name}'" if colon else nearest(name, known)
    raise InputError("views", hint, "some of " + ", ".join([*known, "gaussian:3, points as 512, data:NAME"]))


def shown(test: PointClouds, view: View, protocol: Protocol, trained_points: int | None = None) -> PointClouds:
    """The clouds of a view: cut, changed, and thinned as `as_tested` has it.

    Args:
        test: `(N, P, 3)` clean clouds of the set, or of that of a `data:` view, as they are stored.
        view: which.
        protocol: resolution and thinning.
        trained_points: points of the clouds that the networks are trained on.

    Raises:
        InputError: too few points.
    """
    seen = _cut(test, test.class_names, view, protocol)
    if view.rotation is not None:
        generator = torch.Generator().manual_seed(VIEW_SEED)
        turns = random_rotations(len(seen), generator, axis="z" if view.rotation == "z" else None)
        seen = seen.with_points(rotate(seen.points, turns))
    if view.corruption is not None:
        seen = corrupt(seen, view.corruption, view.severity, VIEW_SEED)
    return seen.with_points(thinned(seen.points, protocol, trained_points))


def view_label(view: str, trained: str) -> str:
    """How tables call a view of networks trained under rotations: `z/z`, `z/SO3`, `SO3/SO3`, `none/SO3`; `512 points`.

    The former are the names of the three usual protocols (Esteves et al., "Learning SO(3) equivariant representations
    with spherical CNNs", ECCV 2018): rotation in training, then in the test.
    """
    if view in GROUPS["rotations"]:
        return f"{trained}/{view}".replace("so3", "SO3")
    return f"{view} points" if view.isdigit() else view


class Part(NamedTuple):
    """Views that need the same networks: those trained on the classes that the views have."""

    training: PointClouds
    views: list[tuple[View, PointClouds]]  # with the set that each is made of


def parts_of(
    clouds: PointClouds,
    test: PointClouds,
    views: Sequence[View],
    protocol: Protocol,
    others: Mapping[str, PointClouds] = NO_SETS,
) -> list[Part]:
    """The training sets that views need, and the test sets that they are made of.

    Across data sets the *training set* is restricted to the shared classes, so that guesses and chance are theirs: as
    in SADM's tables (2025). Classes are shared if their names are but for case, `_`, `-` and spaces.

    Args:
        clouds: the training set.
        test: the clean test set, of the same classes.
        views: at least one.
        protocol: as in `evaluate`.
        others: the test sets of `data:` views, by name.

    Raises:
        InputError: classes differ, fewer than two are shared, or a test set has too few points.
    """
    parts: dict[tuple[int, ...], Part] = {}
    for view in views:
        kept, seen = _seen(view, clouds.class_names, test, protocol, others)
        training = clouds if len(kept) == clouds.num_classes else of_classes(clouds, kept)
        parts.setdefault(kept, Part(training, [])).views.append((view, seen))
    return list(parts.values())


def evaluate_views(
    parts: Sequence[Part],
    protocol: Protocol,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    lesson: Lesson | None = None,
) -> Iterator[tuple[View, Evaluation]]:
    """Train fresh networks, one per seed, for every part, and score them on its views: one after the other.

    Args:
        parts: of `parts_of`.
        protocol: recipe, network, resolution and thinning.
        seeds: of weights, order and augmentation.
        on_progress: called with the training steps done, of all parts together.
        device, lesson: as in `train_networks`.
    """
    before = 0
    for part in parts:
        start, total = time.perf_counter(), protocol.recipe.total_steps(len(part.training)) * len(seeds)

        def report(done: int, note: str, before: int = before) -> None:
            if on_progress is not None:
                on_progress(before + done, note)

        networks = train_networks(protocol.network, part.training, protocol.recipe, seeds, report, device, lesson)
        trained, before = time.perf_counter() - start, before + total
        for view, test in part.views:
            report(total, f"view {view.name}")
            yield view, _scored(networks, seeds, view, test, protocol, part.training.points_per_cloud, trained)


def score_views(
    network: Network,
    class_names: tuple[str, ...],
    test: PointClouds,
    views: Sequence[View],
    protocol: Protocol,
    trained_points: int | None,
    others: Mapping[str, PointClouds] = NO_SETS,
) -> Iterator[tuple[View, Evaluation]]:
    """A network that was trained before, on views; across data sets it guesses among the shared classes only.

    Raises:
        InputError: as `parts_of`.
    """
    wanted = [(view, *_seen(view, class_names, test, protocol, others)) for view in views]

    def asked(kept: Sequence[int]) -> Network:
        return network if len(kept) == len(class_names) else Among(network, kept)

    return (
        (view, _scored([asked(kept)], (), view, seen, protocol, trained_points, 0.0)) for view, kept, seen in wanted
    )


class Among(Network):
    """A network whose guesses are restricted to some classes: logits of the others are left out."""

    def __init__(self, network: Network, kept: Sequence[int]) -> None:
        super().__init__()
        self.network, self.kept = network, list(kept)

    def forward(self, points: Tensor) -> Output:
        found: Output = self.network(points)
        return Output(found.logits[:, self.kept], found.global_feature)


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
    return replace(
        clouds,
        points=clouds.points[chosen],
        labels=labels,
        class_names=tuple(names or [clouds.class_names[label] for label in kept]),
        classes=None if clouds.classes is None else classes,
    )


def _cut(test: PointClouds, class_names: tuple[str, ...], view: View, protocol: Protocol) -> PointClouds:
    changes = {"thin": False, "test_points": view.points or protocol.test_points}
    return as_tested(test, class_names, protocol.model_copy(update=changes))


def _seen(
    view: View, class_names: tuple[str, ...], test: PointClouds, protocol: Protocol, others: Mapping[str, PointClouds]
) -> tuple[tuple[int, ...], PointClouds]:
    """The training classes that a view has, and the test set that it is made of, of these classes; both checked."""
    if view.dataset is None:
        _cut(test, class_names, view, protocol)
        return tuple(range(len(class_names))), test
    other = others[view.dataset]
    shared = shared_classes(class_names, other.class_names)
    if len(shared) < 2:
        found = ", ".join(class_names[ours] for ours, _ in shared) or "none"
        raise InputError(view.name, f"classes shared with training: {found}", "at least 2")
    kept = tuple(ours for ours, _ in shared)
    seen = of_classes(other, [theirs for _, theirs in shared], [class_names[ours] for ours in kept])
    _cut(seen, seen.class_names, view, protocol)
    return kept, seen


def _scored(
    networks: Sequence[Network],
    seeds: Sequence[int],
    view: View,
    test: PointClouds,
    protocol: Protocol,
    trained_points: int | None,
    seconds: float,
) -> Evaluation:
    start = time.perf_counter()
    seen = shown(test, view, protocol, trained_points)
    runs = tuple(score(network, seen) for network in networks)
    spent = seconds + time.perf_counter() - start
    return Evaluation(tuple(seeds), runs, spent, class_names=seen.class_names, test_set=test_digest(test, protocol))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()

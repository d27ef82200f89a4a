"""The clouds that a set starts from."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, parts_of
from pcdistill.condense.plan import SelectPlan
from pcdistill.condense.shape import BITS as SHAPE_BITS
from pcdistill.condense.shape import POINTS as SHAPE_POINTS
from pcdistill.condense.shape import measured, ranked, sides
from pcdistill.condense.spec import BITS, POINTS, SIDE, SetSpec
from pcdistill.core.errors import InputError
from pcdistill.models import build
from pcdistill.selection import network_descriptor, raw_descriptor, select
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.budget import Choose, Filled, Shape, Soften, fill
from pcdistill.storage.labels import smoothed, soften_by
from pcdistill.storage.voxels import POINTS as GRID_POINTS
from pcdistill.storage.voxels import SIDES, axis_bits

# Probability of the own class that learned labels start from without a teacher, before it is rounded to a byte.
OWN = 0.9

# Shapes that `--auto measured` tries: each takes the training of a network.
TRIED = 4


class Start(NamedTuple):
    """The clouds that a set starts from, and how they are stored."""

    clouds: PointClouds
    budget: Budget
    kind: type[Storage]
    nbytes: int | None  # of all classes, where the budget is one in bytes


def chooser(
    real: CloudSource, method: str, features: str, seed: int, costs: Callable[[CloudSource], Tensor] | None = None
) -> Choose:
    """A function that selects from `real`; `costs` says what storing clouds takes, for methods that ask."""
    describe: Callable[[CloudSource], Tensor] = raw_descriptor
    name = "raw"
    if features != "raw":
        network = build(features, len(real.class_names), seed)
        describe, name = partial(network_descriptor, network=network), f"{features}, random weights, seed {seed}"

    costs, described = None if costs is None else _remembered(costs), _remembered(describe)

    def choose(counts: tuple[int, ...], points: int) -> PointClouds:
        return select(
            real, method, counts, features=described, features_name=name, costs=costs, points=points, seed=seed
        )  # fmt: skip

    return choose


def _remembered(describe: Callable[[CloudSource], Tensor]) -> Callable[[CloudSource], Tensor]:
    """What is chosen from depends on labels and seed alone, so that it need not be described again for other counts."""
    memo: dict[int, Tensor] = {}

    def described(part: CloudSource) -> Tensor:
        key = len(part.labels)
        if key not in memo:
            memo[key] = describe(part)
        return memo[key]

    return described


def begin(real: CloudSource, plan: SelectPlan) -> Start:
    """The clouds to begin with, as many as the budget holds.

    Raises:
        InputError: not even one cloud of every class; or a teacher of other classes.
    """
    if plan.teacher is not None:
        plan.teacher.check(real.class_names)
    if parts_of(real) is not None:
        _check_parts(plan)
    spec, kind, classes = plan.spec, plan.storage, len(real.class_names)
    soften = None if spec.labels == "hard" else partial(label, plan=plan)
    nbytes = spec.total_bytes(classes, len(real.labels) * real.points_per_cloud * 12)
    if nbytes is None:
        shape = Shape(spec.points or POINTS, spec.bits or BITS)
        if kind.dense:
            shape = _grid(spec, spec.side or SIDE)
        extra = kind.side_bytes + (0 if soften is None else classes)
        budget = Budget(spec.clouds_per_class or 0, shape.points, shape.bits, extra, shape.side)
        points = real.points_per_cloud if kind.dense else shape.points
        return Start(_chooser(real, plan, shape)(budget.counts(classes), points), budget, kind, None)
    shapes = _shapes(real, plan, nbytes, soften)
    for shape in shapes:
        try:
            choose = _chooser(real, plan, shape)
            filled = fill(real, nbytes, shape, kind, choose, sharing=spec.sharing, soften=soften)
        except InputError:
            if shape == shapes[-1]:
                raise
            continue
        if kind.dense and spec.side is None and len(filled.clouds) == len(real.labels):
            filled = _finer(filled, kind, nbytes, soften)
        return Start(filled.clouds, filled.budget, kind, nbytes)
    raise AssertionError("there is always a shape")


def _check_parts(plan: SelectPlan) -> None:
    """Refuse what cannot be made of a set whose points have parts.

    Raises:
        InputError: a storage that keeps none, soft labels, or clouds mixed of several classes.
    """
    if not plan.storage.keeps_parts:
        able = ", ".join(name for name in storages if storages[name].keeps_parts)
        raise InputError("storage", f"'{plan.storage.name}' of points with parts", f"one that keeps them: {able}")
    if plan.spec.labels != "hard":
        raise InputError("labels", f"{plan.spec.labels} of points with parts", "hard")
    if plan.expansion is not None and plan.expansion.mixup:
        raise InputError("expand", "mixup of points with parts", "interpolate: their classes have other parts")


def _chooser(real: CloudSource, plan: SelectPlan, shape: Shape) -> Choose:
    """How clouds of a shape are chosen."""
    budget = Budget(1, shape.points, shape.bits, side=shape.side)
    return chooser(real, plan.method, plan.features, plan.spec.seed, partial(plan.storage.costs, budget=budget))


def _finer(filled: Filled, kind: type[Storage], nbytes: int, soften: Soften | None) -> Filled:
    """All clouds in finer grids, where they leave bytes over: a surface has as many cells as the square of the side."""
    side = filled.budget.side
    for finer in range(min(SIDES[-1], int(side * (nbytes / filled.nbytes) ** 0.5)), side, -1):
        budget = replace(filled.budget, side=finer, bits=axis_bits(finer))
        storage = kind.from_clouds(filled.clouds, budget)
        if soften is not None:
            soften(storage)
        if storage.nbytes <= nbytes:
            return Filled(budget, filled.clouds, storage.nbytes)
    return filled


def _grid(spec: SetSpec, side: int) -> Shape:
    return Shape(spec.points or GRID_POINTS, axis_bits(side), side)


def _shapes(real: CloudSource, plan: SelectPlan, nbytes: int, soften: Soften | None) -> list[Shape]:
    """What is given of a shape, else all that may do, the most promising first; or the one that does best."""
    spec, kind = plan.spec, plan.storage
    if kind.dense:
        likely = sides(nbytes / len(real.class_names))
        if spec.auto == "measured":
            likely = [side for side in range(likely[0] + 2, 3, -2)]
        shapes = [_grid(spec, side) for side in ((spec.side,) if spec.side else likely)]
    else:
        shapes = _point_shapes(real, spec, kind, nbytes)
    if len(shapes) == 1 or spec.auto == "fitted":
        return shapes
    if not isinstance(real, PointClouds):
        raise InputError("auto", "measured, with --stream", "a set in memory")
    trials = measured(
        real, nbytes, shapes[:TRIED], kind, lambda train, shape: _chooser(train, plan, shape),
        plan.protocol, sharing=spec.sharing, soften=soften, seed=spec.seed,
    )  # fmt: skip
    return [trials[0].shape]


def _point_shapes(real: CloudSource, spec: SetSpec, kind: type[Storage], nbytes: int) -> list[Shape]:
    """Points and bits that are given, else all that may do, the most promising first."""
    sizes = torch.bincount(real.hard_labels, minlength=len(real.class_names)).tolist()
    most = real.points_per_cloud
    points = (spec.points,) if spec.points else tuple(n for n in SHAPE_POINTS if n <= most) or (most,)
    bits = (spec.bits,) if spec.bits else SHAPE_BITS
    return ranked(nbytes / len(sizes), sizes, kind.name == "coded", points, bits)


def selection_facts(chosen: PointClouds) -> dict[str, JsonValue]:
    """What an artefact says of how its clouds, or the first guess at them, were chosen."""
    names = {"method": "", "features": "_features", "seed": "_seed", "candidates": "_candidates"}
    return {
        name: chosen.provenance[f"selection{key}"]
        for name, key in names.items()
        if f"selection{key}" in chosen.provenance
    }


def label(storage: Storage, plan: SelectPlan) -> dict[str, JsonValue]:
    """Give `storage` the labels that the plan asks for; what an artefact says of them."""
    kind, teacher = plan.spec.labels, plan.teacher
    if kind == "hard":
        return {}
    if teacher is None:
        storage.soften(smoothed(storage.labels, len(storage.class_names), OWN), learn=True)
        return {"labels": {"kind": kind, "own": OWN}}
    soften_by(storage, teacher.probabilities, learn=kind == "learned")
    return {"labels": {"kind": kind, **teacher.describe()}}

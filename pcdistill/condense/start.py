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
from pcdistill.selection import class_gains, counts_by_gain, describer, remembered, select, watch
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.budget import Choose, Filled, Shape, Share, Soften, counts_at, counts_within, fill
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
    nbytes: int | None  # of the clouds of all classes, where the budget is one in bytes


def chooser(
    real: CloudSource,
    method: str,
    features: str,
    seed: int,
    costs: Callable[[CloudSource], Tensor] | None = None,
    skip: float | None = None,
    device: str = "cpu",
) -> Choose:
    """A function that selects from `real`; `costs` says what storing clouds takes, for methods that ask.

    Networks are on the device.
    """
    watched = remembered(partial(watch, seed=seed, device=device))
    describe, name = describer(features, len(real.class_names), seed, watched, device)
    described, costs = remembered(describe), None if costs is None else remembered(costs)

    def choose(counts: tuple[int, ...], points: int) -> PointClouds:
        return select(
            real, method, counts, features=described, features_name=name, costs=costs, watched=watched, skip=skip,
            points=points, seed=seed,
        )  # fmt: skip

    return choose


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
    soften = None if spec.labels in ("hard", "network") else partial(label, plan=plan)
    nbytes = spec.total_bytes(classes, len(real.labels) * real.points_per_cloud * 12)
    if nbytes is not None and plan.kept is not None:
        nbytes -= plan.kept.nbytes
        if nbytes < classes:
            found = f"{nbytes + plan.kept.nbytes:,} of all classes, of which the teacher takes {plan.kept.nbytes:,}"
            raise InputError("bytes", found, "more, or a smaller teacher")
    if nbytes is None:
        shape = Shape(spec.points or POINTS, spec.bits or BITS)
        if kind.dense:
            shape = _grid(plan, spec.side or SIDE)
        extra = kind.side_bytes + (0 if soften is None else classes)
        counts: int | tuple[int, ...] = spec.clouds_per_class or 0
        if (share := _share(real, plan, shape)) is not None:
            counts = counts_within((spec.clouds_per_class or 0) * classes, _sizes(real), share)
        budget = Budget(counts, shape.points, shape.bits, extra, shape.side)
        points = real.points_per_cloud if kind.dense else shape.points
        return Start(_chooser(real, plan, shape)(budget.counts(classes), points), budget, kind, None)
    shapes = _shapes(real, plan, nbytes, soften)
    for shape in shapes:
        try:
            choose = _chooser(real, plan, shape)
            filled = fill(real, nbytes, shape, kind, choose, share=_share(real, plan, shape), soften=soften)
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
        InputError: a storage that keeps none, soft labels, partial views, or clouds mixed of several classes.
    """
    if not plan.storage.keeps_parts:
        able = ", ".join(name for name in storages if storages[name].keeps_parts)
        raise InputError("storage", f"'{plan.storage.name}' of points with parts", f"one that keeps them: {able}")
    if plan.spec.labels != "hard":
        raise InputError("labels", f"{plan.spec.labels} of points with parts", "hard")
    if plan.kept is not None:
        raise InputError("teacher", "in the file of points with parts", "none: it is labelled point by point")
    if plan.protocol.recipe.augmentation.partial:
        raise InputError("partial", f"{plan.protocol.recipe.augmentation.partial} of points with parts", "0")
    if plan.expansion is not None and plan.expansion.mixup:
        raise InputError("expand", "mixup of points with parts", "interpolate: their classes have other parts")


def _chooser(real: CloudSource, plan: SelectPlan, shape: Shape) -> Choose:
    """How clouds of a shape are chosen."""
    return chooser(real, plan.method, plan.features, plan.spec.seed, _costs(plan, shape), plan.skip, plan.device)


def _share(real: CloudSource, plan: SelectPlan, shape: Shape) -> Share | None:
    """How many clouds of a shape every class gets; None: the same number."""
    if plan.spec.quota == "even":
        return None
    if plan.spec.quota != "gain":
        return partial(counts_at, sizes=_sizes(real), quota=plan.spec.quota)
    watched = partial(watch, seed=plan.spec.seed, device=plan.device)
    return partial(counts_by_gain, gains=class_gains(real, watched, costs=_costs(plan, shape), seed=plan.spec.seed))


def _costs(plan: SelectPlan, shape: Shape) -> Callable[[CloudSource], Tensor]:
    """What storing every cloud of a set takes."""
    return partial(plan.storage.costs, budget=Budget(1, shape.points, shape.bits, side=shape.side))


def _sizes(real: CloudSource) -> list[int]:
    sizes: list[int] = torch.bincount(real.hard_labels, minlength=len(real.class_names)).tolist()
    return sizes


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


def _grid(plan: SelectPlan, side: int) -> Shape:
    """Decoded, where a step of training draws from a cloud's points, to four times as many as it draws."""
    drawn = plan.protocol.recipe.points
    return Shape(plan.spec.points or (4 * drawn if drawn else GRID_POINTS), axis_bits(side), side)


def _shapes(real: CloudSource, plan: SelectPlan, nbytes: int, soften: Soften | None) -> list[Shape]:
    """What is given of a shape, else all that may do, the most promising first; or the one that does best."""
    spec, kind = plan.spec, plan.storage
    if kind.dense:
        likely = sides(nbytes / len(real.class_names))
        if spec.auto == "measured":
            likely = [side for side in range(likely[0] + 2, 3, -2)]
        shapes = [_grid(plan, side) for side in ((spec.side,) if spec.side else likely)]
    else:
        shapes = _point_shapes(real, spec, kind, nbytes)
    if len(shapes) == 1 or spec.auto == "fitted":
        return shapes
    if not isinstance(real, PointClouds):
        raise InputError("auto", "measured, with --stream", "a set in memory")
    trials = measured(
        real, nbytes, shapes[:TRIED], kind, lambda train, shape: _chooser(train, plan, shape),
        plan.protocol, share=lambda train, shape: _share(train, plan, shape), soften=soften, seed=spec.seed,
        device=plan.device,
    )  # fmt: skip
    return [trials[0].shape]


def _point_shapes(real: CloudSource, spec: SetSpec, kind: type[Storage], nbytes: int) -> list[Shape]:
    """Points and bits that are given, else all that may do, the most promising first."""
    sizes = _sizes(real)
    most = real.points_per_cloud
    points = (spec.points,) if spec.points else tuple(n for n in SHAPE_POINTS if n <= most) or (most,)
    bits = (spec.bits,) if spec.bits else SHAPE_BITS
    return ranked(nbytes / len(sizes), sizes, kind.name == "coded", points, bits)


def selection_facts(chosen: PointClouds, plan: SelectPlan) -> dict[str, JsonValue]:
    """What an artefact says of how its clouds, or the first guess at them, were chosen."""
    asked: dict[str, JsonValue] = {} if plan.spec.quota == "even" else {"quota": plan.spec.quota}
    if plan.skip is not None:
        asked["skip"] = plan.skip
    names = {"method": "", "features": "_features", "seed": "_seed", "candidates": "_candidates"}
    found = {
        name: chosen.provenance[f"selection{key}"]
        for name, key in names.items()
        if f"selection{key}" in chosen.provenance
    }
    return {**found, **asked}


def label(storage: Storage, plan: SelectPlan) -> dict[str, JsonValue]:
    """Give `storage` the labels that the plan asks for; what an artefact says of them."""
    kind, teacher = plan.spec.labels, plan.teacher
    if kind in ("hard", "network"):
        return {}
    if teacher is None:
        storage.soften(smoothed(storage.labels, len(storage.class_names), OWN), learn=True)
        return {"labels": {"kind": kind, "own": OWN}}
    soften_by(storage, teacher.probabilities, learn=kind == "learned")
    return {"labels": {"kind": kind, **teacher.describe()}}

"""Sets made: real clouds and a plan in, an artefact out. Nothing here knows a file, but for a run's checkpoint."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from pcdistill.artefact.artefact import Artefact, set_name
from pcdistill.artefact.metadata import Metadata, utc_now
from pcdistill.clouds import CloudSource, parts_of
from pcdistill.condense import loop
from pcdistill.condense.plan import DistillPlan, SelectPlan
from pcdistill.condense.schedule import schedule
from pcdistill.condense.start import Start, begin, label, selection_facts
from pcdistill.core.environment import hardware, versions
from pcdistill.core.errors import InputError, harmless
from pcdistill.core.progress import Report
from pcdistill.matching import objectives
from pcdistill.storage import Storage
from pcdistill.storage.budget import trimmed
from pcdistill.storage.voxels import VoxelClouds
from pcdistill.training.augment import Augmentation
from pcdistill.training.recipe import EvaluationProtocol


def select(real: CloudSource, plan: SelectPlan, *, dataset: str = "") -> Artefact:
    """A coreset of `real`, stored.

    Args:
        real: the set that clouds are chosen from.
        plan: how.
        dataset: what the artefact calls the set (default: the name in its provenance).

    Raises:
        InputError: a budget that holds no cloud of every class, or more clouds than a class has; a teacher of other
            classes.
    """
    start = begin(real, plan)
    _check_expansion(plan, start)
    storage = plan.storage.from_clouds(start.clouds, start.budget)
    selection = {**selection_facts(start.clouds, plan), **label(storage, plan)}
    metadata = _metadata(real, plan.protocol, storage, dataset, plan, arm=plan.method, selection=selection)
    return Artefact(storage, metadata, teacher=plan.kept)


def pack(
    real: CloudSource,
    protocol: EvaluationProtocol,
    *,
    side: int,
    points: int,
    dataset: str = "",
    on_progress: Report | None = None,
) -> Artefact:
    """All of `real`, stored as voxels, class by class; read a block of clouds at a time.

    Args:
        real: the set.
        protocol: how networks trained on it are to be evaluated.
        side: cells a side of a grid, 4 to 64.
        points: that a cloud is decoded to.
        dataset: what the artefact calls the set (default: the name in its provenance).
        on_progress: called with the clouds read.

    Raises:
        InputError: a class without a cloud.
    """
    held = torch.bincount(real.hard_labels, minlength=len(real.class_names))
    if not held.all():
        raise InputError(dataset or "the set", f"no cloud of class '{real.class_names[int(held.argmin())]}'", "one")
    storage = VoxelClouds.of_all(real, side, points, on_progress)
    return Artefact(storage, _metadata(real, protocol, storage, dataset, arm="all", selection={}))


def distill(
    real: CloudSource,
    plan: DistillPlan,
    *,
    dataset: str = "",
    checkpoint: Path | None = None,
    resume: bool = False,
    followers: Sequence[loop.Follower] = (),
) -> Artefact:
    """`real` condensed.

    Args:
        real: the set to condense.
        plan: how; it serves once, as its objective carries state.
        dataset: what the artefact calls the set (default: the name in its provenance).
        checkpoint, resume, followers: as in `loop.distill`.

    Raises:
        InputError: as `select`; a checkpoint of another run; a loss that is no longer finite.
        Interrupted: Ctrl-C, after the state was saved.
    """
    spec, objective, focus = plan.spec, plan.objective, plan.focus
    if parts_of(real) is not None:
        _check_parts(plan)
    seen = real if focus is None else focus.on(real)  # by the objective; the first guess is chosen as ever
    started = time.perf_counter()
    start = begin(real, plan)
    selecting = time.perf_counter() - started
    _check_expansion(plan, start)
    storage = plan.storage.from_clouds(start.clouds, start.budget)
    labels = label(storage, plan)
    settings = schedule(spec, objective, storage)
    if spec.freeze and not loop.frozen(storage.labels, spec.freeze).any():
        most = int(torch.bincount(storage.labels).max())
        raise InputError("freeze", f"{spec.freeze} of at most {most} clouds of a class", "a share that is one of them")
    done = loop.distill(
        seen, storage, objective, settings, checkpoint=checkpoint, resume=resume, followers=followers,
        device=plan.device,
    )  # fmt: skip

    def relabel() -> None:
        if spec.labels == "teacher":
            label(storage, plan)  # they belong to the clouds as they are now

    relabel()
    snapshots = done.snapshots
    if start.nbytes is not None and storage.nbytes > start.nbytes:
        kept = _within(storage, start, start.nbytes, relabel)
        snapshots = [snapshot[kept] for snapshot in snapshots]
        storage = storage.kept(kept)
        if snapshots:
            snapshots[-1] = loop.learned_points(storage)
    focused = {} if focus is None else {"focus": focus.describe()}
    metadata = _metadata(
        real, plan.protocol, storage, dataset, plan,
        arm=spec.objective,
        distilled=True,
        selection={**selection_facts(start.clouds, plan), **labels},
        objective={"name": spec.objective, **objective.describe(), **focused},
        settings=settings.model_dump(),
        prepare_seconds=done.prepare_seconds,
        distill_seconds=selecting + done.seconds,
    )  # fmt: skip
    return Artefact(storage, metadata, done.losses, snapshots, plan.kept)


def _check_parts(plan: DistillPlan) -> None:
    """Refuse what does not know points with parts."""
    if not plan.objective.sees_parts:
        able = ", ".join(name for name in objectives if objectives[name].sees_parts)
        raise InputError("objective", f"'{plan.spec.objective}' of points with parts", f"one of {able}")
    options: Any = plan.objective.options
    for place in (options, options.bank):
        if getattr(place, "augmentation", Augmentation()).partial:
            raise InputError("augmentation", "partial views of points with parts", "partial 0")
    if plan.focus is not None:
        raise InputError("focus", "of points with parts", "none")
    if plan.spec.freeze:
        raise InputError("freeze", f"{plan.spec.freeze} of points with parts", "0")


def _check_expansion(plan: SelectPlan, start: Start) -> None:
    """Refuse here, before any work, what an artefact of as many clouds would refuse at the end."""
    if plan.expansion is not None:
        clouds = start.clouds
        plan.expansion.check(len(clouds), start.budget.points, clouds.num_classes, "expand")


def _within(storage: Storage, start: Start, nbytes: int, relabel: Callable[[], None]) -> Tensor:
    """Indices of the clouds to keep in `nbytes`; where one of every class is too much, all move back to the start.

    They move by halves until they fit, as they did at the start; `relabel` gives them their labels again.
    """
    try:
        return trimmed(storage, nbytes)
    except InputError:
        first, learned = start.kind.from_clouds(start.clouds, start.budget).learned(), storage.learned()
        for share in (0.5,) * 8 + (1.0,):
            with torch.no_grad():
                for name, value in first.items():
                    learned[name].lerp_(value, share)
            relabel()
            if storage.nbytes <= nbytes:
                break
        return torch.arange(len(storage))


def _metadata(
    real: CloudSource,
    protocol: EvaluationProtocol,
    storage: Storage,
    dataset: str,
    plan: SelectPlan | None = None,
    *,
    arm: str,
    selection: dict[str, JsonValue],
    distilled: bool = False,
    objective: dict[str, JsonValue] | None = None,
    settings: dict[str, JsonValue] | None = None,
    prepare_seconds: float = 0.0,
    distill_seconds: float = 0.0,
) -> Metadata:
    name = dataset or str(real.provenance.get("name", "unnamed"))
    return Metadata(
        arm=arm,
        distilled=distilled,
        dataset=set_name(name),
        source_fingerprint=real.fingerprint(),
        source=_source(real),
        storage=storage.name,
        layout=storage.layout(),
        class_names=real.class_names,
        clouds_per_class=_average(len(storage), len(real.class_names)),
        points=_points(storage),
        bits=storage.layout()["bits"],
        selection=selection,
        objective=objective,
        settings=settings,
        protocol=protocol.suiting(parts=parts_of(real) is not None).model_dump(mode="json"),
        seed=0 if plan is None else plan.spec.seed,
        prepare_seconds=prepare_seconds,
        distill_seconds=distill_seconds,
        versions=versions(),
        hardware=hardware("cpu" if plan is None else plan.device),
        created=utc_now(),
        parts=None if (named := parts_of(real)) is None else named[1].facts(),
        expansion=None if plan is None or plan.expansion is None else plan.expansion.model_dump(mode="json"),
        teacher=None if plan is None or plan.kept is None else plan.kept.facts.model_dump(mode="json"),
    )


def _source(real: CloudSource) -> dict[str, JsonValue]:
    """Its provenance, but for paths of what was left out: files that are passed on know no folders."""
    facts = {key: said for key, said in real.provenance.items() if key != "skipped_clouds"}
    return {key: harmless(said) if isinstance(said, str) else said for key, said in facts.items()}


def _points(storage: Storage) -> int:
    """Points of a cloud as a reader of the artefact decodes it."""
    with torch.no_grad():
        return storage.decode(torch.tensor([0])).points_per_cloud


def _average(clouds: int, classes: int) -> int | float:
    return clouds // classes if clouds % classes == 0 else clouds / classes

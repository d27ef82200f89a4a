"""The job of a cell: networks trained on its set and tested, and what a teacher took."""

from typing import Any

import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import hardware
from pcdistill.evaluation import evaluate, evaluate_conditions, parse_conditions, parts_of
from pcdistill.experiments.cells import CellTask
from pcdistill.experiments.files import Made, Result, cell_file, teacher_file, teacher_seconds, there, write_json
from pcdistill.experiments.sources import clouds_to_test, thinned_whole, training_set
from pcdistill.experiments.spec import GridSpec, Labels
from pcdistill.results.measure import as_run, measure
from pcdistill.results.record import Run
from pcdistill.teaching import Online, OnPolicy, read_teacher
from pcdistill.teaching.adaptation import joined
from pcdistill.teaching.candidates import pass_gflops

CLEAN = "clean"


def carry_out(task: CellTask, spec: GridSpec) -> Result:
    """Train the networks of a cell, test them, and keep the result in `cells/`."""
    cell, source = task.cell, task.cell.source
    real, validation = training_set(source, spec)
    test = clouds_to_test(source, spec, whole_clouds=bool(cell.product.conditions))
    made: PointClouds | tuple[Artefact, Made]
    made = thinned_whole(real, cell.product.whole_points) if task.made is None else there(task.made, spec)
    beside = None if task.beside is None else there(task.beside, spec)
    supervision = _supervision(task, spec)
    runs = _measured(task, made, beside, test, validation, supervision, spec.device)
    facts: dict[str, Any] = {"threads": torch.get_num_threads(), "hardware": hardware(spec.device)}
    if task.teacher is not None:
        facts |= _taught_facts(task, spec, supervision, real, made)
    runs_json = {name: run.model_dump() for name, run in runs.items()}
    write_json(cell_file(task, spec), {"settings": task.settings, "runs": runs_json, "facts": facts})
    return Result(runs, facts)


def _measured(
    task: CellTask,
    made: PointClouds | tuple[Artefact, Made],
    beside: tuple[Artefact, Made] | None,
    test: PointClouds,
    validation: PointClouds | None,
    supervision: Online | OnPolicy | None,
    device: str,
) -> dict[str, Run]:
    """A run per condition."""
    number, protocol, count = task.cell.number, task.protocol, task.cell.product.train_seeds
    seeds = [100 * number + one for one in range(count)]
    how: dict[str, Any] = {"validation": validation, "device": device, "supervision": supervision}
    if isinstance(made, tuple) and beside is not None:
        halves = [beside[0], made[0]]
        clouds = joined([half.training_clouds for half in halves], test.class_names)
        evaluation = evaluate(clouds, test, protocol, seeds=seeds, **how)
        run = as_run(halves[0], evaluation, number)
        return {CLEAN: run.model_copy(update=_together(halves, [beside[1], made[1]]))}
    whole = made if isinstance(made, PointClouds) else made[0]
    spent = None if isinstance(made, PointClouds) else made[1]
    seconds = None if spent is None else spent.seconds
    words = task.cell.product.conditions
    if words:
        clouds = whole if isinstance(whole, PointClouds) else whole.training_clouds
        if isinstance(whole, Artefact) and supervision is None:
            protocol, kept = whole.with_label_temperature(protocol), whole.supervision
            if kept is not None:
                kept.teacher.to(device)
            how["supervision"] = kept
        parts = parts_of(clouds, test, parse_conditions(words, test.points_per_cloud), protocol)
        scored = evaluate_conditions(clouds, parts, protocol, seeds, **how)
        runs = {condition.name: as_run(whole, evaluation, number, seconds) for condition, evaluation in scored}
    else:
        run = measure(whole, test, protocol, number, count, seconds, **how)
        runs = {CLEAN: run}
    if spent is None:
        return runs
    peak = spent.peak_mib
    return {name: run.model_copy(update={"peak_mib": max(run.peak_mib, peak)}) for name, run in runs.items()}


def _together(halves: list[Artefact], made: list[Made]) -> dict[str, Any]:
    """What two sets that are trained on together have and took."""
    facts = [half.metadata for half in halves]
    return {
        "bytes_per_class": sum(half.bytes_per_class for half in halves),
        "clouds_per_class": sum(one.clouds_per_class for one in facts),
        "distill_seconds": sum(one.seconds for one in made),
        "prepare_seconds": sum(one.prepare_seconds for one in facts),
    }


def _supervision(task: CellTask, spec: GridSpec) -> Online | OnPolicy | None:
    """Who labels while networks are trained, besides what a set brings with it."""
    labels = spec.label(task.cell.labels)
    if labels is None or task.teacher is None or labels.by != "online":
        return None
    teacher = read_teacher([teacher_file(task.teacher, spec)], task.protocol.recipe.temperature, spec.device)
    options = labels.on_policy()
    return Online(teacher) if options is None else OnPolicy(teacher, options)


def _taught_facts(
    task: CellTask,
    spec: GridSpec,
    supervision: Online | OnPolicy | None,
    real: PointClouds,
    made: PointClouds | tuple[Artefact, Made],
) -> dict[str, Any]:
    """What a teacher took, and what it was asked; GFLOP as `pass_gflops` counts them."""
    assert task.teacher is not None
    labels, recipe, count = spec.label(task.cell.labels), task.protocol.recipe, task.cell.product.train_seeds
    clouds = made if isinstance(made, PointClouds) else made[0].training_clouds
    some, classes = real.points[:8, : clouds.points_per_cloud], real.num_classes
    seen = some[:, : recipe.points]  # by the student at a step
    shown = recipe.batch * recipe.total_steps(len(clouds))
    stored = isinstance(labels, Labels) and labels.by == "stored"
    asked = float(len(clouds) if stored else shown)
    network, above = task.protocol.network, task.teacher.spec
    trained = task.teacher.protocol().recipe
    facts: dict[str, Any] = {}
    if isinstance(supervision, OnPolicy):
        asked = supervision.calls.clouds / count
        facts["labelling_seconds_per_network"] = supervision.calls.seconds / count
    path = teacher_file(task.teacher, spec)
    described = supervision or Online(read_teacher([path], labels.temperature if isinstance(labels, Labels) else 1.0))
    return facts | {
        "teacher": described.describe(),
        "labelled_per_network": asked,
        "teacher_seconds": teacher_seconds(task.teacher, spec),
        "teacher_gflops": trained.batch * above.steps * pass_gflops(above.network, classes, some, True),
        "labelling_gflops": asked * pass_gflops(above.network, classes, some if stored else seen, False),
        "student_gflops": shown * pass_gflops(network, classes, seen, True),
    }

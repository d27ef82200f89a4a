"""A grid carried out: a list of jobs, and what its cells add up to.

A set leaves KEY.h5, with what making it took in KEY.json, and a cell `cells/KEY.json`; a run that was stopped, or whose
grid has grown, does only what is missing.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pcdistill.artefact.artefact import set_name
from pcdistill.clouds import PointClouds, placed
from pcdistill.condense.plan import objective_of
from pcdistill.condense.spec import BudgetSpec, DistillSpec
from pcdistill.core.engine import Job, carried_out
from pcdistill.core.environment import revision
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.core.progress import Say, progress
from pcdistill.core.tracking import Tracking
from pcdistill.data import skipped
from pcdistill.data.places import remember
from pcdistill.experiments.budgets import budget_text, class_bytes
from pcdistill.experiments.cells import Cell, CellTask, Digests, SetTask, Source, cells, command, task_of
from pcdistill.experiments.files import Result, finished, read_set, set_file, teacher_file, teacher_seconds
from pcdistill.experiments.making import make, prepare, teach
from pcdistill.experiments.sources import clouds_to_test, training_set
from pcdistill.experiments.spec import HARD, GridSpec
from pcdistill.experiments.testing import carry_out
from pcdistill.results.by_budget import Line, draw, markdown
from pcdistill.results.measure import summed_up
from pcdistill.results.record import PRESET, Record, Run, write_record, write_records


def run_grid(spec: GridSpec, say: Say = lambda _: None) -> list[Record]:
    """Carry out what is missing of the grid, write `records.jsonl`, `table.md` and `plot.png`, and say the tables.

    Returns:
        A record of all seeds that succeeded, in the order of the grid.

    Raises:
        InputError, OSError: before any work if the grid is at fault; after all of it if a cell failed.
        KeyboardInterrupt: after Ctrl-C; finished cells are kept, and what they add up to is in `records.jsonl`.
    """
    listed = cells(spec)
    for cell in listed:
        cell.protocol(spec), cell.record_facts()  # refused before anything is read
    for path in (*(spec.output / name for name in ("records.jsonl", "table.md", "plot.png", "cells/x")), spec.records):
        if path is not None:
            check_writable(path)
    tasks, left = _planned(listed, spec, say)
    if done := len(tasks) - sum(job.work is carry_out for job in left):
        say(f"{done} of {len(tasks)} cells are there already")
    try:
        with spec.tracking() as tracking:
            there = {job.name for job in left}
            for task in tasks:
                if task.key not in there:
                    _tell(task, spec, tracking)
            reasons = _worked_off(left, done, len(tasks), spec, tracking)
    except KeyboardInterrupt:
        if lines := _lines(tasks, _results(tasks, spec), spec):
            write_records(spec.output / "records.jsonl", [line.record for line in lines])
        raise
    results = _results(tasks, spec)
    lines = _lines(tasks, results, spec)
    if lines:
        _write(lines, spec, say)
    if failed := [task for task in tasks if task.key not in results]:
        for task in failed:
            say(f"failed: {task}: {reasons.get(task.key, 'left no result')}")
        first = f"{failed[0]}: {reasons.get(failed[0].key, 'left no result')}"
        raise InputError("compare", f"{len(failed)} of {len(tasks)} cells failed, as {first}")
    return [line.record for line in lines]


def _results(tasks: Sequence[CellTask], spec: GridSpec) -> dict[str, Result]:
    """What is there of the cells, by their keys."""
    return {task.key: result for task in tasks if (result := finished(task, spec)) is not None}


def _tell(task: CellTask, spec: GridSpec, tracking: Tracking) -> None:
    """What came of a cell: accuracy of its networks, by condition."""
    result = finished(task, spec) if tracking else None
    for condition, run in (result.runs if result else {}).items():
        facts = run.model_dump(mode="json", include={"accuracy", "bytes_per_class", "distill_seconds"})
        accuracy = facts.pop("accuracy")
        tracking.result(f"{task} {condition}", {**facts, "accuracy_mean": sum(accuracy) / len(accuracy)})


def plan_grid(spec: GridSpec, say: Say = lambda _: None) -> None:
    """Say what `run_grid` would do, and do nothing of it.

    Raises:
        InputError: the grid is at fault.
    """
    tasks, left = _planned(cells(spec), spec, say)
    for task in tasks:
        networks = task.cell.product.train_seeds
        say(f"{task}: {'there' if finished(task, spec) is not None else f'{networks} networks to train'}")
    others = sum(job.work is not carry_out for job in left)
    say(f"{len(left) - others} of {len(tasks)} cells to do, and {others} sets, banks of networks and teachers before")


def _planned(listed: Sequence[Cell], spec: GridSpec, say: Say) -> tuple[list[CellTask], list[Job]]:
    """The cells with their settings, each once, and what is left to do; clouds are let go of before that begins."""
    places: dict[Source, list[int]] = {}
    for place, cell in enumerate(listed):
        places.setdefault(cell.source, []).append(place)
    tasks: dict[int, CellTask] = {}
    jobs: dict[str, Job] = {}
    for source, numbers in places.items():
        real, digests = _read(source, spec, say)
        for cell in (listed[place] for place in numbers):
            if cell.budget is not None:
                _check_size(cell.budget, real)
        tasks |= {place: task_of(listed[place], spec, digests) for place in numbers}
        jobs |= {job.name: job for job in jobs_of([tasks[place] for place in numbers], spec, real)}
    once = {tasks[place].key: tasks[place] for place in range(len(listed))}
    return list(once.values()), list(jobs.values())


def _read(source: Source, spec: GridSpec, say: Say = lambda _: None) -> tuple[PointClouds, Digests]:
    (real, validation), test = training_set(source, spec), clouds_to_test(source, spec)
    chosen_on = None if validation is None else validation.fingerprint()
    for line in skipped(real, test):
        say(f"left out: {line}")
    remember(real.fingerprint(), source.data)
    return real, Digests(real.fingerprint(), test.fingerprint(), chosen_on)


def jobs_of(tasks: Sequence[CellTask], spec: GridSpec, real: PointClouds) -> list[Job]:
    """What is missing of cells of one source: teachers, networks of the real set, sets, and the cells themselves.

    Jobs are called by the key of what they leave, so that nothing is made twice.
    """
    left = [task for task in tasks if finished(task, spec) is None]
    unmade = {made.key: made for task in left for made in _sets_of(task) if read_set(made, spec) is None}
    banks = _bank_jobs(list(unmade.values()), spec, real)
    jobs: dict[str, Job] = {}

    def add(job: Job) -> str:
        jobs.setdefault(job.name, job)
        return job.name

    for task in left:
        needed = []
        teachers = [task.teacher, *(made.teacher for made in _sets_of(task))]
        for teacher in teachers:
            if teacher is not None and teacher_seconds(teacher, spec) is None:
                needed.append(add(Job(teacher.key, teach, (teacher, spec))))
        for made in _sets_of(task):
            if made.key in unmade:
                first = [add(job) for job in banks.get(made.bank or "", [])]
                trace = spec.output / "cells" / f"{made.key}.error.txt"
                needed.append(add(Job(made.key, make, (made, spec), (*first, *needed), trace)))
        trace = spec.output / "cells" / f"{task.key}.error.txt"
        add(Job(task.key, carry_out, (task, spec), tuple(needed), trace))
    return list(jobs.values())


def _sets_of(task: CellTask) -> Iterator[SetTask]:
    """The sets that a cell takes, each after what it is made from."""
    for made in (task.beside, task.made):
        if made is not None:
            if made.focus is not None:
                yield made.focus
            yield made


def _bank_jobs(unmade: Sequence[SetTask], spec: GridSpec, real: PointClouds) -> dict[str, list[Job]]:
    """By bank the job, if there is one, of preparing the objectives of several sets that need the same networks."""
    sharing: dict[str, list[SetTask]] = {}
    for task in unmade:
        if task.bank is not None:
            sharing.setdefault(task.bank, []).append(task)
    return {bank: _bank_job(tasks, spec, real) for bank, tasks in sharing.items() if len(tasks) > 1}


def _bank_job(tasks: Sequence[SetTask], spec: GridSpec, real: PointClouds) -> list[Job]:
    distillations: dict[str, DistillSpec] = {}
    for task in tasks:
        assert isinstance(task.given, DistillSpec)
        if not objective_of(task.given).prepared(placed(real, spec.device)):
            distillations.setdefault(str(task.settings["objective"]), task.given)
    if not distillations:
        return []
    return [Job(f"networks for {tasks[0].key}", prepare, (tuple(distillations.values()), tasks[0].cell.source, spec))]


def _worked_off(left: Sequence[Job], done: int, total: int, spec: GridSpec, tracking: Tracking) -> dict[str, str]:
    """Why jobs failed, those that did; `done` of `total` cells need none. Of each that did not trackers are told."""
    reasons: dict[str, str] = {}
    ended = succeeded = done
    with progress("comparing", total, done) as report:
        try:
            with contextlib.closing(carried_out(left, spec.engine, spec.workers, spec.device)) as ends:
                for job, reason in ends:
                    if reason is not None:
                        reasons[job.name] = reason
                    if job.work is carry_out:
                        ended, succeeded = ended + 1, succeeded + (reason is None)
                        if reason is None:
                            _tell(job.arguments[0], spec, tracking)
                    report(ended, job.name)
        except KeyboardInterrupt:
            where = f"{succeeded} of {total} cells done (the same command goes on from there)"
            raise KeyboardInterrupt(f"stopped with {where}") from None
    return reasons


def _lines(tasks: Sequence[CellTask], results: Mapping[str, Result], spec: GridSpec) -> list[Line]:
    """A record of all numbers of a cell and condition, in the order of the grid, and what tables call it."""
    groups: dict[tuple[Any, ...], list[CellTask]] = {}
    for task in tasks:
        if task.key in results:
            groups.setdefault(task.cell.place, []).append(task)
    commit, lines = revision(), list[Line]()
    for group in groups.values():
        cell = group[0].cell
        outcomes = [results[task.key] for task in group]
        for condition in outcomes[0].runs:
            runs = [one.runs[condition] for one in outcomes]
            record = _record(group[0], runs, [one.facts for one in outcomes], condition, spec, commit)
            nbytes = record.bytes_per_class if cell.budget is None else class_bytes(cell.budget)
            lines.append(Line(record, _name(cell), cell.size, nbytes))
    return lines


def _name(cell: Cell) -> str:
    """What tables call the arm of a cell."""
    return " ".join(word for word in cell.words()[1:] if word != cell.size)


def _record(
    task: CellTask, runs: Sequence[Run], facts: Sequence[dict[str, Any]], condition: str, spec: GridSpec, commit: str
) -> Record:
    cell, product = task.cell, task.cell.product
    held = product.validation
    more: dict[str, Any] = {"split": "test" if held is None else f"the last {held:.0%} of every class of train"}
    if cell.arm in spec.arms or cell.arm.startswith(PRESET):
        more["variant"] = cell.arm
    if product.conditions:
        more.setdefault("variant", cell.arm)
        more |= {"condition": condition, "train_rotation": task.protocol.recipe.augmentation.rotate}
    more |= {**_averaged(facts), **cell.record_facts()}
    more = {name: value for name, value in more.items() if value != ""}
    return summed_up(spec.benchmark, set_name(cell.data), task.protocol, runs, command(cell, spec), commit, **more)


def _averaged(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of all sets: means of what is measured, and what is the same of all."""
    return {
        name: sum(one[name] for one in facts) / len(facts) if isinstance(value, float) else value
        for name, value in facts[0].items()
    }


def _write(lines: Sequence[Line], spec: GridSpec, say: Say) -> None:
    records = [line.record for line in lines]
    write_records(spec.output / "records.jsonl", records)
    if spec.records is not None:
        for record in records:
            write_record(spec.records, record)
    text = markdown(lines)
    with atomic(spec.output / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(text)
    written, picture = "records.jsonl, table.md", spec.output / "plot.png"
    try:
        with atomic(picture) as temporary:
            draw(lines, temporary)
        written += ", plot.png"
    except ImportError:
        picture.unlink(missing_ok=True)  # of an older grid, it would contradict the table
        say("no plot: matplotlib is not installed (pip install 'pcdistill[plots]')")
    say(f"wrote {written} to {spec.output}")


def _check_size(budget: BudgetSpec, real: PointClouds) -> None:
    """What selection would find, found before any work."""
    fewest, text = int(real.class_counts.min()), budget_text(budget)
    if (budget.clouds_per_class or 0) > fewest:
        excess = f"{text}, but class '{real.class_names[int(real.class_counts.argmin())]}' has {fewest} clouds"
        raise InputError("budgets", excess, "at most as many")
    if (budget.points or 0) > real.points_per_cloud:
        raise InputError("budgets", f"{text} of clouds of {real.points_per_cloud} points", "at most as many")


def set_of(spec: GridSpec) -> Path:
    """The file of the set that a grid of one cell is about, made unless it is there.

    Raises:
        InputError: bad input, or a grid of several cells.
    """
    made = _only_task(spec).made
    if made is None:
        raise InputError("compare", "the whole set", "a method")
    if read_set(made, spec) is None:
        make(made, spec)
    return set_file(made, spec)


def teacher_of(spec: GridSpec) -> Path:
    """The file of the teacher of a grid of one cell, trained unless it is there; errors as of `set_of`."""
    teacher = _only_task(spec).teacher
    if teacher is None:
        raise InputError("labels", HARD, "a teacher's")
    if teacher_seconds(teacher, spec) is None:
        teach(teacher, spec)
    return teacher_file(teacher, spec)


def _only_task(spec: GridSpec) -> CellTask:
    cell, *others = cells(spec)
    if others:
        raise InputError("compare", f"{cell}, and others", "one cell")
    return task_of(cell, spec, _read(cell.source, spec)[1])

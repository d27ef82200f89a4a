"""A grid of methods, budgets and networks on one data set as a list of jobs, and what its cells add up to.

A set is one method at one budget with one seed, a cell one network trained on it. A set leaves `artefacts/KEY.h5`, with
what making it took in `artefacts/KEY.json`, and a cell `cells/KEY.json`. The key holds a digest of every setting and of
the data, so that a run that was stopped, or whose grid has grown, does only what is missing.
"""

import contextlib
import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from pcdistill import jobs, viewing
from pcdistill.clouds import PointClouds
from pcdistill.config import CompareConfig, DistillConfig, presets
from pcdistill.data import load, validation_split
from pcdistill.engine import Job, carried_out
from pcdistill.environment import revision, versions
from pcdistill.errors import InputError
from pcdistill.evaluation import Record, Run, accuracy_cell, markdown_table, measure, split, summed_up, write_records
from pcdistill.evaluation.scores import peak_mib
from pcdistill.files import atomic, check_writable
from pcdistill.matching import objectives
from pcdistill.models import networks
from pcdistill.progress import progress
from pcdistill.registry import nearest
from pcdistill.selection import selectors
from pcdistill.storage import Artefact, Budget
from pcdistill.training import Protocol, protocol, recipe
from pcdistill.viewing import Curve, accuracy_plot

WHOLE = "whole"
PRESET = "preset:"
Say = Callable[[str], None]
UNUSABLE = (OSError, ValueError, KeyError, TypeError)  # of a file that is made again


class Cell(NamedTuple):
    """One training set of the grid: `budget` is None for the whole set."""

    method: str
    budget: Budget | None
    seed: int

    def __str__(self) -> str:
        size = "" if self.budget is None else f" {_text(self.budget)}"
        return f"{self.method}{size} seed {self.seed}"


class Task(NamedTuple):
    """A training set and a network to be trained on it, with the settings that decide over the result."""

    cell: Cell
    network: str
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.cell} on {self.network}"

    @property
    def key(self) -> str:
        """Name of the result's file."""
        return _key(self.cell, self.settings)

    @property
    def making(self) -> dict[str, Any]:
        """Those settings that decide over the training set, whichever network is trained on it."""
        plan = {name: value for name, value in self.settings["protocol"].items() if name != "network"}
        own = {name: value for name, value in self.settings.items() if name not in ("validation", "train_seeds")}
        return {**own, "data": self.settings["data"][0], "protocol": plan}

    @property
    def set_key(self) -> str:
        """Name of the training set's files."""
        return _key(self.cell, self.making)

    @property
    def bank(self) -> str | None:
        """What is equal for sets that need the same networks of the real set; None if it needs none."""
        objective = self.settings.get("objective", {})
        return json.dumps(objective["bank"], sort_keys=True) if "bank" in objective else None


class Made(BaseModel):
    """What making a training set took, besides what its artefact says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float  # to select or distill
    peak_mib: int


def _key(cell: Cell, settings: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9@]+', '-', str(cell))}-{digest[:10]}"


def run_compare(config: CompareConfig, say: Say = lambda _: None) -> list[Record]:
    """Carry out what is missing of the grid, write `records.jsonl`, `table.md` and `plot.png`, and say the table.

    Returns:
        A record per method, budget and network, of the seeds that succeeded.

    Raises:
        InputError, OSError: before any work if the grid is at fault; after all of it if a cell failed.
        KeyboardInterrupt: after Ctrl-C; finished cells are kept.
    """
    grid, plans = cells(config), plans_of(config)
    for name in ("records.jsonl", "table.md", "plot.png", "cells/x", "artefacts/x"):
        check_writable(config.output / name)
    tasks, left = _planned(grid, config, plans)
    if done := len(tasks) - sum(job.work is carry_out for job in left):
        say(f"{done} of {len(tasks)} cells are there already")
    reasons = _worked_off(left, done, len(tasks), config)
    runs = {str(task): run for task in tasks if (run := _finished(task, config)) is not None}
    records = _records(tasks, runs, config, plans)
    if records:
        _write(records, config, say)
    if failures := {name: reasons.get(name, "left no result") for name in map(str, tasks) if name not in runs}:
        for name, reason in failures.items():
            say(f"failed: {name}: {reason}")
        first = next(iter(failures))
        raise InputError("compare", f"{len(failures)} of {len(tasks)} cells failed, as {first}: {failures[first]}")
    return records


def cells(config: CompareConfig) -> list[Cell]:
    """The grid, method by method; the whole set stands once, as nothing is drawn in making it.

    Raises:
        InputError: an unknown method, something that is no budget, or the same twice.
    """
    known = [*selectors, *objectives, WHOLE, *(PRESET + name for name in presets())]
    for method in config.methods:
        if method not in known:
            raise InputError("methods", nearest(method, known), "some of " + ", ".join(known))
    budgets = [parse_budget(text) for text in config.budgets]
    _check_once("methods", config.methods)
    _check_once("budgets", tuple(map(_text, budgets)))
    return [
        cell
        for method in config.methods
        for cell in (
            [Cell(WHOLE, None, 0)]
            if method == WHOLE
            else [Cell(method, budget, seed) for budget in budgets for seed in range(config.distill_seeds)]
        )
    ]


def _check_once(kind: str, values: tuple[str, ...]) -> None:
    if twice := next((value for value in values if values.count(value) > 1), None):
        raise InputError(kind, f"'{twice}' twice", "each once")


def parse_budget(text: str) -> Budget:
    """A budget written as clouds per class x points @ bits.

    >>> parse_budget("4x128@8") == Budget(clouds_per_class=4, points=128, bits=8)
    True

    Raises:
        InputError: anything else, or numbers out of range.
    """
    found = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})@(\d{1,3})", text.strip())
    if found is None:
        raise InputError("budgets", f"'{text}'", "clouds x points @ bits as in 4x128@8")
    clouds, points, bits = map(int, found.groups())
    return Budget(clouds_per_class=clouds, points=points, bits=bits)


def plans_of(config: CompareConfig) -> list[Protocol]:
    """The protocols of all cells, which differ in the network alone.

    Raises:
        InputError: unknown protocol or network, the same network twice, or both `network` and `networks`.
    """
    if config.network is not None and config.networks:
        raise InputError("networks", f"{config.network} as network and {', '.join(config.networks)}", "one of the two")
    _check_once("networks", config.networks)
    return [plan_of(config, network) for network in config.networks or (config.network,)]


def plan_of(config: CompareConfig, network: str | None = None) -> Protocol:
    """The protocol of cells with `network`; a shortened one is named `NAME*`, like its recipe.

    Raises:
        InputError: unknown protocol or network.
    """
    plan = protocol(config.protocol)
    if config.train_steps is not None:
        shortened = recipe(config.protocol, steps=config.train_steps)
        plan = plan.model_copy(update={"recipe": shortened, "name": shortened.name})
    if network is None:
        return plan
    networks[network]
    return plan.model_copy(update={"network": network})


def training_set(config: CompareConfig, plan: Protocol) -> tuple[PointClouds, PointClouds | None]:
    """What sets are made from, and what a protocol with a grid chooses recipes on."""
    train = load(config.data, "train", root=config.root, points=plan.test_points)
    return split(train if config.validation is None else validation_split(train, config.validation, 0)[0], plan)


def test_set(config: CompareConfig, plan: Protocol) -> PointClouds:
    """What networks are tested on: the test split is not read if there is another."""
    if config.validation is None:
        return load(config.data, "test", root=config.root, points=plan.test_points)
    return validation_split(
        load(config.data, "train", root=config.root, points=plan.test_points), config.validation, 0
    )[1]


def _planned(grid: Sequence[Cell], config: CompareConfig, plans: Sequence[Protocol]) -> tuple[list[Task], list[Job]]:
    """The cells with their settings, and what is left to do; the data are let go of before that begins."""
    (real, validation), test = training_set(config, plans[0]), test_set(config, plans[0])
    for cell in grid:
        if cell.budget is not None:
            _check_size(cell.budget, real)
    data = [clouds.fingerprint() for clouds in (real, test, validation) if clouds is not None]
    tasks = [Task(cell, plan.network, settings(cell, config, plan, data)) for cell in grid for plan in plans]
    return tasks, jobs_of([task for task in tasks if _finished(task, config) is None], config, real)


def jobs_of(tasks: Sequence[Task], config: CompareConfig, real: PointClouds) -> list[Job]:
    """What these cells need: networks of the real set where several sets share them, sets, and the cells themselves."""
    unmade = {task.cell: task for task in tasks if task.cell.budget is not None and _read_set(task, config) is None}
    sharing: dict[str, list[Cell]] = {}
    for task in unmade.values():
        if task.bank is not None:
            sharing.setdefault(task.bank, []).append(task.cell)
    banks = {bank: _bank_jobs(own, config, real) for bank, own in sharing.items() if len(own) > 1}
    found: dict[str, Job] = {}
    for task in tasks:
        needed = list[Job]()
        trace = config.output / "cells" / f"{task.key}.error.txt"
        if task.cell in unmade:
            first = banks.get(task.bank or "", [])
            needed = [Job(str(task.cell), make, (task, config), tuple(job.name for job in first), trace)]
            found.update((job.name, job) for job in [*first, *needed] if job.name not in found)
        found[str(task)] = Job(str(task), carry_out, (task, config), tuple(job.name for job in needed), trace)
    return list(found.values())


def _bank_jobs(cells: Sequence[Cell], config: CompareConfig, real: PointClouds) -> list[Job]:
    """The job, if there is one, of preparing the objectives of sets that need the same networks of the real set."""
    wanted: dict[str, DistillConfig] = {}
    for cell in cells:
        assert cell.budget is not None
        given = _distilling(cell, cell.budget, config, Path("unwritten"))
        objective = jobs.make_objective(given)
        if not objective.prepared(real):
            wanted.setdefault(f"{objective.name} {json.dumps(objective.describe(), sort_keys=True)}", given)
    if not wanted:
        return []
    return [Job(f"networks for {cells[0]}", prepare, (tuple(wanted.values()), config))]


def settings(cell: Cell, config: CompareConfig, plan: Protocol, data: Sequence[str]) -> dict[str, Any]:
    """Everything that a cell's result follows from, as JSON values; `data` are digests of the splits."""
    facts: dict[str, Any] = {
        "cell": str(cell),
        "data": list(data),
        "validation": config.validation,
        "protocol": plan.model_dump(mode="json"),
        "train_seeds": config.train_seeds,
    }
    if cell.budget is not None and cell.method not in selectors:
        given = _distilling(cell, cell.budget, config, Path("unwritten"))
        unused = {"data", "output", "root", "resume", "log"} | (set() if given.expand else {"expand"})
        facts["distill"] = given.model_dump(mode="json", exclude=unused)
        objective = jobs.make_objective(given)
        facts["objective"] = objective.describe()
        facts["defaults"] = {"steps": objective.steps, "version": versions()["pcdistill"]}
    return facts


def _distilling(cell: Cell, budget: Budget, config: CompareConfig, output: Path) -> DistillConfig:
    named, _, name = cell.method.rpartition(":")
    values: dict[str, Any] = {"preset": name} if named else {"objective": name}
    if config.steps is not None:
        values["steps"] = config.steps
    return DistillConfig.checked(
        {
            "data": config.data, "output": output, "root": config.root, "protocol": config.protocol, "seed": cell.seed,
            "clouds_per_class": budget.clouds_per_class, "points": budget.points, "bits": budget.bits, **values,
        },
        cell.method,
    )  # fmt: skip


def prepare(wanted: Iterable[DistillConfig], config: CompareConfig) -> None:
    """Have in the cache what these distillations need of the real set."""
    real, _ = training_set(config, plan_of(config))
    for given in wanted:
        jobs.make_objective(given).prepare(real)


def make(task: Task, config: CompareConfig) -> None:
    """Make and keep a cell's training set; what is in `artefacts/` beside its JSON file is then whole."""
    path, plan = _set_file(task, config), plan_of(config)
    checkpoint = path.with_name(path.name + ".checkpoint")
    start = time.perf_counter()
    artefact = _made(task.cell, config, plan, training_set(config, plan)[0], checkpoint)
    facts = artefact.metadata
    seconds = facts.distill_seconds if facts.distilled else time.perf_counter() - start
    artefact.save(path)
    made = Made(seconds=seconds, peak_mib=peak_mib())
    _write_json(path.with_suffix(".json"), {"settings": task.making, "made": made.model_dump()})
    checkpoint.unlink(missing_ok=True)


def carry_out(task: Task, config: CompareConfig) -> Run:
    """Evaluate a training set and keep the result in `cells/`."""
    cell, plan = task.cell, plan_of(config, task.network)
    (real, validation), test = training_set(config, plan), test_set(config, plan)
    if cell.budget is None:
        run = measure(real, test, plan, cell.seed, config.train_seeds, validation=validation)
    else:
        found = _read_set(task, config)
        if found is None:
            raise InputError(_set_file(task, config), "not the set of this cell", "what was made just now")
        artefact, made = found
        run = measure(artefact, test, plan, cell.seed, config.train_seeds, made.seconds, validation=validation)
        run = run.model_copy(update={"peak_mib": max(run.peak_mib, made.peak_mib)})
    _write_json(_cell_file(task, config), {"settings": task.settings, "run": run.model_dump()})
    return run


def _made(cell: Cell, config: CompareConfig, plan: Protocol, real: PointClouds, checkpoint: Path) -> Artefact:
    assert cell.budget is not None
    if cell.method in selectors:
        return jobs.select_artefact(real, cell.budget, cell.method, plan, cell.seed, dataset=config.data)
    given = _distilling(cell, cell.budget, config, checkpoint.with_suffix(""))
    artefact = jobs.distill_artefact(real, given.model_copy(update={"resume": checkpoint.exists()}), checkpoint)
    # What it is evaluated by here, a shortened recipe included, but for the network, of which there may be several.
    facts = artefact.metadata.model_copy(update={"protocol": plan.model_dump(mode="json")})
    return replace(artefact, metadata=facts)


def _cell_file(task: Task, config: CompareConfig) -> Path:
    return config.output / "cells" / f"{task.key}.json"


def _set_file(task: Task, config: CompareConfig) -> Path:
    return config.output / "artefacts" / f"{task.set_key}.h5"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def _finished(task: Task, config: CompareConfig) -> Run | None:
    """The run of a cell that was carried out before, with the same settings."""
    try:
        stored = json.loads(_cell_file(task, config).read_text())
        return Run.model_validate(stored["run"]) if stored["settings"] == task.settings else None
    except UNUSABLE:
        return None  # not there, or not what this package writes: do it again


def _read_set(task: Task, config: CompareConfig) -> tuple[Artefact, Made] | None:
    """A cell's training set, if it was made before with the same settings."""
    path = _set_file(task, config)
    try:
        stored = json.loads(path.with_suffix(".json").read_text())
        made = Made.model_validate(stored["made"])
        return (Artefact.load(path), made) if stored["settings"] == task.making else None
    except UNUSABLE:
        return None


def _worked_off(left: Sequence[Job], done: int, total: int, config: CompareConfig) -> dict[str, str]:
    """Why jobs failed, those that did; `done` of `total` cells need none."""
    reasons: dict[str, str] = {}
    ended = succeeded = done
    with progress("comparing", total, done) as report:
        try:
            with contextlib.closing(carried_out(left, config.engine, config.workers)) as ends:
                for job, reason in ends:
                    if reason is not None:
                        reasons[job.name] = reason
                    if job.work is carry_out:
                        ended, succeeded = ended + 1, succeeded + (reason is None)
                    report(ended, job.name)
        except KeyboardInterrupt:
            where = f"{succeeded} of {total} cells done (the same command goes on from there)"
            raise KeyboardInterrupt(f"stopped with {where}") from None
    return reasons


def _records(
    tasks: Sequence[Task], runs: Mapping[str, Run], config: CompareConfig, plans: Sequence[Protocol]
) -> list[Record]:
    """A record per method, budget and network, in the order of the grid."""
    groups: dict[tuple[str, Budget | None, str], list[Run]] = {}
    for task in tasks:
        if str(task) in runs:
            groups.setdefault((task.cell.method, task.cell.budget, task.network), []).append(runs[str(task)])
    command, commit = _command(config), revision()
    split = "test" if config.validation is None else f"{config.validation:g} of train held out"
    named = {plan.network: plan for plan in plans}
    return [
        summed_up(
            "compare", jobs.set_name(config.data), named[network], own, command, commit, split=split,
            variant=method if method.startswith(PRESET) else None,
        )
        for (method, _, network), own in groups.items()
    ]  # fmt: skip


def _command(config: CompareConfig) -> str:
    """The command line, without what does not matter for the numbers and the folders of whoever ran it."""
    words = ["pcdistill", "compare"]
    for key, field in CompareConfig.by_key().items():
        value = getattr(config, key)
        if value == field.get_default(call_default_factory=True) or key in ("root", "workers", "engine"):
            continue
        value = {"data": jobs.set_name(config.data), "output": config.output.resolve().name}.get(key, value)
        words += ["--" + key.replace("_", "-"), *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def _write(records: Sequence[Record], config: CompareConfig, say: Say) -> None:
    write_records(config.output / "records.jsonl", records)
    text = table(records)
    with atomic(config.output / "table.md") as temporary:
        temporary.write_text(text)
    say(text)
    written, picture = "records.jsonl, table.md", config.output / "plot.png"
    curves, levels = curves_of(records)
    title = f"{records[0].dataset}, {', '.join(_networks(records))}, protocol {records[0].protocol}"
    note = _note(records)
    try:
        with atomic(picture) as temporary:
            accuracy_plot(curves, levels, temporary, title, note)
        written += ", plot.png"
    except ImportError:
        picture.unlink(missing_ok=True)  # of an older grid, it would contradict the table
        say("no plot: matplotlib is not installed (pip install 'pcdistill[plots]')")
    say(f"wrote {written} to {config.output}")


def table(records: Sequence[Record]) -> str:
    """Methods as rows, budgets as columns, in Markdown; the whole set, which has no budget, in a line of its own.

    Of several networks each has a column, and methods at budgets are rows, the whole set included.
    """
    if len(_networks(records)) > 1:
        return _network_table(records)
    first = records[0]
    sized = [record for record in records if record.clouds_per_class is not None]
    columns = dict.fromkeys(map(budget_of, sized))
    sizes = {budget: _each(budget) * budget.cloud_bytes for budget in columns}
    rows = []
    for name in dict.fromkeys(map(label, sized)):
        own = {budget_of(record): record for record in sized if label(record) == name}
        rows.append([name, *(_cell_text(own[b], sizes[b]) if b in own else "–" for b in columns)])
    text = (
        f"{first.dataset}: accuracy in per cent ({_split(first)}) of {first.network}, "
        f"protocol {first.protocol}; mean ± standard deviation over n networks.\n\n"
    )
    if rows:
        text += markdown_table(["method", *(f"{_text(b)}, {sizes[b]:,} bytes per class" for b in columns)], rows)
    for record in records:
        if record.clouds_per_class is None:
            size = f"{record.bytes_per_class:,.0f} bytes per class"
            text += f"{chr(10) if rows else ''}Whole set, {size}: {_cell_text(record, record.bytes_per_class)}\n"
    return text


def _network_table(records: Sequence[Record]) -> str:
    names, rows = _networks(records), dict[tuple[str, Budget | None], dict[str, Record]]()
    for record in records:
        sized = record.clouds_per_class is not None
        key = (label(record), budget_of(record)) if sized else (WHOLE, None)
        rows.setdefault(key, {})[record.network] = record
    lines = []
    for (name, budget), own in rows.items():
        size = next(iter(own.values())).bytes_per_class
        cells = (_cell_text(own[network], size) if network in own else "–" for network in names)
        lines.append([name, "" if budget is None else _text(budget), f"{size:,.0f}", *cells])
    text = (
        f"{records[0].dataset}: accuracy in per cent ({_split(records[0])}), protocol {records[0].protocol}; "
        "mean ± standard deviation over n networks.\n\n"
    )
    return text + markdown_table(["method", "budget", "bytes per class", *names], lines)


def _networks(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record.network for record in records))


def curves_of(records: Sequence[Record]) -> tuple[list[Curve], list[Curve]]:
    """What a plot of records shows: a curve per method and network, and a level for the whole set."""
    several = len(_networks(records)) > 1
    names = [f"{label(record)}, {record.network}" if several else label(record) for record in records]
    curves, levels = viewing.curves_of(records, names)
    # Under the label of records of the whole set, "whole", and of several networks this one's.
    return curves, [
        level._replace(label=f"whole set{level.label.removeprefix(WHOLE)}\n{level.sizes[0]:,.0f} bytes")
        for level in levels
    ]


def _note(records: Sequence[Record]) -> str:
    counts = sorted({len(record.accuracy) for record in records})
    networks = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    split = _split(records[0])
    return f"Mean ± standard deviation over n = {networks} networks; {split}."


def _split(record: Record) -> str:
    named = (record.model_extra or {}).get("split", "test")
    return "test split" if named == "test" else str(named)


def label(record: Record) -> str:
    """The method of a record as it was asked for."""
    return (record.model_extra or {}).get("variant") or record.arm


def budget_of(record: Record) -> Budget:
    """The budget of a record that has one."""
    assert isinstance(record.clouds_per_class, int)
    assert record.bits is not None
    return Budget(clouds_per_class=record.clouds_per_class, points=record.points, bits=record.bits)


def _cell_text(record: Record, size: float) -> str:
    """Accuracy and number of networks; and the bytes where they are not those of the budget's points."""
    more = "" if record.bytes_per_class == size else f", {record.bytes_per_class:,.0f} bytes"
    return f"{accuracy_cell(record)} (n = {len(record.accuracy)}{more})"


def _text(budget: Budget) -> str:
    return f"{_each(budget)}x{budget.points}@{budget.bits}"


def _each(budget: Budget) -> int:
    """Clouds of every class: budgets of a comparison are even."""
    assert isinstance(budget.clouds_per_class, int)
    return budget.clouds_per_class


def _check_size(budget: Budget, real: PointClouds) -> None:
    """What selection would find, found before any work."""
    fewest = int(real.class_counts.min())
    if _each(budget) > fewest:
        found = f"{_text(budget)}, but class '{real.class_names[int(real.class_counts.argmin())]}' has {fewest} clouds"
        raise InputError("budgets", found, "at most as many")
    if budget.points > real.points_per_cloud:
        raise InputError("budgets", f"{_text(budget)} of clouds of {real.points_per_cloud} points", "at most as many")

"""A grid of methods and budgets on one data set: every cell in a process of its own, and what they add up to.

A cell is one method at one budget with one seed. It leaves `cells/KEY.json` and, but for the whole set,
`artefacts/KEY.h5`; the key holds a digest of every setting and of the data, so that a run that was stopped, or whose
grid has grown, does only what is missing.
"""

import contextlib
import hashlib
import io
import json
import multiprocessing
import re
import shlex
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from pcdistill import jobs
from pcdistill.clouds import PointClouds
from pcdistill.config import CompareConfig, DistillConfig, presets
from pcdistill.data import load, validation_split
from pcdistill.environment import revision, versions
from pcdistill.errors import InputError
from pcdistill.evaluation import Record, Run, accuracy_cell, markdown_table, measure, split, summed_up, write_records
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


class Cell(NamedTuple):
    """One training set of the grid: `budget` is None for the whole set."""

    method: str
    budget: Budget | None
    seed: int

    def __str__(self) -> str:
        size = "" if self.budget is None else f" {_text(self.budget)}"
        return f"{self.method}{size} seed {self.seed}"


class Task(NamedTuple):
    """A cell with the settings that decide over its result."""

    cell: Cell
    settings: dict[str, Any]

    @property
    def key(self) -> str:
        """Name of the cell's files."""
        digest = hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()
        return f"{re.sub(r'[^A-Za-z0-9@]+', '-', str(self.cell))}-{digest[:10]}"

    @property
    def bank(self) -> str | None:
        """What is equal for cells that need the same networks of the real set; None if it needs none."""
        objective = self.settings.get("objective", {})
        return json.dumps(objective["bank"], sort_keys=True) if "bank" in objective else None


def run_compare(config: CompareConfig, say: Say = lambda _: None) -> list[Record]:
    """Carry out what is missing of the grid, write `records.jsonl`, `table.md` and `plot.png`, and say the table.

    Returns:
        A record per method and budget, of the seeds that succeeded.

    Raises:
        InputError, OSError: before any work if the grid is at fault; after all of it if a cell failed.
        KeyboardInterrupt: after Ctrl-C; finished cells are kept.
    """
    grid, plan = cells(config), plan_of(config)
    for name in ("records.jsonl", "table.md", "plot.png", "cells/x", "artefacts/x"):
        check_writable(config.output / name)
    runs, failures = _carried_out(tasks := _tasks(grid, config, plan), config, say)
    records = _records(runs, config, plan)
    if records:
        _write(records, config, plan, say)
    if failures:
        for cell, reason in failures.items():
            say(f"failed: {cell}: {reason}")
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
    for kind, values in (("methods", config.methods), ("budgets", tuple(map(_text, budgets)))):
        if twice := next((value for value in values if values.count(value) > 1), None):
            raise InputError(kind, f"'{twice}' twice", "each once")
    return [
        cell
        for method in config.methods
        for cell in (
            [Cell(WHOLE, None, 0)]
            if method == WHOLE
            else [Cell(method, budget, seed) for budget in budgets for seed in range(config.distill_seeds)]
        )
    ]


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


def plan_of(config: CompareConfig) -> Protocol:
    """The protocol of all cells; a shortened one is named `NAME*`, like its recipe.

    Raises:
        InputError: unknown protocol or network.
    """
    plan = protocol(config.protocol)
    if config.network is not None:
        networks[config.network]
        plan = plan.model_copy(update={"network": config.network})
    if config.train_steps is not None:
        shortened = recipe(config.protocol, steps=config.train_steps)
        plan = plan.model_copy(update={"recipe": shortened, "name": shortened.name})
    return plan


def splits(config: CompareConfig, plan: Protocol) -> tuple[PointClouds, PointClouds]:
    """What sets are made from, and what networks are tested on: the test split is not read if there is another."""
    train = load(config.data, "train", root=config.root, points=plan.test_points)
    if config.validation is not None:
        return validation_split(train, config.validation, 0)
    return train, load(config.data, "test", root=config.root, points=plan.test_points)


def _tasks(grid: Sequence[Cell], config: CompareConfig, plan: Protocol) -> list[Task]:
    """The cells with their settings; the data are let go of before the work, in processes of their own, begins."""
    real, test = splits(config, plan)
    real, _ = split(real, plan)
    for cell in grid:
        if cell.budget is not None:
            _check_size(cell.budget, real)
    data = [real.fingerprint(), test.fingerprint()]
    return [Task(cell, settings(cell, config, plan, data)) for cell in grid]


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


def carry_out(task: Task, config: CompareConfig) -> Run:
    """Make, keep and evaluate one cell's training set; what is in `cells/` is then whole."""
    cell, plan, path = task.cell, plan_of(config), config.output / "artefacts" / f"{task.key}.h5"
    real, test = splits(config, plan)
    real, validation = split(real, plan)
    checkpoint = path.with_name(path.name + ".checkpoint")
    seconds: float | None = None
    made: Artefact | PointClouds = real
    if cell.budget is not None:
        start = time.perf_counter()
        artefact = _made(cell, cell.budget, config, plan, real, checkpoint)
        if not artefact.metadata.distilled:
            seconds = time.perf_counter() - start
        artefact.save(path)
        made = artefact
    run = measure(made, test, plan, cell.seed, config.train_seeds, seconds, validation=validation)
    with atomic(_cell_file(task, config)) as temporary:
        temporary.write_text(json.dumps({"settings": task.settings, "run": run.model_dump()}, indent=1) + "\n")
    checkpoint.unlink(missing_ok=True)
    return run


def _made(
    cell: Cell, budget: Budget, config: CompareConfig, plan: Protocol, real: PointClouds, checkpoint: Path
) -> Artefact:
    if cell.method in selectors:
        return jobs.select_artefact(real, budget, cell.method, plan, cell.seed, dataset=config.data)
    given = _distilling(cell, budget, config, checkpoint.with_suffix(""))
    artefact = jobs.distill_artefact(real, given.model_copy(update={"resume": checkpoint.exists()}), checkpoint)
    # What it is evaluated by here, a shortened recipe or another network included.
    facts = artefact.metadata.model_copy(update={"protocol": plan.model_dump(mode="json")})
    return replace(artefact, metadata=facts)


def _cell_file(task: Task, config: CompareConfig) -> Path:
    return config.output / "cells" / f"{task.key}.json"


def _finished(task: Task, config: CompareConfig) -> Run | None:
    """The run of a cell that was carried out before, with the same settings."""
    path = _cell_file(task, config)
    try:
        stored = json.loads(path.read_text())
        return Run.model_validate(stored["run"]) if stored["settings"] == task.settings else None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None  # not there, or not what this package writes: do it again


def _carried_out(tasks: Sequence[Task], config: CompareConfig, say: Say) -> tuple[dict[Cell, Run], dict[Cell, str]]:
    """The runs of all cells and the reasons of those that failed."""
    runs = {task.cell: run for task in tasks if (run := _finished(task, config)) is not None}
    failures: dict[Cell, str] = {}
    left = [task for task in tasks if task.cell not in runs]
    if runs:
        say(f"{len(runs)} of {len(tasks)} cells are there already")
    with progress("comparing", len(tasks), len(runs)) as report:
        try:
            with contextlib.closing(_worked_off(left, config)) as ends:
                for task, reason in ends:
                    run = _finished(task, config) if reason is None else None
                    if run is None:
                        failures[task.cell] = reason or "left no result"
                    else:
                        runs[task.cell] = run
                    report(len(runs) + len(failures), str(task.cell))
        except KeyboardInterrupt:
            where = f"{len(runs)} of {len(tasks)} cells done (the same command goes on from there)"
            raise KeyboardInterrupt(f"stopped with {where}") from None
    return {task.cell: runs[task.cell] for task in tasks if task.cell in runs}, failures


def _worked_off(tasks: Sequence[Task], config: CompareConfig) -> Generator[tuple[Task, str | None], None, None]:
    """Each task when it has ended, with the reason if it failed; whatever still works is ended on leaving.

    A process per cell: its peak memory is the cell's own, and one that the system kills takes no other along. Of cells
    that need the same bank the first runs before the others, which find the bank in the cache.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // config.workers)
    waiting, at_work = list(tasks), dict[Connection, tuple[Task, SpawnProcess]]()
    built: set[str | None] = {None}  # banks
    try:
        while waiting or at_work:
            while len(at_work) < config.workers:
                task = _next(waiting, {task.bank for task, _ in at_work.values()} - built)
                if task is None:
                    break
                waiting.remove(task)
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(theirs, task, config, threads), daemon=True)
                at_work[ours] = (task, process)
                with _ctrl_c_ignored():
                    process.start()
                theirs.close()
            for ours in [pipe for pipe in wait(list(at_work)) if isinstance(pipe, Connection)]:
                task, process = at_work[ours]
                try:
                    reason = ours.recv_bytes().decode()
                except EOFError:  # ended without a word
                    process.join()
                    reason = f"its process ended with code {process.exitcode} (-9: out of memory?)"
                del at_work[ours]
                ours.close()
                process.join()
                if not reason:
                    built.add(task.bank)
                yield task, reason or None
    finally:
        for _, process in at_work.values():
            if process.pid is not None:
                process.terminate()  # it saves where it is (see `_work`)
        for _, process in at_work.values():
            process.join()


def _next(waiting: Sequence[Task], building: Collection[str | None]) -> Task | None:
    """The first that needs no bank that a cell at work may be building."""
    return next((task for task in waiting if task.bank not in building), None)


def _work(pipe: Connection, task: Task, config: CompareConfig, threads: int) -> None:
    """What a process does: one cell; it sends the reason if that fails, else nothing but an end."""
    torch.set_num_threads(threads)
    _stop_on_sigterm()
    reason = ""
    trace = config.output / "cells" / f"{task.key}.error.txt"
    with contextlib.redirect_stderr(io.StringIO()):  # bars of several processes would write over one another
        try:
            carry_out(task, config)
            trace.unlink(missing_ok=True)  # of an earlier attempt
        except KeyboardInterrupt:
            return
        except (InputError, OSError) as error:
            reason = " ".join(str(error).split())
        except Exception as error:  # a defect: it must not cost the other cells, but has to be found
            trace.write_text(traceback.format_exc())
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} (traceback in {trace})"
    pipe.send_bytes(reason.encode())


def _stop_on_sigterm() -> None:
    """Let SIGTERM do what Ctrl-C does, which saves a distillation's state, and Ctrl-C, which reaches all, nothing.

    By way of SIGINT, as `distill` holds that back while it changes the state.
    """
    asked: list[int] = []

    def ended(number: int, _: object) -> None:
        asked.append(number)
        signal.raise_signal(signal.SIGINT)

    def interrupted(_: int, __: object) -> None:
        if asked:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, ended)


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C, which a terminal sends to all: the first one ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _records(runs: Mapping[Cell, Run], config: CompareConfig, plan: Protocol) -> list[Record]:
    """A record per method and budget, in the order of the grid."""
    groups: dict[tuple[str, Budget | None], list[Run]] = {}
    for cell, run in runs.items():
        groups.setdefault((cell.method, cell.budget), []).append(run)
    command, commit = _command(config), revision()
    split = "test" if config.validation is None else f"{config.validation:g} of train held out"
    return [
        summed_up(
            "compare", jobs.set_name(config.data), plan, own, command, commit, split=split,
            variant=method if method.startswith(PRESET) else None,
        )
        for (method, _), own in groups.items()
    ]  # fmt: skip


def _command(config: CompareConfig) -> str:
    """The command line, without what does not matter for the numbers and the folders of whoever ran it."""
    words = ["pcdistill", "compare"]
    for key, field in CompareConfig.by_key().items():
        value = getattr(config, key)
        if value == field.default or key in ("root", "workers"):
            continue
        value = {"data": jobs.set_name(config.data), "output": config.output.resolve().name}.get(key, value)
        words += ["--" + key.replace("_", "-"), *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(words)


def _write(records: Sequence[Record], config: CompareConfig, plan: Protocol, say: Say) -> None:
    write_records(config.output / "records.jsonl", records)
    text = table(records)
    with atomic(config.output / "table.md") as temporary:
        temporary.write_text(text)
    say(text)
    written, picture = "records.jsonl, table.md", config.output / "plot.png"
    curves, levels = curves_of(records)
    title, note = f"{records[0].dataset}, {records[0].network}, protocol {records[0].protocol}", _note(records)
    try:
        with atomic(picture) as temporary:
            accuracy_plot(curves, levels, temporary, title, note)
        written += ", plot.png"
    except ImportError:
        picture.unlink(missing_ok=True)  # of an older grid, it would contradict the table
        say("no plot: matplotlib is not installed (pip install 'pcdistill[plots]')")
    say(f"wrote {written} to {config.output}")


def table(records: Sequence[Record]) -> str:
    """Methods as rows, budgets as columns, in Markdown; the whole set, which has no budget, in a line of its own."""
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


def curves_of(records: Sequence[Record]) -> tuple[list[Curve], list[Curve]]:
    """What a plot of records shows: a curve per method, and a level for the whole set."""
    curves: list[Curve] = []
    levels: list[Curve] = []
    for name in dict.fromkeys(map(label, records)):
        own = sorted((record for record in records if label(record) == name), key=lambda r: r.bytes_per_class)
        curve = Curve(
            name,
            [record.bytes_per_class for record in own],
            [record.accuracy_mean for record in own],
            [record.accuracy_std for record in own],
        )
        (levels if own[0].clouds_per_class is None else curves).append(curve)
    return curves, [level._replace(label=f"whole set\n{level.sizes[0]:,.0f} bytes") for level in levels]


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

"""Measure some of the committed records anew, on two cores in less than half an hour, and compare.

    python benchmarks/reproduce.py        # or: make reproduce-quick

Which: `items`. Nothing committed is touched, and no set made before is used (banks of networks are, from the cache).
The mean accuracy now may differ from the recorded one by two points, or by three standard errors of the recorded mean
if that is more; a single run is taken to have a standard deviation of one point. Exit status 1 if one differs by more,
failed, or has no record. Items whose data are not on this machine are skipped. Independent items run in two processes
of one thread each.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from pcdistill.data import load
from pcdistill.errors import InputError
from pcdistill.evaluation import Record, accuracy_cell, markdown_table, mean_std, read_records

HERE = Path(__file__).parent
RESULTS = HERE / "results"
LEAST, ERRORS, SINGLE = 0.02, 3, 0.01  # tolerance: at least, in standard errors; deviation of a single run
WORKERS = 2


def script(name: str) -> ModuleType:
    """The benchmark of this name beside this one."""
    spec = importlib.util.spec_from_file_location(f"_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPTS = {name: script(name) for name in ("networks", "frontier")}


class Item(NamedTuple):
    """One committed record: its file in `results`, and its arm (`Arm`) or cell (`Cell`) in the script that made it."""

    file: str
    script: str
    arm: Any

    @property
    def label(self) -> str:
        size = "" if self.arm.bytes_per_class is None else f" at {self.arm.bytes_per_class:,} bytes"
        return f"{self.file}: {self.arm.dataset} {self.arm.arm}{size}, {getattr(self.arm, 'network', 'pointnet')}"


class Outcome(NamedTuple):
    """Accuracies of an item's runs, or why there are none."""

    accuracy: Sequence[float] = ()
    skipped: str | None = None
    failed: str | None = None


def items() -> list[Item]:
    """What is measured anew."""
    cell, arm = SCRIPTS["networks"].Cell, SCRIPTS["frontier"].Arm
    cells = [
        cell("modelnet10", made, network, 1229)
        for made in ("random", "krr")
        for network in ("pointnet-tiny", "pointnet", "dgcnn")
    ]
    cells += [cell("modelnet10", "whole", "pointnet-tiny", None, bits=32)]
    shapes = [one for one in SCRIPTS["networks"].cells() if one.dataset == "shapes"]
    return [
        *(Item("networks.jsonl", "networks", one) for one in cells),
        *(Item("frontier.jsonl", "frontier", arm("modelnet10", made, 1229, 3)) for made in ("medoid", "random")),
        *(Item("shapes.jsonl", "networks", one) for one in shapes),
    ]


def recorded(item: Item) -> Record | None:
    """The committed record, as made by this very command."""
    return next((one for one in read_records(RESULTS / item.file) if one.command == item.arm.command), None)


def groups(listed: Sequence[Item]) -> list[list[Item]]:
    """Items by what can run at the same time: those that are trained on the same set follow each other.

    Longest first, by what the records say.
    """
    found: dict[tuple[Any, ...], list[Item]] = {}
    for item in listed:
        key = (item.script, item.arm.dataset, item.arm.arm, item.arm.bytes_per_class)
        found.setdefault(key, []).append(item)

    def cost(group: list[Item]) -> float:
        records = [record for item in group if (record := recorded(item))]
        trained = sum(one.train_seconds * len(one.accuracy) for one in records)
        return trained + max((one.distill_seconds * len(one.distill_seeds) for one in records), default=0.0)

    return sorted(found.values(), key=cost, reverse=True)


def measured(group: Sequence[Item]) -> list[Outcome]:
    """Measure items in this process; their sets are shared, and gone afterwards."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        SCRIPTS["networks"].SETS = Path(folder)  # type: ignore[attr-defined]
        return [_outcome(item) for item in group]


def _outcome(item: Item) -> Outcome:
    try:
        for split in ("train", "test"):
            load(item.arm.dataset, split, points=1024)
    except InputError as error:
        return Outcome(skipped=str(error))
    return Outcome(SCRIPTS[item.script].measure(item.arm).accuracy)


def in_a_process(group: Sequence[Item]) -> list[Outcome]:
    """`measured` in a process of its own, with one thread."""
    places = [str(items().index(item)) for item in group]
    ran = subprocess.run(
        [sys.executable, __file__, "--items", *places], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if ran.returncode:
        why = (ran.stderr.strip() or f"status {ran.returncode}").splitlines()[-1]
        return [Outcome(failed=why)] * len(group)
    return [Outcome(*found) for found in json.loads(ran.stdout)]


def tolerance(record: Record) -> float:
    """By how much a mean accuracy may differ from the recorded one; a fraction."""
    runs = len(record.accuracy)
    deviation = record.accuracy_std if runs > 1 else SINGLE
    return max(LEAST, ERRORS * deviation / math.sqrt(runs))


def row(item: Item, outcome: Outcome) -> list[str]:
    """A line of the table: what, committed, now, difference, tolerance, and what follows."""
    record = recorded(item)
    if record is None:
        return [item.label, "–", "–", "–", "–", "no record"]
    facts = [item.label, f"{accuracy_cell(record)} ({len(record.accuracy)})"]
    allowed = f"{100 * tolerance(record):.1f}"
    if not outcome.accuracy:
        return [*facts, "–", "–", allowed, "skipped" if outcome.skipped else "failed"]
    mean, deviation = mean_std(list(outcome.accuracy))
    runs, difference = len(outcome.accuracy), mean - record.accuracy_mean
    now = f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if runs > 1 else "")
    good = abs(difference) <= tolerance(record)
    return [*facts, f"{now} ({runs})", f"{100 * difference:+.1f}", allowed, "ok" if good else "no"]


def compare(listed: Sequence[Item]) -> int:
    """Measure and print the table; the exit status."""
    start = time.perf_counter()
    left = groups([item for item in listed if recorded(item)])
    found: dict[Item, Outcome] = {}

    def one(group: list[Item]) -> None:
        found.update(zip(group, in_a_process(group), strict=True))
        print(f"{len(found)} of {sum(map(len, left))} measured", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(one, left))
    rows = [row(item, found.get(item, Outcome())) for item in listed]
    print(markdown_table(["what", "committed % (n)", "now % (n)", "difference", "tolerance", ""], rows), end="")
    for item in listed:
        outcome = found.get(item)
        if outcome is None:
            print(f"no record in {item.file} of: {item.arm.command}")
        elif why := outcome.skipped or outcome.failed:
            print(f"{'skipped' if outcome.skipped else 'failed'}: {item.label}: {why}")
    ends = [line[-1] for line in rows]
    counted = ", ".join(f"{ends.count(end)} {end}" for end in ("ok", "no", "failed", "no record", "skipped"))
    print(f"{counted}; {(time.perf_counter() - start) / 60:.1f} minutes")
    return 0 if {"ok", "skipped"}.issuperset(ends) else 1


def main() -> int:
    """Compare everything; with places of items, only measure those and print what came out as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", nargs="+", type=int, help=argparse.SUPPRESS)
    places = parser.parse_args().items
    if places is None:
        return compare(items())
    with contextlib.redirect_stdout(io.StringIO()):  # what scripts say while they measure
        outcomes = measured([items()[place] for place in places])
    print(json.dumps(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())

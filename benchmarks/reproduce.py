"""Measure some of the committed records anew, on two cores in less than half an hour, and compare.

    python -m benchmarks.reproduce        # or: make reproduce-quick

Which: `ITEMS`, cells of the grids. Nothing committed is touched, and no set made before is used (banks of networks are,
from the cache). The mean accuracy now may differ from the recorded one by two points, or by three standard errors of
the recorded mean if that is more; a single run is taken to have a standard deviation of one point. Exit status 1 if one
differs by more, failed, or has no record. Items whose data are not on this machine are skipped.
"""

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill.artefact.artefact import set_name
from pcdistill.core.errors import InputError
from pcdistill.core.options import read_toml
from pcdistill.data import load
from pcdistill.evaluation import mean_std
from pcdistill.experiments.cells import Cell, cells
from pcdistill.experiments.grid import run_grid
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.record import PRESET, Record, read_records
from pcdistill.results.table import Table, accuracy_cell

HERE = Path(__file__).parent
LEAST, ERRORS, SINGLE = 0.02, 3, 0.01  # tolerance: at least, in standard errors; deviation of a single run
WORKERS = 2
# By folder the words of cells (`compare --only`).
ITEMS = {
    "networks": [
        *(f"modelnet10 {arm} 1229B@128x5 {network}" for arm in ("random", "krr")
          for network in ("pointnet-tiny", "pointnet", "dgcnn")),
        "modelnet10 whole pointnet-tiny",
    ],
    "voxels": [*(f"modelnet10 {arm} 369B" for arm in ("medoid", "random")), "modelnet40 medoid 123B"],
    "shapes": [f"shapes {arm}" for arm in ("random", "medoid", "krr", "whole")],
}  # fmt: skip


class Item(NamedTuple):
    """A cell that is measured anew."""

    folder: str
    words: str

    def __str__(self) -> str:
        return f"{self.folder}: {self.words}"


class Outcome(NamedTuple):
    """Accuracies of an item's runs, or why there are none."""

    accuracy: Sequence[float] = ()
    skipped: str | None = None
    failed: str | None = None


def items() -> list[Item]:
    """What is measured anew."""
    return [Item(folder, words) for folder, listed in ITEMS.items() for words in listed]


def spec_of(listed: Sequence[Item], output: Path) -> GridSpec:
    """The grid of a folder, for these of its cells."""
    path = HERE / listed[0].folder / "grid.toml"
    given = {**read_toml(path, GridSpec), "records": None, "output": output, "sets": output / "sets"}
    return GridSpec.checked({**given, "only": [item.words for item in listed], "workers": WORKERS}, path)


def found_in(records: Sequence[Record], item: Item) -> Record | None:
    """The record of an item among those of its folder."""
    place = _place_of(cell_of(item))
    return next((one for one in records if _place(one) == place), None)


def cell_of(item: Item) -> Cell:
    """The first of an item's cells, which differ in their seeds."""
    return cells(spec_of([item], Path("unused")))[0]


def _place_of(cell: Cell) -> tuple[str, ...]:
    arm, variant = cell.arm.removeprefix(PRESET), cell.record_facts()["variant"]
    return set_name(cell.data), arm, cell.network, cell.product.protocol, variant


def _place(record: Record) -> tuple[str, ...]:
    protocol, variant = record.protocol.partition(" ")[0].removesuffix("*"), record.variant
    return record.dataset, record.arm, record.network, protocol, str(variant)


def recorded(item: Item) -> Record | None:
    """The committed record."""
    return found_in(read_records(HERE / item.folder / "records.jsonl"), item)


def measured(listed: Sequence[Item]) -> dict[Item, Outcome]:
    """Measure items of one folder; their sets are gone afterwards."""
    missing = {item: reason for item in listed if (reason := _missing(item)) is not None}
    left = [item for item in listed if item not in missing]
    outcomes = {item: Outcome(skipped=reason) for item, reason in missing.items()}
    if not left:
        return outcomes
    with tempfile.TemporaryDirectory() as folder:
        failed = "no result"
        try:
            run_grid(spec_of(left, Path(folder)))
        except InputError as error:  # of some cell; the records of the others are written
            failed = str(error)
        records = read_records(Path(folder) / "records.jsonl")
        for item in left:
            record = found_in(records, item)
            outcomes[item] = Outcome(failed=failed) if record is None else Outcome(record.accuracy)
    return outcomes


def _missing(item: Item) -> str | None:
    """What is not on this machine."""
    try:
        for split in ("train", "test"):
            load(cell_of(item).data, split, points=1024)
    except InputError as error:
        return str(error)
    return None


def tolerance(record: Record) -> float:
    """By how much a mean accuracy may differ from the recorded one; a fraction."""
    runs = len(record.accuracy)
    deviation = record.accuracy_std if runs > 1 else SINGLE
    return max(LEAST, ERRORS * deviation / math.sqrt(runs))


def row(item: Item, outcome: Outcome) -> list[str]:
    """A line of the table: what, committed, now, difference, tolerance, and what follows."""
    record = recorded(item)
    if record is None:
        return [str(item), "–", "–", "–", "–", "no record"]
    facts = [str(item), f"{accuracy_cell(record)} ({len(record.accuracy)})"]
    allowed = f"{100 * tolerance(record):.1f}"
    if not outcome.accuracy:
        return [*facts, "–", "–", allowed, "skipped" if outcome.skipped else "failed"]
    mean, deviation = mean_std(list(outcome.accuracy))
    runs, difference = len(outcome.accuracy), mean - record.accuracy_mean
    now = f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if runs > 1 else "")
    good = abs(difference) <= tolerance(record)
    return [*facts, f"{now} ({runs})", f"{100 * difference:+.1f}", allowed, "ok" if good else "no"]


def main() -> int:
    """Measure and print the table; the exit status."""
    start = time.perf_counter()
    torch.set_num_threads(WORKERS)  # one for each
    outcomes: dict[Item, Outcome] = {}
    for folder in ITEMS:
        listed = [item for item in items() if item.folder == folder and recorded(item)]
        outcomes |= measured(listed) if listed else {}
        print(f"{len(outcomes)} of {len(items())} measured", file=sys.stderr, flush=True)
    rows = [row(item, outcomes.get(item, Outcome())) for item in items()]
    print(Table(["what", "committed % (n)", "now % (n)", "difference", "tolerance", ""], rows).markdown(), end="")
    for item, outcome in outcomes.items():
        if why := outcome.skipped or outcome.failed:
            print(f"{'skipped' if outcome.skipped else 'failed'}: {item}: {why}")
    ends = [line[-1] for line in rows]
    counted = ", ".join(f"{ends.count(end)} {end}" for end in ("ok", "no", "failed", "no record", "skipped"))
    print(f"{counted}; {(time.perf_counter() - start) / 60:.1f} minutes")
    return 0 if {"ok", "skipped"}.issuperset(ends) else 1


if __name__ == "__main__":
    sys.exit(main())

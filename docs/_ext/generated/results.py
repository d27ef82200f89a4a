"""Tables of the committed records in `benchmarks/`."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from pcdistill.results.arms import arm_of, gathered
from pcdistill.results.record import Record
from pcdistill.results.table import DASH, Table, accuracy_cell

RESULTS = Path(__file__).parents[3] / "benchmarks"
COST = RESULTS / "cost" / "records.json"
# Fields of records that ask more than what a set is worth to a network that sees it alone.
MORE = ("teacher", "scenario", "part", "lesson")


def files() -> list[Path]:
    """All files that may hold records."""
    return sorted(RESULTS.glob("*/records.jsonl"))


@functools.cache
def _all() -> list[Record]:
    return [one.record for one in gathered([RESULTS])[0] if _plain(one.record)]


def records(arm: str | None, dataset: str | None) -> list[Record]:
    """The records of an arm (a method or selection) or a data set, or both."""
    wanted = [record for record in _all() if arm in (None, record.arm) and dataset in (None, record.dataset)]
    return sorted(wanted, key=_order)


def step_seconds() -> dict[str, float]:
    """What a step of an objective with its own settings takes, by `benchmarks/cost/measure.py`."""
    rows = json.loads(COST.read_text(encoding="utf-8"))
    return {row["objective"]: row["seconds_per_step"] for row in rows if not row["options"]}


def table(found: Sequence[Record], arms: bool) -> str:
    """Markdown, a row per record; with `arms` it says which arm each is of."""
    head = ["data, arm" if arms else "data", "accuracy, %", "n", "bytes per class", "clouds x points @ bits"]
    head += ["surrogate", "network", "test points", "recipe"]
    return Table(head, [_row(record, arms) for record in found]).markdown()


def _plain(record: Record) -> bool:
    clean = record.split == "test" and record.condition == "clean" and record.train_rotation in (None, "none")
    return clean and not any(getattr(record, name) for name in MORE)


def _order(record: Record) -> tuple[object, ...]:
    return (record.dataset, record.bytes_per_class, record.arm, record.network, _recipe(record))


def _row(record: Record, arms: bool) -> list[object]:
    clouds = "all" if record.clouds_per_class is None else f"{round(record.clouds_per_class, 1):g}"
    return [
        ", ".join([record.dataset, *[arm_of(record)] * arms]),
        accuracy_cell(record),
        len(record.accuracy),
        f"{record.bytes_per_class:,.0f}",
        f"{clouds} x {record.points} @ {record.bits}",
        (record.distill_network or DASH).replace(",", ", "),
        record.network,
        record.points if record.thin else record.test_points,
        _recipe(record),
    ]


def _recipe(record: Record) -> str:
    """Its name and length."""
    recipe = record.recipe or {}
    steps, epochs = recipe.get("steps"), recipe.get("epochs")
    length = f", {steps} steps" if steps else f", {epochs} passes" if epochs else ""
    return f"{record.protocol}{length}"

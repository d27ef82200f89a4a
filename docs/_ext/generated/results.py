"""Tables of the committed records in `benchmarks/results/`."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path

from pcdistill.evaluation import Record, accuracy_cell, markdown_table, setting
from pcdistill.report import arm_of, gathered

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
COST = RESULTS / "cost.json"
# Fields of records that ask more than what a set is worth to a network that sees it alone.
MORE = ("teacher", "scenario", "part", "lesson")


def files() -> list[Path]:
    """All files that may hold records."""
    return sorted(RESULTS.glob("*.jsonl"))


@functools.cache
def _all() -> list[Record]:
    return [one.record for one in gathered([RESULTS])[0] if _plain(one.record)]


def records(arm: str | None, dataset: str | None) -> list[Record]:
    """The records of an arm (a method or selection) or a data set, or both."""
    wanted = [record for record in _all() if arm in (None, record.arm) and dataset in (None, record.dataset)]
    return sorted(wanted, key=_order)


def step_seconds() -> dict[str, float]:
    """What a step of an objective with its own settings takes, by `benchmarks/cost.py`."""
    rows = json.loads(COST.read_text(encoding="utf-8"))
    return {row["objective"]: row["seconds_per_step"] for row in rows if not row["options"]}


def table(found: Sequence[Record], arms: bool) -> str:
    """Markdown, a row per record; with `arms` it says which arm each is of."""
    head = ["data", *["arm"] * arms, "bytes per class", "clouds x points @ bits", "surrogate"]
    head += ["network", "test points", "recipe", "accuracy, %", "n"]
    return markdown_table(head, [_row(record, arms) for record in found])


def _plain(record: Record) -> bool:
    facts = record.model_extra or {}
    clean = setting(record, "split") == "test" and setting(record, "view") == "clean"
    return clean and facts.get("train_rotation") in (None, "none") and not any(facts.get(name) for name in MORE)


def _order(record: Record) -> tuple[object, ...]:
    return (record.dataset, record.bytes_per_class, record.arm, record.network, _recipe(record))


def _row(record: Record, arms: bool) -> list[str]:
    clouds = "all" if record.clouds_per_class is None else f"{round(record.clouds_per_class, 1):g}"
    thin = (record.model_extra or {}).get("thin")
    return [
        record.dataset,
        *[arm_of(record)] * arms,
        f"{record.bytes_per_class:,.0f}",
        f"{clouds} x {record.points} @ {record.bits}",
        (record.distill_network or "–").replace(",", ", "),
        record.network,
        str(record.points if thin else setting(record, "test_points")),
        _recipe(record),
        accuracy_cell(record),
        str(len(record.accuracy)),
    ]


def _recipe(record: Record) -> str:
    """Its name and length."""
    recipe = (record.model_extra or {}).get("recipe") or {}
    steps, epochs = recipe.get("steps"), recipe.get("epochs")
    length = f", {steps} steps" if steps else f", {epochs} passes" if epochs else ""
    return f"{record.protocol}{length}"

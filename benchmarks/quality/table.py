"""Tables of what clouds look like, and of what an audit finds of copies."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES, NOTHING, SETS, without_gaps
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Table, accuracy_cell

LOOKED_AT = {**SETS, "dc": "DC", "sadm": "SADM"}


def quality(records: list[Record], facts: dict[str, Any]) -> str:
    """Quality of sets beside their accuracy, means over sets; then test clouds in their place."""
    rows = []
    for record in sorted(records, key=lambda record: (record.dataset, list(LOOKED_AT).index(record.arm))):
        found = record.quality
        name = f"{NAMES.get(record.dataset, record.dataset)}, {LOOKED_AT[record.arm]}"
        rows.append([name, accuracy_cell(record), *_looks(found)])
    for place, part in facts.items():
        dataset, name = place.split()
        if name == "test":
            rows.append([f"{NAMES.get(dataset, dataset)}, test clouds", None, *_looks(part["lines"])])
    header = ["trained on", "accuracy", "Chamfer", "EMD", "as near as copies %", "traced %", "to its start %",
              "authentic %", "unevenness", "covered", "matching"]  # fmt: skip
    return without_gaps(header, rows) if rows else ""


def _looks(found: list[dict[str, Any]]) -> list[str | None]:
    """Cells of sets of one kind; distances times a thousand."""

    def mean(values: list[Any], times: float, digits: int) -> str | None:
        return None if None in values else f"{times * sum(values) / len(values):.{digits}f}"

    made = [one["made"] for one in found]
    return [
        mean([one["chamfer"] for one in made], 1000, 1),
        mean([one["emd"] for one in made], 1000, 0),
        *(mean([one[name] for one in made], 100, 0) for name in ("near", "traced")),
        mean([one.get("from_start") for one in found], 100, 0),
        mean([one["authentic"] for one in made], 100, 0),
        mean([one["uneven"] for one in made], 1, 2),
        f"{mean([one['covered'] for one in found], 1, 0)} of {mean([one['coverable'] for one in found], 1, 0)}",
        mean([one["mmd"] for one in found], 1000, 1),
    ]


def copies(facts: dict[str, Any]) -> str:
    """What is found of clouds that are known to be copies, and of clouds that are known to be none."""
    rows = []
    for place, part in facts.items():
        dataset, name = place.split()
        for line in part["lines"] if name == "copies" else []:
            found = [f"{100 * line['copies'][name]:.0f} ({100 * line['fresh'][name]:.0f})"
                     for name in ("near", "traced", "either", "copied")]  # fmt: skip
            apart = [f"{line['auc'][name]:.3f}" for name in ("chamfer", "surface", "margin")]
            rows.append([f"{NAMES.get(dataset, dataset)}, {line['way']}", *apart, *found])
    header = [
        "copies",
        "Chamfer",
        "surface",
        "margin",
        "as near as copies %",
        "traced %",
        "either %",
        "not authentic %",
    ]
    return Table(header, rows).markdown() if rows else ""


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    facts = json.loads((folder / "copies.json").read_text())
    return {
        "quality": quality(read_records(folder / "records.jsonl"), facts) or NOTHING,
        "copies": copies(facts) or NOTHING,
    }

"""Table of accuracy at equal bytes, beside what papers print."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES, cells, without_gaps
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import accuracy_cell, note_of


def frontier(records: list[Record], papers: list[dict[str, Any]]) -> str:
    """Accuracy at equal bytes: selections, distilled, the best that papers print at these bytes, and the whole set."""
    own = [r for r in records if r.arm != "whole"]
    rows = []
    for dataset, size, protocol in sorted({(r.dataset, r.variant, r.protocol) for r in own}, key=_by_size):
        made = {r.arm: r for r in own if (r.dataset, r.variant, r.protocol) == (dataset, size, protocol)}
        whole = next((r for r in records if (r.dataset, r.arm, r.protocol) == (dataset, "whole", protocol)), None)
        shape = next(iter(made.values()))
        printed = {one["method"]: f"{100 * one['accuracy']:.1f}" for one in papers
                   if (one["dataset"], str(one["bytes_per_class"])) == (dataset, size)}  # fmt: skip
        clouds = max(r.clouds_per_class or 0 for r in made.values())
        rows.append([
            f"{NAMES.get(dataset, dataset)}, {int(size):,}",
            *cells(made, ("random", "herding", "kcenter", "medoid", "krr")),
            printed.get("SADM"), printed.get("3DDP"),
            None if whole is None else accuracy_cell(whole), f"{clouds:.0f} x {shape.points} @ {shape.bits}",
        ])  # fmt: skip
    header = ["bytes per class", "random", "herding", "k-center", "medoids", "distilled", "SADM", "3DDP", "whole set",
              "clouds x points @ bits"]  # fmt: skip
    protocols = ", ".join(sorted({f"`{record.protocol}`" for record in own}))
    return without_gaps(header, rows) + f"\nProtocol {protocols}. {note_of(records)}.\n" if rows else ""


def _by_size(place: tuple[str, str, str]) -> tuple[str, str, int]:
    dataset, size, protocol = place
    return protocol, dataset, int(size)


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    papers = json.loads((folder.parent / "published.json").read_text())["points"]
    return {"frontier": frontier(read_records(folder / "records.jsonl"), papers)}

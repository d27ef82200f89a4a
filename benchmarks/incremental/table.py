"""Tables of what a network remembers, by its memory."""

from pathlib import Path

from benchmarks.wording import NOTHING, SETS
from pcdistill.evaluation import mean_std
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Table, accuracy_cell

STAGES = 3  # of `incremental.py`


def incremental(records: list[Record]) -> str:
    """Accuracy over all classes seen after every stage, and of another domain, by memory."""
    found: dict[tuple[str, str, int, str], dict[int, Record]] = {}
    for record in records:
        found.setdefault((record.scenario, record.how, record.budget, record.arm), {})[record.stage] = record
    text = ""
    for scenario, stages in (("classes", STAGES), ("domain", 1)):
        rows = []
        for (kind, how, budget, arm), own in found.items():
            if kind != scenario or stages not in own:
                continue
            last = own[stages]
            cells = [accuracy_cell(own[stage]) for stage in range(1, stages + 1)] if scenario == "classes" else []
            cells += [_spread(accuracies) for accuracies in (last.old_accuracy, last.new_accuracy)]
            size = {"none": "0", "all": "all"}.get(arm, f"{budget:,}")
            rows.append([{"none": "none", "all": "all clouds"}.get(arm, SETS.get(arm, arm)), size, how,
                         f"{last.memory_kb:,.1f}", *cells])  # fmt: skip
        seen = [f"{10 + 10 * stage} classes" for stage in range(1, stages + 1)]
        shown = [*seen, "of these old", "new"] if scenario == "classes" else ["clean", "lidar"]
        if rows:
            text += Table(["memory", "bytes per class", "trained", "kB", *shown], rows).markdown() + "\n"
    return text.removesuffix("\n")


def _spread(values: list[float]) -> str:
    mean, deviation = mean_std(values)
    return f"{100 * mean:.1f} ± {100 * deviation:.1f}"


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"incremental": incremental(read_records(folder / "records.jsonl")) or NOTHING}

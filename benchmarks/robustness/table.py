"""Table of accuracy under other conditions."""

from pathlib import Path

from benchmarks.wording import NAMES, NETWORKS, NOTHING, ORDER, SETS
from pcdistill.evaluation import mean_std
from pcdistill.results.by_condition import Column, Row, columns_of, rows_of, values
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Table, all_runs_of


def robustness(records: list[Record]) -> str:
    """Accuracy under other conditions: views as rows, training sets as columns; a table per data set and network."""
    places: dict[tuple[str, str, str], dict[tuple[int, float], list[Record]]] = {}
    for record in records:
        if record.arm in ORDER:
            sets = places.setdefault((record.dataset, record.network, _conditions(record)), {})
            sets.setdefault((ORDER.index(record.arm), record.bytes_per_class), []).append(record)
    parts = []
    for (dataset, network, conditions), sets in sorted(places.items()):
        columns = {place: columns_of(sets[place]) for place in sorted(sets)}
        arms = [ORDER[arm] for arm, _ in columns]
        labels = [f"{SETS.get(arm, arm)}, {size:,.0f} bytes" for arm, (_, size) in zip(arms, columns, strict=True)]
        rows = []
        for row in rows_of([column for group in columns.values() for column in group]):
            line = [_view_cell(row, group) for group in columns.values()]
            rows += [[row.label, *line]] if set(line) != {"–"} else []
        runs = all_runs_of(record for group in sets.values() for record in group)
        title = f"{NAMES.get(dataset, dataset)}, {NETWORKS.get(network, network)}, {conditions}, {runs}:\n\n"
        parts.append(title + Table(["view", *labels], rows).markdown())
    return "\n".join(parts)


def _conditions(record: Record) -> str:
    """How a record's networks were trained and tested, but for rotations in training, which rows tell apart."""
    steps = (record.recipe or {})["steps"]
    protocol = f"protocol `{record.protocol.replace('*', '')}`" + (f" at {steps} steps" if steps else "")
    return protocol + (", test clouds thinned" if record.thin else "")


def _view_cell(row: Row, columns: list[Column]) -> str:
    """Of the networks trained under the row's rotation; where it has none, of those trained as the recipe says."""
    for column in sorted(columns, key=lambda column: (column.rotation != "none", -len(column.records))):
        found = values(row, column)
        if found is not None:
            mean, deviation = mean_std(found)
            return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(found) > 1 else "")
    return "–"


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"robustness": robustness(read_records(folder / "records.jsonl")) or NOTHING}

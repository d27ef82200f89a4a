"""Tables of sets of other fields: accuracies, and means over the classes."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.wording import alike, by_bytes
from pcdistill.results.record import Record, read_records
from pcdistill.results.table import Cell, Table, accuracy_cell

ARMS = {"random": "random", "medoid": "medoids", "thrift": "thrift", "krr": "distilled"}
QUOTAS = ("even", "root", "proportional", "gain")  # the first is that of the other tables


def quotas(shared: Sequence[Record], even: Sequence[Record]) -> str:
    """Ways in which classes share the bytes as rows, those of random clouds: accuracy, and mean over the classes."""
    found: dict[tuple[str, int], dict[str, Record]] = {}
    for record in shared:
        quota, size = str(record.variant).split()
        (same,) = alike(record.model_copy(update={"variant": size}), even)
        found.setdefault((record.dataset, int(size)), {"even": same})[quota] = record
    rows = [
        [dataset, f"{size:,}", quota, accuracy_cell(own[quota]), Cell.of(own[quota].class_accuracy)]
        for (dataset, size), own in sorted(found.items())
        for quota in QUOTAS
        if quota in own
    ]
    return Table(["", "bytes per class", "quota", "accuracy", "mean of classes"], rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = read_records(folder / "records.jsonl")
    return {
        "fields": by_bytes(records, ARMS),
        "fields_classes": by_bytes(records, ARMS, figure="class_accuracy"),
        "fields_quotas": quotas(read_records(folder / "quotas.jsonl"), records),
    }

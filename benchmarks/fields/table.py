"""Tables of sets of other fields: accuracies, and means over the classes."""

from pathlib import Path

from benchmarks.wording import by_bytes
from pcdistill.results.record import read_records

ARMS = {"random": "random", "medoid": "medoids", "krr": "distilled"}


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = read_records(folder / "records.jsonl")
    return {"fields": by_bytes(records, ARMS), "fields_classes": by_bytes(records, ARMS, figure="class_accuracy")}

"""Tables of sets whose points have parts: intersections over union, and accuracies of points."""

from pathlib import Path

from benchmarks.wording import by_bytes
from pcdistill.results.record import read_records

ARMS = {"random": "random", "medoid": "medoids", "krr": "distilled"}


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    records = [record for record in read_records(folder / "records.jsonl") if record.network == "pointnet-tiny-seg"]
    figures = {"parts": "class_miou", "parts_instances": "instance_miou", "parts_accuracy": "accuracy"}
    return {name: by_bytes(records, ARMS, figure) for name, figure in figures.items()}

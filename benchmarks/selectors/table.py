"""Table of selectors at equal bytes."""

from pathlib import Path

from benchmarks.wording import by_bytes
from pcdistill.results.record import read_records

ARMS = {"random": "random", "medoid": "medoids", "facility": "facility location"}


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"selectors": by_bytes(read_records(folder / "records.jsonl"), ARMS)}

"""Table of ways to spend the bytes of a set."""

from pathlib import Path

from benchmarks.wording import NOTHING, by_part
from pcdistill.results.record import read_records

PARTS = {"half": "half", "one": "one set", "uniform": "two halves", "focused": "second half focused",
         "again": "one set, focused"}  # fmt: skip


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"knowledge": by_part(read_records(folder / "records.jsonl"), "part", PARTS) or NOTHING}

"""Table of ways to teach on the student's own policy."""

from pathlib import Path

from benchmarks.wording import NOTHING, by_part
from pcdistill.results.record import read_records

LESSONS = {"hard": "hard", "online": "online", "relabel": "relabel", "unchosen": "mix, any", "mix": "mix, unsure",
           "move": "move"}  # fmt: skip


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"onpolicy": by_part(read_records(folder / "records.jsonl"), "lesson", LESSONS) or NOTHING}

"""Table of the built-in shapes, as that of networks."""

from pathlib import Path

from benchmarks.networks.table import networks
from pcdistill.results.record import read_records


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"shapes": networks(read_records(folder / "records.jsonl"), [])}

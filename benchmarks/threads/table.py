"""Table of what waiting threads cost."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def threads(facts: dict[str, Any]) -> str:
    """Seconds of the steps, by what OpenMP's threads do while they wait."""
    rows = {
        (row["threads"], row["busy"]): f"{row['median_seconds']:.1f} ({row['median_cpu_seconds']:.1f})"
        for row in facts["rows"]
    }
    names = list(dict.fromkeys(name for name, _ in rows))
    table = Table(["threads", "idle", "busy"], [[name, rows[name, False], rows[name, True]] for name in names])
    steps, repeats = facts["rows"][0]["steps"], len(facts["rows"][0]["seconds"])
    note = f"Seconds (of the processors, in brackets) of {steps} steps: medians, n = {repeats}. {facts['hardware']}."
    return f"{table.markdown()}\n{note}\n"


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"threads": threads(json.loads((folder / "records.json").read_text()))}

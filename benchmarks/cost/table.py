"""Table of what a step of every objective costs."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def costs(lines: list[dict[str, Any]]) -> str:
    """What a step of every objective costs."""
    rows = []
    for line in lines:
        where = ", ".join(f"{name.removeprefix('aten::')} {100 * share:.0f} %" for name, share in
                          list(line["operations"].items())[:3])  # fmt: skip
        name = " ".join([line["objective"], *line["options"]])
        rows.append([name, f"{line['seconds_per_step']:.3f}", str(line["steps"]), f"{line['prepare_seconds']:.0f}",
                     str(line["prepare_peak_mib"]), str(line["peak_mib"]), where])  # fmt: skip
    header = ["objective", "s / step", "steps", "prepare s", "MiB before", "peak MiB", "most time in"]
    return Table(header, rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"costs": costs(json.loads((folder / "records.json").read_text()))}

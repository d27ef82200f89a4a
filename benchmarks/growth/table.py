"""Table of how time and memory of condensing grow."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def growth(lines: list[dict[str, Any]]) -> str:
    """How time and memory of condensing grow; nothing where nothing was measured."""
    sizes = ("real_clouds", "classes", "clouds_per_class", "points")
    own = sorted((line for line in lines if line["dataset"] == "growth"), key=lambda line: [line[n] for n in sizes])
    rows = [
        [
            *(f"{line[name]:,}" for name in sizes),
            f"{line['fingerprint_seconds'] + line['select_seconds']:.1f}", f"{line['prepare_seconds']:.1f}",
            f"{line['distill_seconds']:.1f}", f"{line['distill_seconds'] / line['steps']:.3f}",
            str(line["networks"]), str(line["start_mib"]), str(line["peak_mib"]), f"{line['file_mib']:,}",
        ]
        for line in own
    ]  # fmt: skip
    header = ["real clouds", "classes", "clouds / class", "points", "select s", "prepare s", "distil s", "s / step",
              "networks", "MiB before", "peak MiB", "file MiB"]  # fmt: skip
    return Table(header, rows).markdown() if rows else ""


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    lines = (folder / "records.jsonl").read_text().splitlines()
    return {"growth": growth([json.loads(line) for line in lines])}

"""Table of networks as files for devices."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES, SETS
from pcdistill.results.table import Table


def deployed(lines: dict[str, Any]) -> str:
    """Files for devices: size, accuracy and time."""
    rows = []
    for line in lines.values():
        cells = [
            f"{100 * line['spread'][kind]['mean']:.1f} ± {100 * line['spread'][kind]['std']:.1f}"
            for kind in ("float32", "int8", "tuned")
        ]
        times = [f"{line['latency']['int8']['1024'][name]:.2f}" for name in ("p50_ms", "p99_ms")]
        sizes = [f"{line['file_bytes'][kind] / 1000:.0f}" for kind in ("float32", "int8")]
        rows.append([
            NAMES.get(line["dataset"], line["dataset"]) + f", {SETS[line['arm']]}, {line['bytes_per_class']:,.0f}",
            line["network"].removeprefix("pointnet-") + (", taught" if line["taught"] else ""), *sizes, *cells,
            " / ".join(times), f"{max(line['parity']):.0e}", f"{line['latency']['int8']['1024']['peak_mib']:.0f}",
        ])  # fmt: skip
    header = ["trained on, bytes per class", "student", "float32 kB", "int8 kB", "float32 %", "int8 %",
              "int8, fine-tuned %", "ms, p50 / p99", "parity", "peak MiB"]  # fmt: skip
    return Table(header, sorted(rows)).markdown() if rows else ""


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"deployed": deployed(json.loads((folder / "records.json").read_text()))}

"""Tables of how fast networks are trained."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def speed(found: dict[str, Any]) -> str:
    """Seeds one by one and at once, the share of the matrix-product peak, and torch.compile, as far as measured."""
    parts: dict[str, list[list[str]]] = {"seeds": [], "peak": [], "compile": []}
    for name, facts in found.items():
        part, threads = name.split()
        for line in facts["lines"]:
            precision = "bfloat16" if line.get("bf16") else "float32"
            if part == "seeds":
                cells = [line["network"], precision, threads, str(line["points"]), str(line["at_once"]),
                         f"{line['sequential_ms']:.1f}", f"{line['stacked_ms']:.1f}",
                         f"{line['speedup']:.2f} x"]  # fmt: skip
            elif part == "peak":
                cells = [line["network"], precision, threads, str(line["points"]), f"{line['step_ms']:.0f}",
                         f"{line['peak_gflops']:.0f}", f"{100 * line['fraction_of_peak']:.0f} %",
                         f"{100 * line['dense_fraction_of_peak']:.0f} %"]  # fmt: skip
            else:
                cells = [
                    line["way"],
                    threads,
                    str(line["points"]),
                    f"{line['first_step_s']:.1f}",
                    f"{line['step_ms']:.0f}",
                ]
            parts[part].append(cells)
    headers = {
        "seeds": ["seeds", "precision", "threads", "points", "at once", "one by one ms", "stacked ms", "speed-up"],
        "peak": ["peak", "precision", "threads", "points", "step ms", "peak GFLOP/s", "of the peak", "dense"],
        "compile": ["compile", "threads", "points", "first step s", "step ms"],
    }
    return "\n".join(Table(headers[part], rows).markdown() for part, rows in parts.items() if rows)


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"speed": speed(json.loads((folder / "records.json").read_text()))}

"""Table of the trials on validation."""

import json
from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES
from pcdistill.results.table import Table


def trials(lines: list[dict[str, Any]]) -> str:
    """A line per trial: what was tried, at what size, and the accuracy of networks trained on it."""
    rows = [
        [
            NAMES[line["dataset"]]
            + ", "
            + " ".join([line["arm"], *(f"{name}={json.dumps(value)}" for name, value in line["settings"].items())]),
            f"{100 * line['accuracy_mean']:.1f}",
            str(len(line["accuracy"])),
            f"{line['bytes_per_class']:,.0f}",
            f"{line['clouds_per_class']:g} x {line['points']} @ {line['bits']}",
            str(line["train_steps"]),
        ]
        for line in lines
    ]
    header = ["trial", "accuracy %", "n", "bytes per class", "clouds x points @ bits", "steps of training"]
    return Table(header, rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the trials in this folder, by the name of the block that a table stands in."""
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return {"search": trials([json.loads(line) for line in lines])}

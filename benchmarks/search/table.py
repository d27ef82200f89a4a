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
            NAMES[line["dataset"]],
            " ".join([line["arm"], *(f"{name}={json.dumps(value)}" for name, value in line["settings"].items())]),
            f"{line['clouds_per_class']:g} x {line['points']} @ {line['bits']}",
            f"{line['bytes_per_class']:,.0f}",
            str(line["train_steps"]),
            f"{100 * line['accuracy_mean']:.1f}",
            str(len(line["accuracy"])),
        ]
        for line in lines
    ]
    header = ["data", "trial", "clouds x points @ bits", "bytes per class", "steps of training", "accuracy %", "n"]
    return Table(header, rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the trials in this folder, by the name of the block that a table stands in."""
    lines = (folder / "trials.jsonl").read_text().splitlines()
    return {"search": trials([json.loads(line) for line in lines])}

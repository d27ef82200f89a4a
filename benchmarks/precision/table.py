"""Table of trainings with and without bfloat16."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def precision(facts: dict[str, Any]) -> str:
    """Accuracies in per cent by seed, and the mean difference."""
    seeds = [f"seed {seed}" for seed in facts["seeds"]]
    rows = [[name, *(f"{100 * value:.1f}" for value in values)] for name, values in facts["accuracy"].items()]
    mean, deviation = facts["difference_mean"], facts["difference_std"]
    return Table(["", *seeds], rows).markdown() + (
        f"\n{facts['dataset']}, {facts['clouds_per_class']} medoids of {facts['points']} points per class: bfloat16 is "
        f"{100 * mean:+.1f} ± {100 * deviation:.1f} points from float32.\n"
    )


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"precision": precision(json.loads((folder / "records.json").read_text()))}

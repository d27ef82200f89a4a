"""Accuracy against bytes per class: a curve per method, what papers print, and the whole set as a level.

python -m benchmarks.frontier.plot    # writes modelnet10 and modelnet40, .png and .svg
"""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.wording import BUDGETS, NAMES
from pcdistill.results.plots import Curve, Point, accuracy_plot
from pcdistill.results.record import Record, read_records

HERE = Path(__file__).parent
METHODS = {
    "krr": "distilled (krr)", "random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids",
}  # fmt: skip
DATASETS = ("modelnet10", "modelnet40")


def draw(dataset: str, records: Sequence[Record], float32: Sequence[Record], path: Path) -> None:
    """One picture.

    Args:
        dataset: whose records are shown.
        records: of the frontier.
        float32: of the folder `sizes`, of which random clouds of 1024 points in float32 are what papers store.
        path: .png or .svg.
    """
    own = [record for record in records if record.dataset == dataset and record.protocol.startswith("tuned")]
    curves, levels = [], []
    for arm, name in METHODS.items():
        line = sorted((record for record in own if record.arm == arm), key=lambda record: record.bytes_per_class)
        if line:
            curves.append(curve(name, line))
    plain = [record for record in float32 if record.dataset == dataset and _plain(record)]
    if plain:
        curves.append(curve("random, float32", plain))
    for record in own:
        if record.arm == "whole":
            levels.append(curve(f"whole set, {record.bytes_per_class:,.0f} bytes", [record]))
    points = [
        Point(one["method"], one["bytes_per_class"], one["accuracy"])
        for one in json.loads((HERE.parent / "published.json").read_text())["points"]
        if one["dataset"] == dataset
    ]
    note = "PointNet, test clouds of 1024 points; mean ± standard deviation."
    accuracy_plot(
        curves, levels, path, f"{NAMES[dataset]}: accuracy against bytes per class", note, points, ticks=BUDGETS
    )


def _plain(record: Record) -> bool:
    """Whether this is what papers store: random float32 clouds of 1024 points."""
    return (record.arm, record.points, record.bits) == ("random", 1024, 32) and record.protocol.startswith("tuned")


def curve(label: str, line: Sequence[Record]) -> Curve:
    """The records of a method as a line of the plot, in their order."""
    return Curve(
        label,
        [record.bytes_per_class for record in line],
        [record.accuracy_mean for record in line],
        [record.accuracy_std for record in line],
        line[0].arm,
        line[0].storage or "",
    )


def main() -> None:
    """Draw both data sets."""
    records, float32 = (read_records(HERE.parent / name / "records.jsonl") for name in ("frontier", "sizes"))
    for dataset in DATASETS:
        for ending in ("png", "svg"):
            draw(dataset, records, float32, HERE / f"{dataset}.{ending}")


if __name__ == "__main__":
    main()

"""Accuracy against bytes per class, voxels beside coded points.

python -m benchmarks.voxels.plot    # writes modelnet10 and modelnet40, .png and .svg
"""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.frontier.plot import curve
from benchmarks.wording import BUDGETS, NAMES
from pcdistill.results.plots import Point, accuracy_plot
from pcdistill.results.record import WHOLE, Record, read_records

HERE = Path(__file__).parent
VOXELS = {"random": "voxels, random", "medoid": "voxels, medoids", "krr": "voxels, distilled"}
CODED = {"random": "coded, random", "krr": "coded, distilled"}


def draw(dataset: str, voxels: Sequence[Record], coded: Sequence[Record], path: Path) -> None:
    """One picture: `voxels` are the records of this folder, `coded` those of `frontier`; path is a .png or .svg."""
    own, other = (_tuned(records, dataset) for records in (voxels, coded))
    curves = [
        curve(name, line)
        for names, records in ((VOXELS, own), (CODED, other))
        for arm, name in names.items()
        if (line := [one for one in records if one.arm == arm])
    ]
    wholes = [one for one in other if one.arm == WHOLE]
    levels = [curve(f"whole set, {one.bytes_per_class:,.0f} bytes", [one]) for one in wholes]
    printed = json.loads((HERE.parent / "published.json").read_text())["points"]
    points = [
        Point(one["method"], one["bytes_per_class"], one["accuracy"]) for one in printed if one["dataset"] == dataset
    ]
    note = "PointNet, test clouds of 1024 points; mean ± standard deviation."
    accuracy_plot(
        curves, levels, path, f"{NAMES[dataset]}: accuracy against bytes per class", note, points, ticks=BUDGETS
    )


def _tuned(records: Sequence[Record], dataset: str) -> list[Record]:
    own = [one for one in records if one.dataset == dataset and one.protocol.startswith("tuned")]
    return sorted(own, key=lambda record: record.bytes_per_class)


def main() -> None:
    """Draw both data sets."""
    voxels, coded = (read_records(HERE.parent / name / "records.jsonl") for name in ("voxels", "frontier"))
    for dataset in ("modelnet10", "modelnet40"):
        for ending in ("png", "svg"):
            draw(dataset, voxels, coded, HERE / f"{dataset}.{ending}")


if __name__ == "__main__":
    main()

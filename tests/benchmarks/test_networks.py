"""The table of networks by what they are trained on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import wording
from benchmarks.networks.table import networks
from pcdistill.results.record import Record

HERE = Path(__file__).parents[2] / "benchmarks"


def rows_of(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def crossed(
    arm: str, network: str, size: int | None, accuracy: Sequence[float], validation: bool = False, **changes: Any
) -> Record:
    mean = sum(accuracy) / len(accuracy)
    return Record(**{
        "benchmark": "networks", "dataset": "modelnet10", "arm": arm.removesuffix("-pool"), "distilled": False,
        "objective": None, "storage": "coded", "clouds_per_class": 9.9, "points": 128, "bits": 5,
        "bytes_per_class": 1229.0, "protocol": "tuned v2", "network": network, "distill_network": None,
        "accuracy": list(accuracy), "accuracy_mean": mean, "accuracy_std": 0.02, "class_accuracy_mean": mean,
        "distill_seeds": [0], "train_seeds": [0], "distill_seconds": 1.0, "prepare_seconds": 1.0, "train_seconds": 1.0,
        "peak_mib": 1, "command": "", "commit": "", "versions": {}, "hardware": "", "date": "",
        "variant": f"{arm} {size} validation={validation}", "thin": True, "test_points": 1024,
        "recipe": {"steps": 600}, **changes,
    })  # fmt: skip


def test_networks_are_columns_and_the_best_of_a_size_is_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    best = lambda own: max(own, key=lambda one: one.accuracy_mean) if len(own) > 1 else None  # noqa: E731
    monkeypatch.setattr(wording, "clear_best", best)
    papers = json.loads((HERE / "published.json").read_text())["networks"]
    records = [
        crossed("whole", "dgcnn", None, [0.9], bytes_per_class=613017.6),
        crossed("random", "dgcnn", 12288, [0.8]),
        crossed("krr", "dgcnn", 12288, [0.7, 0.8], accuracy_std=0.07),
        crossed("krr", "pointnet", 12288, [0.6]),
        crossed("krr-pool", "pointnet", 1229, [0.5]),
        crossed("krr", "pointnet", 1229, [0.55]),
        crossed("random", "pointnet", 1229, [0.99], validation=True),
    ]
    assert rows_of(networks(records, papers))[:-3] == [
        ["bytes per class", "trained on", "PointNet"],
        [":--", "--:", "--:"],
        ["ModelNet10, 1,229", "distilled", "**55.0**"],
        ["ModelNet10, 1,229", "distilled, pool", "50.0"],
        ["bytes per class", "trained on", "DGCNN"],
        [":--", "--:", "--:"],
        ["ModelNet10, 12,288", "random", "**80.0**"],
        ["ModelNet10, 613,018", "whole set", "90.0"],
        ["bytes per class", "trained on", "PointNet", "DGCNN"],
        [":--", "--:", "--:", "--:"],
        ["ModelNet10, 12,288", "distilled", "60.0", "75.0 ± 7.0"],
        ["bytes per class", "trained on", "PointNet++", "DGCNN", "PointConv", "Point Transformer"],
        [":--", "--:", "--:", "--:", "--:", "--:"],
    ]
    rows = rows_of(networks(records, papers))[-3:]
    assert [row[1] for row in rows] == ["DM, printed", "DC, printed", "SADM, printed"]
    assert rows[-1][2:] == ["82.9 ± 1.4", "79.0 ± 2.2", "56.6 ± 4.9", "77.6 ± 1.6"]
    text = networks(records, papers, only=("12288",))
    sizes = {row[0] for row in rows_of(text) if row[0].startswith("ModelNet")}
    assert sizes == {"ModelNet10, 12,288", "ModelNet10, 613,018", "ModelNet10"}
    assert "`tuned v2`, 600 steps; training and test clouds of 128 points; 1 set x 1 network" in text
    assert networks([], papers) == ""

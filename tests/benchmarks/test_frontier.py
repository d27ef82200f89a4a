"""The frontier's plots and table show what the records say, and the fitted one is that of the trials."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import wording
from benchmarks.frontier.plot import draw
from benchmarks.frontier.table import frontier
from benchmarks.search import fit
from pcdistill.condense.shape import _frontier
from pcdistill.results.record import Record

HERE = Path(__file__).parents[2] / "benchmarks"


def record(arm: str, size: int | None, accuracy: float, dataset: str = "modelnet10", **changes: Any) -> Record:
    return Record(**{
        "benchmark": "frontier", "dataset": dataset, "arm": arm, "distilled": arm == "krr", "objective": None,
        "storage": "coded", "clouds_per_class": None if arm == "whole" else 9.9, "points": 128, "bits": 5,
        "bytes_per_class": float(size or 4904141), "protocol": "tuned v2", "network": "pointnet",
        "distill_network": None, "accuracy": [accuracy, accuracy + 0.02], "accuracy_mean": accuracy + 0.01,
        "accuracy_std": 0.014, "class_accuracy_mean": accuracy, "distill_seeds": [0, 1], "train_seeds": [0, 100],
        "distill_seconds": 1.0, "prepare_seconds": 1.0, "train_seconds": 1.0, "peak_mib": 1, "command": "",
        "commit": "", "versions": {}, "hardware": "", "date": "", "variant": str(size), **changes,
    })  # fmt: skip


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_drawn_from_records(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [record(arm, size, 0.8) for arm in ("krr", "random") for size in (1229, 12288)]
    path = tmp_path / f"plot.{ending}"
    float32 = [record("random", 12288, 0.7, points=1024, bits=32)]
    draw("modelnet10", [*records, record("whole", None, 0.9)], float32, path)
    first = path.read_bytes()
    draw("modelnet10", [*records, record("whole", None, 0.9)], float32, path)
    assert path.read_bytes() == first
    if ending == "svg":
        text = path.read_text()
        assert all(name in text for name in ("distilled", "SADM", "3DDP", "whole set", "random, float32"))


def test_the_table_shows_what_stands_at_equal_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    best = lambda own: max(own, key=lambda one: one.accuracy_mean) if len(own) > 1 else None  # noqa: E731
    monkeypatch.setattr(wording, "clear_best", best)
    papers = json.loads((HERE / "published.json").read_text())["points"]
    records = [record("krr", 12288, 0.9), record("random", 12288, 0.8), record("whole", None, 0.93)]
    text = frontier([*records, record("krr", 1229, 0.85), record("krr", 12288, 0.7, "modelnet40")], papers)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    rows = {
        cells[0]: dict(zip(header, cells, strict=True)) for header, _, cells in zip(*[iter(lines)] * 3, strict=True)
    }
    assert list(rows) == ["ModelNet10, 1,229", "ModelNet10, 12,288", "ModelNet40, 12,288"]
    assert list(rows["ModelNet10, 1,229"])[1:3] == ["distilled", "whole set"]
    assert list(rows["ModelNet10, 12,288"].values())[1:6] == [
        "81.0 ± 1.4",
        "**91.0 ± 1.4**",
        "44.7",
        "87.7",
        "94.0 ± 1.4",
    ]
    assert list(rows["ModelNet40, 12,288"])[1:4] == ["distilled", "SADM", "3DDP"]
    assert "\nProtocol `tuned v2`. Mean" in text


def test_the_fitted_frontier_is_that_of_the_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fit, "TARGET", tmp_path / "frontier.json")
    fit.main()
    assert json.loads((tmp_path / "frontier.json").read_text())["fit"] == pytest.approx(_frontier(), rel=0.05)

"""The frontier benchmark: its arms survive their own command lines, its plots and tables show what the records say."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pcdistill.allocation import _frontier
from pcdistill.data import load
from pcdistill.evaluation import Record

Script = Callable[[Path], ModuleType]
HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def frontier(script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    module = script(HERE / "frontier.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "frontier.jsonl")
    return module


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


def test_every_listed_arm_survives_its_own_command_line(frontier: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def measure(arm: Any) -> Record:
        seen.append(arm)
        return record(arm.arm, arm.bytes_per_class, 0.5, arm.dataset, command=arm.command)

    monkeypatch.setattr(frontier, "measure", measure)
    for arm in frontier.arms():
        monkeypatch.setattr(sys, "argv", ["frontier.py", *arm.options()])
        frontier.main()
    assert seen == frontier.arms()
    assert len({arm.command for arm in seen}) == len(seen)
    assert {(arm.dataset, arm.bytes_per_class) for arm in seen} >= {
        (dataset, size) for dataset in ("modelnet10", "modelnet40") for size in (1229, 12288, 36864, 122880, None)
    }


@pytest.mark.parametrize("words", [[], ["modelnet10"], ["modelnet10", "krr"], ["modelnet10", "whole", "--bytes", "9"]])
def test_half_a_command_is_refused(
    words: list[str], frontier: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["frontier.py", *words])
    with pytest.raises(SystemExit, match="2"):
        frontier.main()
    assert "--bytes are needed" in capsys.readouterr().err


def test_an_arm_is_made_as_the_command_line_would(frontier: ModuleType) -> None:
    """Of the built-in shapes: the budget is kept, and the seed is that of the selection."""
    train = load("shapes", "train")
    made = frontier.make(frontier.Arm("shapes", "random", 900, 1, points=32, bits=4), train, 3)
    assert 850 < made.bytes_per_class <= 900
    assert (made.metadata.points, made.metadata.bits, made.metadata.selection["seed"]) == (32, 4, 3)
    assert frontier.make(frontier.Arm("shapes", "whole", None, 1), train, 0) is train


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_plot_is_drawn_from_records(ending: str, frontier: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [record(arm, size, 0.8) for arm in ("krr", "random") for size in (1229, 12288)]
    path = tmp_path / f"plot.{ending}"
    frontier.draw("modelnet10", [*records, record("whole", None, 0.9)], path)
    first = path.read_bytes()
    frontier.draw("modelnet10", [*records, record("whole", None, 0.9)], path)
    assert path.read_bytes() == first
    if ending == "svg":
        text = path.read_text()
        assert all(name in text for name in ("distilled", "SADM", "3DDP", "whole set"))


def test_the_table_shows_what_stands_at_equal_bytes(script: Script) -> None:
    tables = script(HERE / "tables.py")
    papers = json.loads((HERE / "results" / "published.json").read_text())["points"]
    records = [record("krr", 12288, 0.9), record("random", 12288, 0.8), record("whole", None, 0.93)]
    text = tables.frontier([*records, record("krr", 1229, 0.85), record("krr", 12288, 0.7, "modelnet40")], papers)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    assert [row[0] for row in rows] == ["ModelNet10, 1,229", "ModelNet10, 12,288", "ModelNet40, 12,288"]
    assert rows[1][3] == "81.0 ± 1.4"
    assert rows[1][7:] == ["**91.0 ± 1.4**", "44.7", "87.7", "94.0 ± 1.4"]
    assert rows[2][8:] == ["55.8", "73.2", "–"]


def test_the_fitted_frontier_is_that_of_the_trials(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fit = script(HERE / "fit.py")
    monkeypatch.setattr(fit, "TARGET", tmp_path / "frontier.json")
    fit.main()
    assert json.loads((tmp_path / "frontier.json").read_text())["fit"] == pytest.approx(_frontier(), rel=0.05)

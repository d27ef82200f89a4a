"""The benchmark of the choice of a teacher, on a tiny set, with nothing written in `benchmarks/`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.evaluation import read_records

HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def ladder(
    script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None
) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    module = script(HERE / "ladder.py")
    monkeypatch.delitem(sys.modules, "networks")
    monkeypatch.setattr(module.cross, "SETS", tmp_path / "sets")
    monkeypatch.setattr(module.cross, "POINTS", 16)
    monkeypatch.setattr(module.cross.Cell, "plan", lambda cell: module.protocol("tuned", cell.network).changed(steps=2))
    monkeypatch.setattr(module.cross.Cell.__new__, "__defaults__", (None, 16, 6, 1, 2, False))
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "ladder.jsonl")
    monkeypatch.setattr(module, "LADDERS", tmp_path / "ladders")
    for name, value in {"BYTES": 120, "TEACHERS": ("pointnet-small", "pointnet-tiny"), "STEPS": 4}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module, "SHARES", (0.5, 1.0))
    monkeypatch.setattr(module, "TEMPERATURES", (1.0, 2.0))
    return module


def test_choice_first_then_the_test_split(
    ladder: ModuleType, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ladder.PARTS:
        monkeypatch.setattr(sys, "argv", ["ladder.py", str(tiny_file), "random", part, "--networks", "2"])
        ladder.main()
    found = {(one.model_extra or {})["part"]: one for one in read_records(ladder.RESULTS)}
    told = {part: one.model_extra or {} for part, one in found.items()}
    assert [told[part]["split"] for part in ladder.PARTS] == ["the last fifth of train held out", *["test"] * 3]
    assert "teacher" not in told["hard"]
    tops = max(one["teacher_accuracy"] for one in told["choose"]["ladder"] if len(one["files"]) == 1)
    assert told["strongest"]["rung"]["teacher_accuracy"] == tops
    assert told["chosen"]["teacher"]["temperature"] == told["chosen"]["rung"]["temperature"]
    assert "without" in (tmp_path / "ladders" / "tiny.h5-random" / "table.md").read_text()
    assert len(found["chosen"].accuracy) == 2


def test_cells_are_told_apart(ladder: ModuleType) -> None:
    listed = ladder.cells()
    assert len({cell.command for cell in listed}) == len(listed) == 8

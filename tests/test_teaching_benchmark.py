"""The benchmark of labels, on a tiny set, with nothing written in `benchmarks/`."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pcdistill.evaluation import read_records

HERE = Path(__file__).parents[1] / "benchmarks"
SIZE = ("--bytes", 120, "--student", "pointnet-tiny", "--sets", 1, "--networks", 1, "--bits", 6)


@pytest.fixture
def teaching(
    script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None
) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    module = script(HERE / "teaching.py")
    monkeypatch.delitem(sys.modules, "networks")
    monkeypatch.setattr(module.cross, "SETS", tmp_path / "sets")
    monkeypatch.setattr(module.cross, "POINTS", 16)
    monkeypatch.setattr(module.cross.Cell, "plan", lambda cell: module.protocol("tuned", cell.network).changed(steps=2))
    monkeypatch.setattr(module.cross.Cell.__new__, "__defaults__", (None, 16, 6, 1, 2, False))
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "teaching.jsonl")
    monkeypatch.setattr(module, "TEACHERS", tmp_path / "teachers")
    monkeypatch.setattr(module, "TEACHER", "pointnet-small")
    monkeypatch.setattr(module, "TEACHER_STEPS", 3)
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["teaching.py", *map(str, words)])
    return module.main()


def test_labels_at_equal_bytes(teaching: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for labels in teaching.LABELS:
        called(teaching, monkeypatch, tiny_file, "random", labels, *SIZE)
    found = {(one.model_extra or {})["labels"]: one for one in read_records(teaching.RESULTS)}
    hard, static, views, online = (found[labels] for labels in teaching.LABELS)
    assert hard.bytes_per_class == online.bytes_per_class <= 120
    assert static.bytes_per_class <= hard.bytes_per_class
    assert static.clouds_per_class < hard.clouds_per_class
    assert views.bytes_per_class <= hard.bytes_per_class
    assert views.clouds_per_class <= static.clouds_per_class
    assert (views.model_extra or {})["expansion"]["views"] == 3
    losses = {labels: (one.model_extra or {})["recipe"] for labels, one in found.items()}
    assert losses["static"]["temperature"] == 4
    assert (losses["online"]["soft_loss"], losses["hard"]["soft_loss"]) == ("mse", "kl")
    told = {labels: one.model_extra or {} for labels, one in found.items()}
    assert told["online"]["labelling_gflops"] > told["static"]["labelling_gflops"] > 0
    assert told["online"]["teacher"]["network"] == "pointnet-small"
    assert "teacher" not in told["hard"]


def test_products_are_counted(teaching: ModuleType, tiny_clouds: Any) -> None:
    """Two operations a product: three shared layers of 16 points each, and the head."""
    per_point, head = 3 * 64 + 64 * 128 + 128 * 256, 256 * 128 + 128 * 3
    assert teaching.flops("pointnet-small", 3, 5, tiny_clouds, False) == 2 * 5 * (16 * per_point + head)


def test_every_listed_cell_survives_its_own_command_line(teaching: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measure(cell: Any) -> None:
        seen.append(cell)
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching, "measure", measure)
    listed = teaching.cells()
    for cell in listed:
        with pytest.raises(KeyboardInterrupt):
            called(teaching, monkeypatch, *shlex.split(cell.command)[2:])
    assert seen == listed
    assert len({cell.command for cell in listed}) == len(listed)

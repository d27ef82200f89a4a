"""The benchmark of class after class, on the built-in shapes, with nothing written in `benchmarks/`."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.evaluation import Record, of_classes, read_records
from pcdistill.models import Network

HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def incremental(
    script: Callable[[Path], ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    short_recipes: None,
    tiny_clouds: PointClouds,
) -> ModuleType:
    """With two classes first and then the third one."""
    monkeypatch.syspath_prepend(HERE)
    module = script(HERE / "incremental.py")
    monkeypatch.delitem(sys.modules, "networks")
    sets = {"modelnet40": tiny_clouds, "modelnet10": of_classes(tiny_clouds, [1, 0])}

    def load(name: str, split: str, points: int = 0) -> PointClouds:
        every = torch.arange(len(sets[name]))
        return replace(sets[name][every[every % 4 != 0] if split == "train" else every[every % 4 == 0]])

    usual = module.DistillConfig
    monkeypatch.setattr(module, "load", load)
    monkeypatch.setattr(module, "DistillConfig", lambda **given: usual(**{**given, "steps": 2, "networks": 1}))
    changed = {"RESULTS": tmp_path / "results" / "incremental.jsonl", "KEPT": tmp_path / "kept", "POINTS": 16,
               "FIRST": 3, "STEPS": 3, "STAGES": 1, "NEW": 1, "BITS": 6, "SHOTS": 2}  # fmt: skip
    for name, value in changed.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module.cross, "SETS", tmp_path / "sets")
    monkeypatch.setattr(module, "plan", lambda: module.protocol("tuned", module.STUDENT, 64).changed(steps=3))
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> list[dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["incremental.py", *map(str, words)])
    module.main()
    return [one.model_dump() for one in read_records(module.RESULTS)]


@pytest.mark.parametrize("arm", ["none", "random", "krr", "all"])
def test_a_stage_is_a_record(
    arm: str, incremental: ModuleType, script: Callable[[Path], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = () if arm in ("none", "all") else ("--bytes", 120)
    first, last = called(incremental, monkeypatch, "classes", arm, *size, "--seeds", 2)
    assert (first["class_names"], last["class_names"]) == (["box", "ball"], ["box", "ball", "ring"])
    assert (first["stage"], last["stage"], first["old_accuracy"], first["memory_kb"]) == (0, 1, [], 0)
    for run in range(2):  # four of six test clouds are of old classes
        assert last["accuracy"][run] == pytest.approx(
            (4 * last["old_accuracy"][run] + 2 * last["new_accuracy"][run]) / 6
        )
    confusion = torch.tensor(last["confusion"])
    assert confusion.sum(1).tolist() == [4, 4, 4]  # of both runs
    assert confusion[:2].diagonal().sum() / 8 == pytest.approx(sum(last["old_accuracy"]) / 2)
    assert last["arm"] == arm
    memories = {"none": 0.0, "all": 12 * 16 * 3 * 4 / 1000}  # float32 of twelve clouds
    if arm in memories:
        assert last["memory_kb"] == memories[arm]
    else:
        files = sorted(path.name for path in incremental.KEPT.glob("*.h5"))
        assert files == [f"modelnet40-0-{arm}-120-{seed}.h5" for seed in range(2 if arm == "random" else 1)]
        assert 0 < last["memory_kb"] <= 2 * 120 / 1000
    assert last["bytes_per_class"] == pytest.approx(1000 * last["memory_kb"] / 3)
    tables = script(HERE / "tables.py")
    monkeypatch.setattr(tables, "STAGES", 1)
    row = tables.incremental(read_records(incremental.RESULTS)).splitlines()[2]
    shown = [cell.strip() for cell in row.split("|")[1:-1]]
    assert shown[2:4] == ["whole", f"{last['memory_kb']:,.1f}"]
    assert shown[4].startswith(f"{50 * sum(last['accuracy']):.1f} ± ")
    assert shown[5].startswith(f"{50 * sum(last['old_accuracy']):.1f} ± ")


def test_all_cells_begin_with_the_same_network(
    incremental: ModuleType, tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(incremental, monkeypatch, "classes", "none", "--seeds", 1)

    def never(*given: Any) -> Network:
        raise AssertionError(given)

    monkeypatch.setattr(incremental, "train", never)
    records = called(incremental, monkeypatch, "classes", "none", "--seeds", 1, "--how", "head")
    assert [(one["how"], one["stage"]) for one in records] == [("whole", 0), ("whole", 1), ("head", 0), ("head", 1)]
    assert records[0]["right"] == records[2]["right"]


def test_another_domain(incremental: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = called(incremental, monkeypatch, "domain", "all", "--seeds", 1)
    assert before["class_names"] == after["class_names"] == ["box", "ball"]
    assert before["test_set"] == after["test_set"]
    for one in (before, after):
        assert one["accuracy"][0] == pytest.approx((one["old_accuracy"][0] + one["new_accuracy"][0]) / 2)
    assert (before["memory_kb"], after["memory_kb"]) == (0, 12 * 16 * 3 * 4 / 1000)


def test_what_is_recorded_is_drawn_and_not_measured_again(
    incremental: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(incremental, monkeypatch, "classes", "random", "--bytes", 120, "--seeds", 1)
    cell = incremental.Cell("classes", "random", 120, seeds=1)
    other = incremental.Cell("domain", "none")
    started: list[list[str]] = []
    monkeypatch.setattr(incremental, "cells", lambda: [cell, other])
    monkeypatch.setattr(incremental, "BUDGETS", (120,))
    monkeypatch.setattr(incremental.cross.subprocess, "run", lambda words, **_: started.append(words[1:]))
    called(incremental, monkeypatch, "--all")
    assert [" ".join(["python", *words]) for words in started] == [other.command]
    folder = incremental.RESULTS.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "incremental-120.png", "incremental-120.svg", "incremental.jsonl",
    ]  # fmt: skip
    assert all(isinstance(one, Record) for one in read_records(incremental.RESULTS))


def test_cells_are_told_apart(incremental: ModuleType) -> None:
    commands = [cell.command for cell in incremental.cells()]
    assert len(set(commands)) == len(commands)

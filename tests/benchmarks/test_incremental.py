"""The benchmark of class after class, on the built-in shapes, with nothing written in `benchmarks/`."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import sets
from benchmarks.incremental import measure
from benchmarks.incremental import table as tables
from pcdistill.clouds import PointClouds
from pcdistill.evaluation import of_classes
from pcdistill.models import Network
from pcdistill.results.record import Record, read_records


@pytest.fixture
def incremental(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None, tiny_clouds: PointClouds
) -> ModuleType:
    """With two classes first and then the third one."""
    clouds = {"modelnet40": tiny_clouds, "modelnet10": of_classes(tiny_clouds, [1, 0])}

    def load(name: str, split: str, points: int = 0) -> PointClouds:
        every = torch.arange(len(clouds[name]))
        return replace(clouds[name][every[every % 4 != 0] if split == "train" else every[every % 4 == 0]])

    usual = measure.distill
    monkeypatch.setattr(measure, "load", load)
    monkeypatch.setattr(measure, "distill", lambda real, **given: usual(real, **given, steps=2, members=1))
    changed = {"RECORDS": tmp_path / "records.jsonl", "KEPT": tmp_path / "kept", "POINTS": 16,
               "FIRST": 3, "STEPS": 3, "STAGES": 1, "NEW": 1, "BITS": 6, "SHOTS": 2}  # fmt: skip
    for name, value in changed.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(sets, "RUNS", tmp_path / "runs")
    how = measure.protocol_named("tuned", measure.STUDENT, 64).changed(steps=3)
    monkeypatch.setattr(measure, "protocol", lambda: how)
    return measure


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, cell: Any) -> list[dict[str, Any]]:
    module.keep(cell)
    return [one.model_dump() for one in read_records(module.RECORDS)]


@pytest.mark.parametrize("arm", ["none", "random", "krr", "all"])
def test_a_stage_is_a_record(arm: str, incremental: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 0 if arm in ("none", "all") else 120
    first, last = called(incremental, monkeypatch, incremental.Cell("classes", arm, size, seeds=2))
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
    monkeypatch.setattr(tables, "STAGES", 1)
    row = tables.incremental(read_records(incremental.RECORDS)).splitlines()[2]
    shown = [cell.strip() for cell in row.split("|")[1:-1]]
    assert shown[2:4] == ["whole", f"{last['memory_kb']:,.1f}"]
    assert shown[4].startswith(f"{50 * sum(last['accuracy']):.1f} ± ")
    assert shown[5].startswith(f"{50 * sum(last['old_accuracy']):.1f} ± ")


def test_all_cells_begin_with_the_same_network(
    incremental: ModuleType, tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(incremental, monkeypatch, incremental.Cell("classes", "none", seeds=1))

    def never(*given: Any) -> Network:
        raise AssertionError(given)

    monkeypatch.setattr(incremental, "train", never)
    records = called(incremental, monkeypatch, incremental.Cell("classes", "none", how="head", seeds=1))
    assert [(one["how"], one["stage"]) for one in records] == [("whole", 0), ("whole", 1), ("head", 0), ("head", 1)]
    assert records[0]["right"] == records[2]["right"]


def test_another_domain(incremental: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = called(incremental, monkeypatch, incremental.Cell("domain", "all", seeds=1))
    assert before["class_names"] == after["class_names"] == ["box", "ball"]
    assert before["test_set"] == after["test_set"]
    for one in (before, after):
        assert one["accuracy"][0] == pytest.approx((one["old_accuracy"][0] + one["new_accuracy"][0]) / 2)
    assert (before["memory_kb"], after["memory_kb"]) == (0, 12 * 16 * 3 * 4 / 1000)


def test_what_is_recorded_is_drawn_and_not_measured_again(
    incremental: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, other = incremental.Cell("classes", "random", 120, seeds=1), incremental.Cell("domain", "none")
    called(incremental, monkeypatch, cell)
    assert incremental.recorded(cell)
    assert not incremental.recorded(other)
    started: list[str] = []
    monkeypatch.setattr(incremental, "cells", lambda: [cell, other])
    monkeypatch.setattr(incremental, "BUDGETS", (120,))
    monkeypatch.setattr(sets.subprocess, "run", lambda words, **_: started.append(" ".join(words[1:])))
    monkeypatch.setattr(sys, "argv", ["measure"])
    incremental.main()
    assert [f"python {words}" for words in started] == [other.command]
    folder = incremental.RECORDS.parent
    assert sorted(path.name for path in folder.glob("*.*")) == ["120-bytes.png", "120-bytes.svg", "records.jsonl"]
    assert all(isinstance(one, Record) for one in read_records(incremental.RECORDS))


def test_cells_are_told_apart_and_committed_ones_are_recorded() -> None:
    listed = measure.cells()
    assert len({cell.words for cell in listed}) == len(listed)
    assert all(measure.recorded(cell) for cell in listed)


def test_an_unknown_cell_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", "classes", "krrr"])
    with pytest.raises(SystemExit):
        measure.main()
    assert "benchmarks.incremental.measure: 'classes krrr', expected nothing or one of" in capsys.readouterr().err

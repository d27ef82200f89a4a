"""The benchmark of growth: a tiny grid through the real script, in processes of its own as ever."""

import shlex
import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pytest
import torch

from benchmarks.growth import measure, shards
from benchmarks.growth.table import growth as table_of
from benchmarks.growth.table import shards as shards_of
from pcdistill.data import load
from pcdistill.matching import shards as pass_in_shards

REPOSITORY = Path(__file__).parents[2]
SHARED = [
    "benchmark", "dataset", "arm", "distilled", "objective", "storage", "clouds_per_class", "points", "bits",
    "distill_network", "distill_seconds", "prepare_seconds", "peak_mib", "command", "commit", "versions", "hardware",
    "date", "bytes_per_class", "protocol", "network", "accuracy", "accuracy_mean", "accuracy_std",
    "class_accuracy_mean", "distill_seeds", "train_seeds", "train_seconds",
]  # fmt: skip
OWN = ["classes", "real_clouds", "real_points", "steps", "networks", "init", "select_seconds",
       "fingerprint_seconds", "start_mib", "select_peak_mib", "file_mib", "threads"]  # fmt: skip
TINY = ["--classes", "2", "--clouds", "1", "--points", "8", "--real", "8", "--networks", "1", "--steps", "1",
        "--real-points", "16"]  # fmt: skip


@pytest.fixture
def growth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with a grid of two cells, whose records and sets go to folders of their own."""
    module = measure
    monkeypatch.setattr(module, "RECORDS", tmp_path / "records" / "records.jsonl")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    base = module.Cell(2, 1, 8, 8, networks=1, steps=1, real_points=16)
    monkeypatch.setattr(module, "cells", lambda quick, networks, steps: [base, base._replace(clouds=2)])
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["measure", *words])
    module.main()


@pytest.mark.slow
def test_cells_are_measured_once_recorded_and_drawn(
    growth: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    both = growth.cells(False, None, None)
    growth.run(both[:1], False)
    (first,) = growth.read_lines(growth.RECORDS)
    capsys.readouterr()
    called(growth, monkeypatch)  # the first has its record: only the second is measured, and all is drawn
    again, second = growth.read_lines(growth.RECORDS)
    shown = capsys.readouterr().out
    assert "--clouds 2 " in shown
    assert "--clouds 1 " not in shown
    assert again == first
    assert set(first) == set(second) == {*SHARED, *OWN}
    assert first["command"] == shlex.join(["python", "-m", "benchmarks.growth.measure", "one", *TINY])
    assert [growth.cell_of(line) for line in (first, second)] == both
    for line, clouds in ((first, 1), (second, 2)):
        assert [line[name] for name in ("benchmark", "dataset", "arm", "init")] == ["growth", "growth", "krr", "medoid"]
        assert [line[name] for name in ("classes", "clouds_per_class", "points", "bits")] == [2, clouds, 8, 8]
        assert [line[name] for name in ("real_clouds", "real_points", "networks", "steps", "threads")] == [
            8,
            16,
            1,
            1,
            1,
        ]
        assert all(line[name] > 0 for name in ("select_seconds", "prepare_seconds", "distill_seconds"))
        assert 50 < line["start_mib"] <= line["select_peak_mib"] <= line["peak_mib"] < 2000
    assert growth.RECORDS.with_name("growth.png").read_bytes().startswith(b"\x89PNG")
    drawn = growth.RECORDS.with_name("growth.svg").read_bytes()
    monkeypatch.setattr(growth, "recorded", lambda cell, quick: pytest.fail("measured again"))
    called(growth, monkeypatch)
    called(growth, monkeypatch, "--plot")
    assert growth.RECORDS.with_name("growth.svg").read_bytes() == drawn


def test_the_grid_changes_one_factor_at_a_time() -> None:
    growth = measure
    for listed in (growth.cells(False, None, None), growth.cells(True, 2, 7)):
        base, *others = listed
        assert len(set(listed)) == len(listed)
        changed = [[name for name in base._fields if getattr(cell, name) != getattr(base, name)] for cell in others]
        assert all(len(names) == 1 for names in changed)
        assert {name for names in changed for name in names} == set(growth.FACTORS)
        assert all(growth.arguments(["one", *cell.options()]).cell == cell for cell in listed)
    assert growth.cells(False, None, None)[0] == growth.Cell(10, 8, 128, 2000, None, 100, 1024)
    assert {(cell.networks, cell.steps) for cell in growth.cells(True, 2, 7)} == {(2, 7)}
    assert {cell.networks for cell in growth.cells(False, 3, None)} == {3}


def test_the_set_is_the_same_each_time_whatever_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    growth = measure
    monkeypatch.setattr(growth, "BASE_SHAPES", 2)
    growth.write_set(tmp_path / "a.h5", 12, 30, 16)
    monkeypatch.setattr(growth, "PART", 7)
    growth.write_set(tmp_path / "b.h5", 12, 30, 16)
    train = load(tmp_path / "a.h5")
    assert train.fingerprint() == load(tmp_path / "b.h5").fingerprint()
    assert train.class_counts.tolist() == [3] * 6 + [2] * 6
    assert (len(train), train.points_per_cloud, train.num_classes) == (30, 16, 12)
    assert len(torch.unique(train.points.flatten(1), dim=0)) == 30  # no cloud twice
    assert load(tmp_path / "a.h5", "test").num_classes == 12
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["train/points"].dtype == np.float16
        assert np.abs(file["train/points"][()]).max() == 1


@pytest.mark.parametrize("words", [["--real", "5"], ["one", "--real", "0"], ["two"], ["one", "--real", "x"]])
def test_half_a_command_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        measure.arguments(words)
    assert "error: " in capsys.readouterr().err


def test_the_table_has_a_line_per_record_and_none_without() -> None:
    assert table_of([]) == ""
    facts = dict.fromkeys([*SHARED, *OWN], 1) | {"dataset": "growth", "steps": 10, "distill_seconds": 2.5}
    facts |= {"real_clouds": 100_000, "fingerprint_seconds": 1.25, "select_seconds": 2.25}
    text = table_of([facts, {**facts, "real_clouds": 2000}, {**facts, "dataset": "growth-quick"}])
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()[2:]]
    assert [row[0] for row in cells] == ["2,000", "100,000"]
    assert cells[1][4:8] == ["3.5", "1.0", "2.5", "0.250"]


def test_a_million_is_measured_only_if_it_is_asked_for(growth: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def recorded(cell: measure.Cell, quick: bool) -> dict[str, object]:
        asked.append(cell.real)
        raise KeyboardInterrupt  # nothing is written

    monkeypatch.setattr(growth, "recorded", recorded)
    cells = [measure.Cell(real=measure.MILLION)]
    growth.run(cells, False)
    assert asked == []
    with pytest.raises(KeyboardInterrupt):
        growth.run(cells, False, million=True)
    assert asked == [measure.MILLION]
    assert [measure.short(size) for size in (500, 2000, 100_000, 1_000_000)] == ["500", "2k", "100k", "1M"]


def test_the_table_of_shards_compares_with_the_one_sum() -> None:
    def line(way: str, count: int, seconds: float, far: float) -> dict[str, object]:
        return {"real_clouds": 2000, "variant": way, "shards": count, "prepare_seconds": seconds, "peak_mib": 400,
                "distance": far}  # fmt: skip

    assert shards_of([]) == ""
    rows = shards_of([line("one sum", 1, 90.0, 0.0), line("2 processes", 4, 50.0, 6.4e-7)]).splitlines()[2:]
    assert rows == ["| 2,000 | one sum | 1 | 90 | 1.00 | 400 | 0 |",
                    "| 2,000 | 2 processes | 4 | 50 | 1.80 | 400 | 6e-07 |"]  # fmt: skip


@pytest.mark.slow
def test_shards_of_one_process_are_the_one_sum_to_rounding(
    growth: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pass_in_shards, "SHARD", 64)
    monkeypatch.setattr(shards, "WAYS", {"alone": ("local", 1), "one sum": ("local", 1)})
    path = growth.real_set(10, 200, 16)
    found = [shards.passed(way, path, tmp_path / f"{way}.safetensors") for way in ("alone", "one sum")]
    assert [one["shards"] for one in found] == [4, 1]
    assert 0 < shards.distance(tmp_path / "alone.safetensors", tmp_path / "one sum.safetensors") < 1e-5

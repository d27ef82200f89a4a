"""What is lost on the way to a device, measured on a tiny set, with nothing written in `benchmarks/`."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pcdistill.export import quantise as tuning
from pcdistill.export.quantise import TuneRecipe

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from benchmarks import sets
from benchmarks.deploy import measure


@pytest.fixture
def deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None) -> ModuleType:
    settings = {"RECORDS": tmp_path / "records.json", "LATENCY_POINTS": (16,), "REPEATS": 1, "SEEDS": 1}
    for name, value in settings.items():
        monkeypatch.setattr(measure, name, value)
    for name, value in {"RUNS": tmp_path / "runs", "POINTS": 16, "BITS": 6, "STEPS": 2}.items():
        monkeypatch.setattr(sets, name, value)
    monkeypatch.setattr(tuning, "TuneRecipe", lambda: TuneRecipe(steps=3))
    return measure


def test_a_cell_is_measured_and_kept(deploy: ModuleType, tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = deploy.Cell(str(tiny_file), "random", "pointnet-tiny", 120)
    assert not deploy.recorded(cell)
    deploy.keep(cell)
    assert deploy.recorded(cell)
    assert not deploy.recorded(cell._replace(taught=True))
    ((command, line),) = json.loads(deploy.RECORDS.read_text()).items()
    assert command == f"python -m benchmarks.deploy.measure {tiny_file} random pointnet-tiny 120"
    assert set(line["accuracy"]) == {"network", "float32", "int8", "tuned"}
    assert all(len(values) == 1 for values in line["accuracy"].values())
    assert line["accuracy"]["network"] == line["accuracy"]["float32"]
    for kind, values in line["accuracy"].items():
        assert line["spread"][kind]["mean"] == values[0]
    assert max(line["parity"]) <= 1e-4
    assert line["bytes_per_class"] <= 120
    assert line["file_bytes"]["int8"] < line["file_bytes"]["float32"]
    assert set(line["latency"]) == {"float32", "int8"}
    assert line["latency"]["int8"]["16"]["p50_ms"] > 0
    assert "onnxruntime" in line["versions"]
    assert "tuned" in capsys.readouterr().out


def test_a_taught_student_has_the_teacher_of_its_data_set(
    deploy: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = deploy.Cell(str(tiny_file), "random", "pointnet-tiny", 120, taught=True)
    assert cell.protocol().recipe.soft_loss == "mse"
    monkeypatch.setattr(sets, "TEACHER", {"network": "pointnet-tiny", "steps": 2})
    seen: list[Any] = []
    monkeypatch.setattr(deploy, "student", lambda *given: seen.append(given))
    with pytest.raises(AttributeError):  # there is no network
        deploy.measure(cell)
    ((_, made, _, supervision),) = seen
    assert supervision.teacher.describe()["network"] == "pointnet-tiny"
    assert supervision.teacher.temperature == deploy.TEMPERATURE
    assert made.clouds.points_per_cloud == 16


def test_cells_are_told_apart_and_committed_ones_are_recorded() -> None:
    listed = measure.cells()
    assert len({cell.words for cell in listed}) == len(listed) == 13
    assert all(measure.recorded(cell) for cell in listed)

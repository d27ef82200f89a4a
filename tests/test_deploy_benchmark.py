"""What is lost on the way to a device, measured on a tiny set, with nothing written in `benchmarks/`."""

import json
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pcdistill.config import TrainConfig
from pcdistill.export import quantise as tuning
from pcdistill.export.quantise import TuneRecipe
from pcdistill.jobs import run_train

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def deploy(
    script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None
) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    module = script(HERE / "deploy.py")
    monkeypatch.delitem(sys.modules, "networks")
    monkeypatch.setattr(module.networks, "SETS", tmp_path / "sets")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "deploy.json")
    monkeypatch.setattr(module, "TEACHERS", tmp_path / "teachers")
    monkeypatch.setattr(module, "LATENCY_POINTS", (16,))
    monkeypatch.setattr(tuning, "TuneRecipe", lambda: TuneRecipe(steps=3))
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["deploy.py", *map(str, words)])
    return module.main()


def test_a_cell_is_measured_and_kept_by_its_command(
    deploy: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (tiny_file, "random", "pointnet-tiny", "--bytes", 120, "--points", 16, "--bits", 6)
    called(deploy, monkeypatch, *words, "--seeds", 1, "--steps", 2, "--repeats", 1)
    ((command, line),) = json.loads(deploy.RESULTS.read_text()).items()
    assert command.startswith("python benchmarks/deploy.py ")
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
    deploy: ModuleType, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = deploy.Cell(str(tiny_file), "random", "pointnet-tiny", 120, 16, 6, 1, 2, 1)
    run_train(TrainConfig(source=str(tiny_file), output=tmp_path / "t.safetensors", points=16, network="pointnet-tiny"))
    deploy.TEACHERS.mkdir()
    shutil.move(tmp_path / "t.safetensors", deploy.TEACHERS / "tiny-pointnet-1500.safetensors")
    real, _ = deploy.networks.splits(cell.set)
    made = deploy.networks.make(cell.set, real, 0)
    taught = cell._replace(taught=True)
    assert taught.plan().recipe.soft_loss == "mse"
    seen: list[float] = []
    monkeypatch.setattr(deploy, "student", lambda cell, made, seed, lesson: seen.append(lesson.teacher.temperature))
    with pytest.raises(AttributeError):  # there is no network
        deploy.measure(taught)
    assert seen == [deploy.TEMPERATURE]
    assert made.clouds.points_per_cloud == 16


def test_every_listed_cell_survives_its_own_command_line(deploy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    untaught = deploy.cells()
    assert not any(cell.taught for cell in untaught)
    deploy.TEACHERS.mkdir()
    (deploy.TEACHERS / "modelnet10-pointnet-1500.safetensors").touch()
    listed, seen = deploy.cells(), []
    assert {cell.dataset for cell in listed if cell.taught} == {"modelnet10"}
    assert len(listed) == 2 * len(untaught) - 1

    def measure(cell: Any) -> None:
        seen.append(cell)
        raise KeyboardInterrupt

    monkeypatch.setattr(deploy, "measure", measure)
    for cell in listed:
        with pytest.raises(KeyboardInterrupt):
            called(deploy, monkeypatch, *shlex.split(cell.command)[2:])
    assert seen == listed
    assert len({cell.command for cell in listed}) == len(listed)


def test_half_a_cell_is_refused(
    deploy: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["modelnet10", "krr"], ["modelnet10", "krr", "pointnet-tiny"]):
        with pytest.raises(SystemExit, match="2"):
            called(deploy, monkeypatch, *words)
        assert "--bytes are needed" in capsys.readouterr().err

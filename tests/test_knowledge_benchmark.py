"""The benchmark of halves and wholes, on a tiny set, with nothing written in `benchmarks/`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.evaluation import read_records
from pcdistill.storage import Artefact

HERE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def knowledge(
    script: Callable[[Path], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None
) -> ModuleType:
    monkeypatch.syspath_prepend(HERE)
    module = script(HERE / "knowledge.py")
    monkeypatch.delitem(sys.modules, "networks")
    for name, value in {"RESULTS": tmp_path / "k.jsonl", "BYTES": 240, "POINTS": 16, "BITS": 6}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(module.cross, "SETS", tmp_path / "sets")
    monkeypatch.setattr(module.cross, "STEPS", 3)
    usual = module.DistillConfig
    for place in (module, module.cross):
        monkeypatch.setattr(place, "DistillConfig", lambda **given: usual(**{**given, "steps": 2, "networks": 1}))
    return module


def test_halves_count_both_files(
    knowledge: ModuleType, script: Callable[[Path], ModuleType], tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in knowledge.PARTS:
        words = [str(tiny_file), part, "--sets", "1", "--networks", "1"]
        monkeypatch.setattr(sys, "argv", ["knowledge.py", *words])
        knowledge.main()
    one, half, uniform, focused, again = read_records(knowledge.RESULTS)
    files = {path.name: Artefact.load(path) for path in knowledge.cross.SETS.glob("*.h5")}
    assert len(files) == 5  # two wholes, a half, and two second halves
    assert again.bytes_per_class == next(made for name, made in files.items() if "again" in name).bytes_per_class
    first = next(made for name, made in files.items() if "krr-120-16-6-0.h5" in name)
    for record, part in ((uniform, "uniform"), (focused, "focused")):
        other = next(made for name, made in files.items() if part in name)
        assert record.bytes_per_class == first.bytes_per_class + other.bytes_per_class <= one.bytes_per_class + 40
        assert (record.arm, record.distilled, record.points, record.bits) == ("krr", True, 16, 6)
        assert ("focus" in other.metadata.objective) == (part == "focused")
        assert record.distill_seconds > half.distill_seconds
    assert half.bytes_per_class == first.bytes_per_class
    changed = uniform.model_copy(update={"accuracy_mean": 0.5, "accuracy": [0.5]})
    tables = script(HERE / "tables.py")
    _, _, row, *_ = tables.by_part([focused, changed], "part", tables.PARTS).splitlines()
    best = f"**{100 * focused.accuracy_mean:.1f}**"
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["distilled", "–", "–", "50.0", best, "–"]

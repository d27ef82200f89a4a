"""The benchmark of the choice of a teacher, on a tiny set, with nothing written in `benchmarks/`."""

from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import sets
from benchmarks.teachers import measure
from pcdistill.results.record import read_records


@pytest.fixture
def teachers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None) -> ModuleType:
    settings = {"RECORDS": tmp_path / "records.jsonl", "SEARCHES": tmp_path / "searches", "BYTES": 120,
                "TEACHERS": ("pointnet-small", "pointnet-tiny"), "STEPS": 4, "SHARES": (0.5, 1.0),
                "TEMPERATURES": (1.0, 2.0)}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(measure, name, value)
    for name, value in {"RUNS": tmp_path / "runs", "POINTS": 16, "BITS": 6, "STEPS": 2}.items():
        monkeypatch.setattr(sets, name, value)
    return measure


def test_choice_first_then_the_test_split(teachers: ModuleType, tiny_file: Path, tmp_path: Path) -> None:
    for part in teachers.PARTS:
        teachers.keep(teachers.Cell(str(tiny_file), "random", part, 2))
    found = {one.part: one for one in read_records(teachers.RECORDS)}
    facts = {part: one.model_dump() for part, one in found.items()}
    assert [found[part].split for part in teachers.PARTS] == ["the last fifth of train held out", *["test"] * 3]
    assert "teacher" not in facts["hard"]
    tops = max(one["teacher_accuracy"] for one in facts["choose"]["ladder"] if len(one["files"]) == 1)
    assert facts["strongest"]["rung"]["teacher_accuracy"] == tops
    assert facts["chosen"]["teacher"]["temperature"] == facts["chosen"]["rung"]["temperature"]
    assert "without" in (tmp_path / "searches" / "tiny.h5-random" / "table.md").read_text()
    assert len(found["chosen"].accuracy) == 2


def test_cells_are_told_apart_and_committed_ones_are_recorded() -> None:
    listed = measure.cells()
    assert len({cell.words for cell in listed}) == len(listed) == 8
    assert all(measure.recorded(cell) for cell in listed)

"""The benchmark of quality, on a tiny set, with nothing written in `benchmarks/`."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks import sets
from benchmarks.quality import measure
from benchmarks.quality import table as tables
from pcdistill.artefact.artefact import Artefact
from pcdistill.data import load
from pcdistill.results.record import read_records
from pcdistill.selection import selectors


@pytest.fixture
def quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None) -> ModuleType:
    settings = {"RECORDS": tmp_path / "q.jsonl", "FACTS": tmp_path / "q.json", "BYTES": 120, "POINTS": 16, "BITS": 6,
                "STEPS": {"dc": 1, "sadm": 1}, "KNOWN": 3, "DRAWS": 2}  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setattr(measure, name, value)
    for name, value in {"RUNS": tmp_path / "runs", "POINTS": 16, "BITS": 6, "STEPS": 2}.items():
        monkeypatch.setattr(sets, name, value)
    usual = sets.set_file

    def few(*given: Any, settings: dict[str, Any], **more: Any) -> Path:
        learned = {} if given[1] in selectors else {"steps": 2, "members": 1, **settings}
        return usual(*given, settings=learned, **more)

    monkeypatch.setattr(sets, "set_file", few)
    return measure


def test_selections_are_copies_and_distilled_sets_say_where_they_started(quality: ModuleType, tiny_file: Path) -> None:
    for arm in ("random", "sadm", "krr"):
        quality.keep(quality.Cell(str(tiny_file), arm, 2 if arm == "random" else 1, 1))
    random, sadm, krr = read_records(quality.RECORDS)
    assert [record.objective for record in (random, sadm, krr)] == [None, "sadm", "krr"]
    assert all(record.bytes_per_class <= 120 for record in (random, sadm, krr))
    assert (len(random.accuracy), len(sadm.accuracy)) == (2, 1)
    for record in (random, sadm, krr):
        assert record.quality is not None
        assert record.quality[0]["made"]["clouds"] == record.clouds_per_class * 3
        for found in record.quality:
            assert found["training_clouds"] == 24
            assert (found["from_start"] is None) == (record is random)
    assert [found["made"]["near"] for found in random.quality or []] == [1, 1]
    # One step of 0.02 at most leaves clouds where they were.
    (found,) = sadm.quality or []
    assert found["from_start"] > 0.9
    made = quality.make(quality.Cell(str(tiny_file), "sadm"), 0)
    assert isinstance(made, Artefact)
    assert (made.metadata.arm, made.metadata.settings["steps"]) == ("sadm", 1)
    assert made.metadata.selection["method"] == quality.INIT


def test_parts_without_accuracy_stand_in_a_file_of_their_own(quality: ModuleType, tiny_file: Path) -> None:
    for part in quality.PARTS:
        quality.keep(quality.Cell(str(tiny_file), part))
    stored = json.loads(quality.FACTS.read_text())
    assert list(stored) == [f"{tiny_file} test", f"{tiny_file} copies"]
    assert not quality.RECORDS.exists()
    drawn = stored[f"{tiny_file} test"]["lines"]
    assert len(drawn) == 2
    assert all(one["made"]["near"] < 1 for one in drawn)
    lines = {line["way"]: line for line in stored[f"{tiny_file} copies"]["lines"]}
    assert list(lines) == list(quality.WAYS)
    assert lines["thinned"]["clouds"] == [9, 9]
    assert lines["thinned"]["copies"]["near"] == lines["thinned"]["copies"]["traced"] == 1
    assert lines["random points"]["auc"]["surface"] > lines["random points"]["auc"]["chamfer"]
    renamed = {f"tiny {place.split()[1]}": part for place, part in stored.items()}
    rows = tables.copies(renamed).splitlines()[2:]
    assert len(rows) == len(quality.WAYS)
    assert rows[0].split("|")[5].strip().startswith("100 (")
    (row,) = tables.quality([], renamed).splitlines()[2:]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "tiny, test clouds"
    assert float(cells[1]) == pytest.approx(500 * sum(one["made"]["chamfer"] for one in drawn), abs=0.06)
    assert cells[5] == f"{50 * sum(one['from_start'] for one in drawn):.0f}"


def test_the_probability_that_a_copy_is_nearer_counts_ties_half(quality: ModuleType) -> None:
    assert quality._auc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0, 0.0])) == pytest.approx(3.5 / 6)


def test_treated_clouds_are_moved_as_far_as_they_should_be(quality: ModuleType, tiny_file: Path) -> None:
    points = load(tiny_file, "train").points
    thin, moved = (
        quality.WAYS[way](points, torch.Generator().manual_seed(0)) for way in ("thinned", "thinned, moved by 0.05")
    )
    assert (moved - thin).std().item() == pytest.approx(0.05, rel=0.1)
    for way in ("thinned", "thinned from half its points", "random points"):
        kept = quality.WAYS[way](points, torch.Generator().manual_seed(0))
        assert kept.shape == (24, 16, 3)
        assert torch.cdist(kept, points).amin(2).max() < 1e-3
    assert not torch.equal(thin, quality.WAYS["thinned from half its points"](points, torch.Generator()))


def test_cells_are_told_apart_and_committed_ones_are_recorded() -> None:
    listed = measure.cells()
    assert len({cell.words for cell in listed}) == len(listed) == 9
    assert all(measure.recorded(cell) for cell in listed)
    assert not measure.recorded(measure.Cell("modelnet40", "krr"))
    assert not measure.recorded(measure.Cell("modelnet40", "test"))

"""Records measured anew: which, how near they have to be, and on a tiny set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reproduce
from pcdistill.experiments.cells import cells
from pcdistill.experiments.grid import run_grid
from pcdistill.results.record import PRESET, Record


def record(item: reproduce.Item, accuracy: Sequence[float], **changes: Any) -> Record:
    """A record of an item."""
    cell, mean = reproduce.cell_of(item), sum(accuracy) / len(accuracy)
    return Record(**{
        "benchmark": item.folder, "dataset": cell.data, "arm": cell.arm.removeprefix(PRESET), "distilled": False,
        "objective": None, "storage": "coded", "clouds_per_class": 9.9, "points": 128, "bits": 5,
        "bytes_per_class": 1229.0, "protocol": "tuned* v2", "network": cell.network, "distill_network": None,
        "accuracy": list(accuracy), "accuracy_mean": mean, "accuracy_std": 0.02, "class_accuracy_mean": mean,
        "distill_seeds": [0], "train_seeds": [0], "distill_seconds": 1.0, "prepare_seconds": 1.0, "train_seconds": 1.0,
        "peak_mib": 1, "command": "", "commit": "", "versions": {}, "hardware": "", "date": "",
        "variant": cell.record_facts()["variant"], **changes,
    })  # fmt: skip


def test_what_is_measured_anew_is_in_the_grids_and_recorded() -> None:
    listed = reproduce.items()
    assert len(set(listed)) == len(listed) == 14
    for item in listed:
        found = cells(reproduce.spec_of([item], Path("unused")))
        assert len({cell.place for cell in found}) == 1
        assert reproduce.recorded(item) is not None
    assert {item.words.split()[0] for item in listed} == {"modelnet10", "modelnet40", "shapes"}
    assert reproduce.spec_of(listed[:1], Path("unused")).records is None


@pytest.mark.parametrize(
    ("accuracy", "deviation", "allowed"),
    [([0.9, 0.9], 0.01, 0.0212), ([0.9] * 9, 0.01, 0.02), ([0.9], 0.0, 0.03), ([0.9] * 4, 0.1, 0.15)],
)
def test_tolerance(accuracy: list[float], deviation: float, allowed: float) -> None:
    found = reproduce.tolerance(record(reproduce.items()[0], accuracy, accuracy_std=deviation))
    assert found == pytest.approx(allowed, abs=1e-4)


Outcomes = dict[str, tuple[Any, str, int]]
OUTCOMES: Outcomes = {
    "same": ({"accuracy": [0.8, 0.82]}, "ok", 0),
    "near": ({"accuracy": [0.84, 0.86]}, "ok", 0),  # three standard errors of 2 / sqrt(2) points are 4.2
    "off above": ({"accuracy": [0.86, 0.86]}, "no", 1),
    "off below": ({"accuracy": [0.76, 0.76]}, "no", 1),
    "skipped": ({"skipped": "data: not found"}, "skipped", 0),
    "failed": ({"failed": "MemoryError"}, "failed", 1),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_table_and_the_exit_status(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome, end, status = OUTCOMES[name]
    good, tried = reproduce.items()[7:9]
    monkeypatch.setattr(reproduce, "items", lambda: [good, tried])
    committed = {item: record(item, [0.8, 0.82]) for item in (good, tried)}
    monkeypatch.setattr(reproduce, "recorded", committed.get)
    outcomes = {good: reproduce.Outcome([0.8, 0.81]), tried: reproduce.Outcome(**outcome)}
    monkeypatch.setattr(reproduce, "measured", lambda listed: {item: outcomes[item] for item in listed})
    assert reproduce.main() == status
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4]]
    assert rows[0] == [str(good), "81.0 ± 2.0 (2)", "80.5 ± 0.7 (2)", "-0.5", "4.2", "ok"]
    assert [rows[1][0], rows[1][-1]] == [str(tried), end]
    assert f" {end}" in lines[-1]
    assert lines[-1].startswith("2 ok, 0 no" if end == "ok" else "1 ok")
    assert lines[-1].endswith("minutes")
    if why := outcome.get("skipped") or outcome.get("failed"):
        assert f"{end}: {tried}: {why}" in lines


def test_an_item_without_a_record_fails_and_is_not_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "measured", None)
    monkeypatch.setattr(reproduce, "recorded", lambda item: None)
    assert reproduce.main() == 1
    assert "0 ok, 0 no, 0 failed, 14 no record, 0 skipped" in capsys.readouterr().out


TINY = """
data = ["{}"]
output = "out"
networks = ["pointnet-tiny"]
train_steps = 2
distill_seeds = 1
train_seeds = 1
facts = {{ variant = "{{arm}}" }}
grids = [{{ methods = ["random", "medoid"], budgets = ["120B@16x6"] }}]
"""


@pytest.fixture
def folder(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with a tiny grid."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "grid.toml").write_text(TINY.format(tiny_file))
    monkeypatch.setattr(reproduce, "HERE", tmp_path)
    return tmp_path / "tiny"


@pytest.mark.slow
def test_measured_anew_is_what_the_grid_measures(folder: Path, tiny_file: Path) -> None:
    """Bit for bit on one machine; without the sets that were made before, which stay as they are."""
    item = reproduce.Item("tiny", f"{tiny_file.name} random")
    spec = reproduce.spec_of([item], Path("here"))
    (there,) = run_grid(spec)
    before = sorted(path.stat().st_mtime_ns for path in Path("here").rglob("*.*"))
    outcomes = reproduce.measured([reproduce.Item("tiny", item.words)])
    assert outcomes[item].accuracy == there.accuracy
    assert sorted(path.stat().st_mtime_ns for path in Path("here").rglob("*.*")) == before
    (folder / "grid.toml").write_text(TINY.format("nowhere"))
    missing = reproduce.Item("tiny", "nowhere random")
    skipped = reproduce.measured([missing])[missing].skipped
    assert skipped is not None
    assert "nowhere" in skipped


def test_what_fails_says_why(folder: Path, tiny_file: Path) -> None:
    text = (folder / "grid.toml").read_text()
    (folder / "grid.toml").write_text(text.replace("120B@16x6", "3B@16x6"))
    item = reproduce.Item("tiny", f"{tiny_file.name} random")
    failed = reproduce.measured([item])[item].failed
    assert failed is not None
    assert "1 of 1 cells failed" in failed

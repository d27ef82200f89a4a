"""Tables are made of the records beside them; here on copies: nothing in `benchmarks/` is touched."""

import sys
from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.sizes.table import details, summary
from benchmarks.wording import without_gaps
from pcdistill.results.record import Record, read_records, write_record

TEXT = "before\n<!-- table: {} -->\nold\n<!-- end -->\nafter\n"
# Of the schema that every benchmark keeps to.
REQUIRED = [
    "benchmark", "dataset", "arm", "distilled", "objective", "storage", "clouds_per_class", "points", "bits",
    "bytes_per_class", "protocol", "network", "distill_network", "accuracy", "accuracy_mean", "accuracy_std",
    "class_accuracy_mean", "distill_seeds", "train_seeds", "distill_seconds", "prepare_seconds", "train_seconds",
    "peak_mib", "command", "commit", "versions", "hardware", "date",
]  # fmt: skip


def record(**changes: object) -> Record:
    facts: dict[str, object] = dict.fromkeys(REQUIRED, "x")
    facts |= {"benchmark": "modelnet", "dataset": "modelnet10", "arm": "random", "distilled": False, "objective": None}
    facts |= {"clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0, "protocol": "tuned v1"}
    facts |= {"accuracy": [0.5, 0.7], "accuracy_mean": 0.6, "accuracy_std": 0.1, "class_accuracy_mean": 0.6}
    facts |= dict.fromkeys(("distill_seconds", "prepare_seconds", "train_seconds"), 1.0)
    facts |= {"distill_seeds": [0], "train_seeds": [0, 1], "peak_mib": 1, "versions": {}, "date": "2026-01-01"}
    return Record(**{**facts, **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of its own: two files with tables, and three records."""
    folder = tmp_path / "benchmarks" / "sizes"
    folder.mkdir(parents=True)
    (tmp_path / "README.md").write_text(TEXT.format("summary"))
    (folder / "README.md").write_text(TEXT.format("details"))
    records = folder / "records.jsonl"
    write_record(records, record())
    write_record(records, record(arm="krr", distilled=True, objective="krr", accuracy_mean=0.85))
    write_record(records, record(arm="whole", storage=None, clouds_per_class=None, points=1024, bits=32,
                                 accuracy=[0.925], accuracy_mean=0.925))  # fmt: skip
    return tmp_path / "benchmarks"


def run(root: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tables", *words])
    return tables.main(root)


def test_committed_tables_are_those_of_the_committed_records() -> None:
    known = tables.tables()
    blocks = [name for file in tables.files() for _, name, _ in tables.BLOCK.findall(file.read_text())]
    assert set(blocks) == set(known)
    for file in tables.files():
        assert tables.filled(file.read_text(), known) == file.read_text(), file


def test_no_cell_of_a_committed_table_is_empty() -> None:
    rows = [
        (page, line)
        for page in tables.files()
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("|  |")
    ]
    assert len(rows) > 300
    for page, line in rows:
        assert not {"", "–", "None"} & {cell.strip() for cell in line.strip("|").split("|")}, (page, line)


def test_rows_that_lack_the_same_cells_stand_in_one_table() -> None:
    text = without_gaps(["", "a", "b"], [["x", 1, None], ["y", 2, 3], ["z", 4, None]])
    first, second = text.split("\n\n")
    assert first.splitlines() == ["|  | a |", "| :-- | --: |", "| x | 1 |", "| z | 4 |"]
    assert second.splitlines() == ["|  | a | b |", "| :-- | --: | --: |", "| y | 2 | 3 |"]


def test_tables_are_checked_written_and_then_agree(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = (root.parent / "README.md", root / "sizes" / "README.md")
    before = [file.read_text() for file in files]
    assert run(root, monkeypatch, "--check") == 1
    shown = capsys.readouterr().out
    assert all(str(file) in shown for file in files)
    assert [file.read_text() for file in files] == before

    assert run(root, monkeypatch) == 0
    assert run(root, monkeypatch, "--check") == 0
    summary, details = (file.read_text() for file in files)
    for text in (summary, details):
        assert text.startswith("before\n<!-- table: ")
        assert text.endswith("<!-- end -->\nafter\n")
        assert "old" not in text
    row = next(line for line in summary.splitlines() if line.startswith("| ModelNet10"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["ModelNet10, 4 x 128, 8 bits", "1,536", "60.0 ± 10.0", "85.0 ± 10.0", "92.5"]
    arms = [line.split("|")[1].split(", ")[1].strip() for line in details.splitlines() if "| ModelNet10" in line]
    assert arms == ["random", "krr", "whole"]


def test_a_changed_record_or_an_edited_table_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(root, monkeypatch)
    readme = root.parent / "README.md"
    readme.write_text(readme.read_text().replace("60.0", "99.0"))
    assert run(root, monkeypatch, "--check") == 1
    assert capsys.readouterr().out.count("tables differ") == 1
    run(root, monkeypatch)
    write_record(root / "sizes" / "records.jsonl", record(accuracy_mean=0.61))
    assert run(root, monkeypatch, "--check") == 1


def test_other_sets_have_tables_as_well(root: Path) -> None:
    records = [*read_records(root / "sizes" / "records.jsonl"), record(dataset="psb19")]
    assert "| psb19, 4 x 128, 8 bits |" in summary(records, "tuned")
    assert "| psb19, random | 60.0 ± 10.0 |" in details(records)

"""Records: what is written is read, newer ones take the place of older ones, damage is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from pcdistill.errors import InputError
from pcdistill.evaluation import Record, accuracy_cell, markdown_table, read_records, write_record

FIELDS: dict[str, Any] = {
    "benchmark": "modelnet", "dataset": "modelnet10", "arm": "random", "distilled": False, "objective": None,
    "storage": "points", "clouds_per_class": 4, "points": 128, "bits": 8, "bytes_per_class": 1536.0,
    "protocol": "tuned v1", "network": "pointnet", "distill_network": None, "accuracy": [0.7, 0.8],
    "accuracy_mean": 0.75, "accuracy_std": 0.0707, "class_accuracy_mean": 0.7, "distill_seeds": [0],
    "train_seeds": [0, 1], "distill_seconds": 1.0, "prepare_seconds": 0.0, "train_seconds": 2.0, "peak_mib": 300,
    "command": "python x.py", "commit": "abc", "versions": {"torch": "2"}, "hardware": "a processor",
    "date": "2026-01-01",
}  # fmt: skip


def record(**changes: Any) -> Record:
    return Record(**{**FIELDS, **changes})


def test_records_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "results" / "some.jsonl"
    written = [
        record(),
        record(arm="whole", storage=None, clouds_per_class=None, bits=32, note="Größe", nested={"a": [1]}),
    ]
    for one in written:
        write_record(path, one)
    assert read_records(path) == written
    assert read_records(path)[1].model_extra == {"note": "Größe", "nested": {"a": [1]}}
    assert [json.loads(line)["arm"] for line in path.read_text().splitlines()] == ["random", "whole"]


def test_no_file_holds_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "none.jsonl") == []


def test_a_newer_record_takes_the_place_of_the_one_about_the_same_arm(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    for arm in ("random", "herding", "medoid"):
        write_record(path, record(arm=arm))
    write_record(path, record(arm="herding", accuracy_mean=0.9, date="2026-02-02", commit="def"))
    assert [(one.arm, one.accuracy_mean) for one in read_records(path)] == [
        ("random", 0.75), ("herding", 0.9), ("medoid", 0.75),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"benchmark": "other"}, {"dataset": "shapes"}, {"arm": "medoid"}, {"storage": "other"}, {"clouds_per_class": 5},
        {"points": 64}, {"bits": 6}, {"protocol": "tuned v2"}, {"network": "pointnet-small"}, {"variant": "rotated"},
        {"expansion": {"mirror": True}}, {"view": "so3"}, {"train_rotation": "z"}, {"thin": True},
    ],
)  # fmt: skip
def test_records_about_something_else_stay(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    write_record(path, record())
    write_record(path, record(**change))
    assert len(read_records(path)) == 2


@pytest.mark.parametrize("field", [name for name in FIELDS])
def test_a_missing_field_is_named_with_file_and_line(field: str, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    damaged = {name: value for name, value in FIELDS.items() if name != field}
    path.write_text(json.dumps(FIELDS) + "\n" + json.dumps(damaged) + "\n")
    with pytest.raises(InputError, match=rf"some\.jsonl:2: {field}: Field required, expected a benchmark record"):
        read_records(path)


@pytest.mark.parametrize("line", ['{"benchmark": "mod', "", "[]", "null"])
def test_a_damaged_line_is_named_and_nothing_is_written(line: str, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(f"{json.dumps(FIELDS)}\n{line}\n{json.dumps(FIELDS)}\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"some\.jsonl:2: \w.*, expected a benchmark record"):
        write_record(path, record(arm="medoid"))
    assert path.read_bytes() == before


def test_cells_show_per_cent_and_spread_of_more_than_one_run() -> None:
    assert accuracy_cell(record()) == "75.0 ± 7.1"
    assert accuracy_cell(record(accuracy=[0.8432], accuracy_mean=0.8432, accuracy_std=0.0)) == "84.3"


def test_a_markdown_table() -> None:
    assert markdown_table(["a", "b"], [["x", "1"], ["y", "2"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |\n| y | 2 |\n"

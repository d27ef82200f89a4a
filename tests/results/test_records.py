"""Records: what is written is read, newer ones take the place of older ones, damage is named."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pcdistill.core.errors import InputError
from pcdistill.results.record import Record, begins_with_record, read_records, write_record, write_records

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
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
        record(arm="whole", storage=None, clouds_per_class=None, bits=32, variant="Größe", teacher={"a": [1]}),
    ]
    for one in written:
        write_record(path, one)
    assert read_records(path) == written
    assert (read_records(path)[1].variant, read_records(path)[1].teacher) == ("Größe", {"a": [1]})
    assert [json.loads(line)["arm"] for line in path.read_text().splitlines()] == ["random", "whole"]


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    write_records(tmp_path / "a.jsonl", [record()])
    (tmp_path / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.jsonl").read_bytes())
    assert begins_with_record(tmp_path / "b.jsonl")
    assert read_records(tmp_path / "b.jsonl") == [record()]


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
        {"expansion": {"mixup": 1}}, {"condition": "so3"}, {"train_rotation": "z"}, {"thin": True},
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
    with pytest.raises(InputError, match=rf"some\.jsonl:2: '{field}' is missing$"):
        read_records(path)


@pytest.mark.parametrize("line", ['{"benchmark": "mod', "", "[]", "null"])
def test_a_damaged_line_is_named_and_nothing_is_written(line: str, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(f"{json.dumps(FIELDS)}\n{line}\n{json.dumps(FIELDS)}\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"some\.jsonl:2: \w+"):
        write_record(path, record(arm="medoid"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"confusoin": [[1]]}, "unknown field 'confusoin' (did you mean 'confusion'?)"),
        ({"note": "x\ny"}, "unknown field 'note'"),
        ({"confusion": "many"}, "confusion = 'many', expected a valid array"),
        ({"confusion": [[1, -2], [0, 0]]}, "confusion.0.1 = -2, expected greater than or equal to 0"),
        ({"confusion": [[1, 2], [3]]}, "'confusion' of 2 lines that are not as long, expected a square"),
        (
            {"confusion": [[1, 2], [3, 4]], "class_names": ["a", "b", "c"]},
            "'confusion' of 2 lines and 3 class names, expected a name for each",
        ),
    ],
)
def test_a_field_that_is_unknown_or_ill_typed_is_named_with_file_and_line(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps(FIELDS) + "\n" + json.dumps({**FIELDS, **change}) + "\n")
    with pytest.raises(InputError) as caught:
        read_records(path)
    assert str(caught.value) == f"{path}:2: {message}"


def test_what_older_records_do_not_say_has_a_default() -> None:
    older = record()
    assert (older.split, older.condition, older.test_points, older.thin) == ("test", "clean", 1024, False)
    assert (older.variant, older.recipe, older.teacher, older.right, older.confusion) == (None, None, None, [], [])
    assert older.key() == record(split="test", condition="clean", thin=False).key()


def test_the_old_name_of_a_condition_is_read_and_the_new_one_written(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    path.write_text(json.dumps({**FIELDS, "view": "so3"}) + "\n")
    assert read_records(path) == [record(condition="so3")]
    write_records(path, read_records(path))
    assert json.loads(path.read_text()) == {**FIELDS, "condition": "so3"}


def test_a_file_of_something_else_is_told_from_one_of_records(tmp_path: Path) -> None:
    lines = {
        "record": json.dumps(FIELDS), "newer": json.dumps({**FIELDS, "note": 1}), "step": '{"step": 1, "loss": 0.5}',
        "none": "", "list": "[]",
    }  # fmt: skip
    for name, line in lines.items():
        (tmp_path / name).write_text(line + "\n")
    (tmp_path / "binary").write_bytes(b"\x89HDF\xff")
    assert [path.name for path in sorted(tmp_path.iterdir()) if begins_with_record(path)] == ["newer", "record"]


def test_no_committed_record_has_a_field_that_is_not_declared() -> None:
    """Every line is read, and says the same when it is written again, but for the new name of a condition."""
    files = [path for path in sorted(BENCHMARKS.rglob("*.jsonl")) if begins_with_record(path)]
    said = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    records = [one for path in files for one in read_records(path)]
    assert len(records) > 700
    for line, one in zip(said, records, strict=True):
        if "view" in line:
            line["condition"] = line.pop("view")
        assert json.loads(json.dumps(one.model_dump())) == line
    names = {name for line in said for name in line}
    assert names <= set(Record.model_fields)


def test_records_of_others_that_are_written_meanwhile_stay(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    arms = [f"arm {number}" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda arm: write_record(path, record(arm=arm)), arms))
    assert sorted(one.arm for one in read_records(path)) == sorted(arms)
    assert list(tmp_path.iterdir()) == [path]

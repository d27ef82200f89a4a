"""The table of other conditions, of what `pcdistill evaluate` records."""

from pathlib import Path

from benchmarks.robustness.table import robustness
from pcdistill.cli import main
from pcdistill.commands.select import Select
from pcdistill.results.record import read_records
from pcdistill.results.table import accuracy_cell


def rows_of(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def test_robustness_of_what_evaluate_records(tiny_file: Path, tmp_path: Path, short_recipes: None) -> None:
    """Rows of rotations are of networks trained under them, columns are training sets."""
    output = tmp_path / "conditions"
    Select(data=str(tiny_file), output=tmp_path / "a.h5", clouds_per_class=2, points=16, method="random").run(print)
    words = ["--test-data", str(tiny_file), "--network", "pointnet-tiny", "--train-seeds", "2"]
    words += ["--output", str(output), "--conditions"]
    conditions = ["64", "gaussian:1", "gaussian:3", "shear:1"]
    assert main(["evaluate", str(tmp_path / "a.h5"), *words, "so3", *conditions]) == 0
    assert main(["evaluate", str(tmp_path / "a.h5"), *words, "so3", "--rotate", "so3"]) == 0
    assert main(["evaluate", str(tiny_file), *words, "64"]) == 0
    records = read_records(output / "records.jsonl")
    header, _, *rows = rows_of(robustness(records))
    assert header == ["view", "random, 96 bytes", "whole set, 98,304 bytes"]
    found = {row[0]: row[1:] for row in rows}
    assert list(found) == ["clean", "none/SO3", "SO3/SO3", "64 points", "gaussian", "shear:1",
                           "ModelNet40-C, severity 1", "ModelNet40-C, severity 3", "ModelNet40-C, mean"]  # fmt: skip
    by_condition = {(r.arm, r.train_rotation, r.condition): r for r in records}
    for label, key in {
        "clean": ("random", "none", "clean"), "none/SO3": ("random", "none", "so3"),
        "SO3/SO3": ("random", "so3", "so3"), "64 points": ("random", "none", "64"),
    }.items():  # fmt: skip
        assert found[label][0] == str(accuracy_cell(by_condition[key]))
    assert found["64 points"][1] == str(accuracy_cell(by_condition["whole", "none", "64"]))
    assert found["gaussian"][1] == found["SO3/SO3"][1] == "–"
    degrees = [by_condition["random", "none", f"gaussian:{degree}"].accuracy_mean for degree in (1, 3)]
    assert found["gaussian"][0].startswith(f"{50 * sum(degrees):.1f} ± ")
    clean = by_condition["random", "none", "clean"].model_copy(update={"accuracy": [0.11, 0.11]})
    turned = [r for key, r in by_condition.items() if key[:2] == ("random", "so3")]
    assert "| clean | 11.0 ± 0.0 |" in robustness([*turned, clean])
    assert "tiny.h5, PointNet-tiny, protocol `tuned v2` at 3 steps, 1 set x 2 networks" in robustness(records)

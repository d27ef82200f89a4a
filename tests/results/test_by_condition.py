"""Tables and plots of networks under test conditions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcdistill.results.by_condition import PLOT_FILES, Row, columns_of, draw, markdown, rows_of, values
from pcdistill.results.record import Record

Tested = Callable[..., Record]


@pytest.fixture
def tested(recorded: Callable[..., Record]) -> Tested:
    """A record of `pcdistill evaluate`."""

    def make(condition: str, accuracy: list[float], rotation: str = "none", **changes: Any) -> Record:
        facts = {"variant": "a.h5", "condition": condition, "train_rotation": rotation, "thin": False, **changes}
        return recorded(accuracy, **facts)

    return make


def test_rows_are_means_of_each_network_over_conditions(tested: Tested) -> None:
    everything = [tested("clean", [1.0, 0.8])]
    everything += [tested(f"{kind}:{s}", [0.1 * s, 0.2]) for kind in ("gaussian", "cutout") for s in range(1, 6)]
    everything += [tested("jitter:2", [0.5, 0.5]), tested("so3", [0.4, 0.4]), tested("data:x", [0.3, 0.3])]
    (column,) = columns_of(everything)
    rows = rows_of([column])
    assert [row.label for row in rows] == [
        "clean", "none/SO3", "cutout", "gaussian", *(f"ModelNet40-C, severity {s}" for s in range(1, 6)),
        "ModelNet40-C, mean", "jitter:2", "data:x",
    ]  # fmt: skip
    found = {row.label: values(row, column) for row in rows}
    assert found["gaussian"] == found["ModelNet40-C, mean"] == pytest.approx([0.3, 0.2])
    assert found["ModelNet40-C, severity 4"] == pytest.approx([0.4, 0.2])
    assert "| gaussian | 25.0 ± 7.1 |" in markdown(everything)
    assert values(Row("", ["clean", "z"]), column) is None


def test_columns_say_what_tells_networks_apart(tested: Tested) -> None:
    everything = [
        tested("so3", [0.1]), tested("so3", [0.2], "so3"), tested("so3", [0.3], network="other"),
        tested("so3", [0.4], thin=True), tested("so3", [0.5], variant="b.h5"),
    ]  # fmt: skip
    assert [column.label for column in columns_of(everything[:1])] == ["pointnet"]
    assert [column.label for column in columns_of(everything[:3])] == [
        "pointnet, trained unrotated", "pointnet, trained turned about any axis", "other, trained unrotated",
    ]  # fmt: skip
    labels = [column.label for column in columns_of(everything)]
    assert len(set(labels)) == 5
    assert labels[-1] == "pointnet, b.h5, trained unrotated, not thinned"
    lines = markdown(everything[:2]).splitlines()
    assert lines[5:7] == ["| none/SO3 | 10.0 | – |", "| SO3/SO3 | – | 20.0 |"]


def test_a_table_of_accuracies_and_one_of_calibration(tested: Tested) -> None:
    text = markdown([tested("clean", [0.5, 0.7], ece=[0.1, 0.2]), tested("64", [0.4], ece=[0.3])])
    assert text == (
        "tiny, protocol tuned v2: test accuracy in per cent; mean ± standard deviation over 1 set x 1 network or "
        "1 set x 2 networks.\n\n"
        "| condition | pointnet |\n| :-- | --: |\n| clean | 60.0 ± 14.1 |\n| 64 points | 40.0 |\n\n"
        "Expected calibration error in per cent; mean ± standard deviation over 1 set x 1 network or 1 set x 2 "
        "networks.\n\n"
        "| condition | pointnet |\n| :-- | --: |\n| clean | 15.0 ± 7.1 |\n| 64 points | 30.0 |\n"
    )


def test_plots_that_there_is_nothing_for_go(tested: Tested, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in (*PLOT_FILES, "records.jsonl"):
        (tmp_path / name).write_text("of an older run")
    said: list[str] = []
    draw([tested("clean", [0.5]), tested("64", [0.4]), tested("1024", [0.45])], tmp_path, said.append)
    written = ["plot-resolutions.png", "plot-resolutions.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*written, "records.jsonl"]
    assert said == [f"wrote records.jsonl, table.md, {', '.join(written)} to {tmp_path}"]
    assert "points per test cloud (log scale)" in (tmp_path / written[1]).read_text()

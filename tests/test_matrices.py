"""`pcdistill evaluate` on views and several networks: records, resuming, tables and plots, on real command lines."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill import matrices
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.config import EvaluateConfig, SelectConfig, TrainConfig
from pcdistill.data import load, write_hdf5
from pcdistill.errors import InputError
from pcdistill.evaluation import Record, evaluate, parse_views, read_records, score, shown, write_record
from pcdistill.jobs import run_evaluate, run_select, run_train
from pcdistill.matrices import Row, columns_of, per_class, rows_of, run_matrix, table, values
from pcdistill.storage import Artefact
from pcdistill.trained import load_network
from pcdistill.training import protocol, recipe

Lines = Callable[..., list[str]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """Runs `pcdistill evaluate`, which has to succeed; gives the lines that it prints."""

    def run(*words: object) -> list[str]:
        capsys.readouterr()
        assert main(["evaluate", *map(str, words)]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out.splitlines()

    return run


@pytest.fixture
def artefact(tiny_file: Path, tmp_path: Path, short_recipes: None) -> Path:
    path = tmp_path / "a.h5"
    run_select(SelectConfig(data=str(tiny_file), output=path, clouds_per_class=2, points=16, method="random", seed=3))
    return path


def cells(printed: list[str]) -> dict[str, list[str]]:
    """Rows of the first table by label."""
    rows = [line.strip("| ").split(" | ") for line in printed[: printed.index("", 2)] if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_a_table_of_networks_and_views(lines: Lines, artefact: Path, tiny_file: Path) -> None:
    printed = lines(
        artefact, "--data", tiny_file, "--seeds", 2, "--networks", "pointnet-small", "pointnet-linear",
        "--views", "so3", "64", "gaussian:1", "gaussian:5",
    )  # fmt: skip
    found = cells(printed)
    assert found["view"] == ["pointnet-small", "pointnet-linear"]
    assert list(found)[2:] == ["clean", "none/SO3", "64 points", "gaussian"]
    assert any(line.startswith("Expected calibration error") for line in printed)
    clouds, test = stored(artefact), load(tiny_file, "test")
    for column, name in enumerate(("pointnet-small", "pointnet-linear")):
        plan = protocol("tuned", name)
        runs = evaluate(clouds, test, plan, [0, 1]).accuracies
        mean, spread = sum(runs) / 2, abs(runs[0] - runs[1]) / 2**0.5
        assert found["clean"][column] == f"{100 * mean:.1f} ± {100 * spread:.1f}"


def stored(path: Path) -> PointClouds:
    return Artefact.load(path).training_clouds


def test_settings_reach_the_training(artefact: Path, tiny_file: Path) -> None:
    """Steps and rotation change the recipe, and with it the protocol's name; thinning the views."""
    given: dict[str, Any] = {"source": str(artefact), "data": str(tiny_file), "network": "pointnet-small", "seeds": 1}
    config = EvaluateConfig(**given, steps=2, train_rotation="z", thin=True, views=("so3",))
    clean, turned = run_matrix(config)
    base = protocol("tuned", "pointnet-small")
    augmentation = base.recipe.augmentation.model_copy(update={"rotate": "z"})
    changed = recipe("tuned", steps=2, augmentation=augmentation)
    plan = base.model_copy(update={"name": "tuned*", "recipe": changed, "thin": True})
    expected = evaluate(stored(artefact), load(tiny_file, "test"), plan, [0])
    assert clean.accuracy == expected.accuracies
    assert clean.protocol == turned.protocol == f"tuned* v{changed.version}"
    facts = turned.model_extra or {}
    assert facts["recipe"] == changed.model_dump(mode="json")
    assert (facts["view"], facts["train_rotation"], facts["thin"]) == ("so3", "z", True)
    assert (clean.arm, clean.points, clean.distill_seeds, clean.train_seeds) == ("random", 16, [3], [0])
    assert run_evaluate(config.model_copy(update={"views": ()})).runs == expected.runs
    assert table([clean, turned]).splitlines()[5].startswith("| z/SO3 | ")
    same = EvaluateConfig(**given, train_rotation="none", views=("so3",))
    assert run_matrix(same)[0].protocol == f"tuned v{base.recipe.version}"  # that is what the recipe does


def test_an_output_is_gone_on_with(
    lines: Lines, artefact: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    words: list[object] = [
        artefact,
        "--data",
        tiny_file,
        "--seeds",
        1,
        "--network",
        "pointnet-small",
        "--output",
        output,
    ]
    trained: list[list[str]] = []
    real = matrices.evaluate_views

    def counted(parts: Any, *more: Any) -> Any:
        trained.append([view.name for part in parts for view, _ in part.views])
        return real(parts, *more)

    monkeypatch.setattr(matrices, "evaluate_views", counted)
    monkeypatch.setattr(matrices, "_draw", lambda *_: None)  # plots take longest, and have a test of their own
    old = record("", [0.5], benchmark="compare")  # what other commands leave there stays, and does not show
    write_record(output / "records.jsonl", old)
    lines(*words, "--views", "z", "cutout:2")
    assert read_records(output / "records.jsonl")[0] == old
    first = read_records(output / "records.jsonl")[1:]
    lines(*words, "--views", "z", "so3", "cutout")
    second = read_records(output / "records.jsonl")[1:]
    again = lines(*words, "--views", "z", "so3", "cutout")
    assert trained == [["clean", "z", "cutout:2"], ["so3", *(f"cutout:{s}" for s in (1, 3, 4, 5))]]
    assert [(r.model_extra or {})["view"] for r in second] == ["clean", "z", "cutout:2", *trained[1]]
    assert second[:3] == first
    assert read_records(output / "records.jsonl")[1:] == second
    assert list(cells(again))[2:] == ["clean", "none/z", "none/SO3", "cutout"]
    assert (output / "table.md").read_text().rstrip("\n") in "\n".join(again)
    save = SelectConfig(data=str(tiny_file), output=artefact, clouds_per_class=2, points=16, method="random", seed=4)
    run_select(save)  # another set under the same name: no view of the old one stays in its column
    lines(*words, "--views", "z")
    assert trained[2:] == [["clean", "z"]]
    found = read_records(output / "records.jsonl")
    assert found[0] == old
    assert [one.distill_seeds for one in found[1:]] == [[4], [4]]
    lines(*words, "--steps", 2)  # another protocol: a column of its own
    assert cells((output / "table.md").read_text().splitlines())["clean"].count("–") == 0
    assert len(read_records(output / "records.jsonl")[1:]) == 3
    # Other seeds: in place of what was there, so that a row is never of unequal numbers of networks.
    lines(*words[:4], 2, *words[5:], "--views", "cutout")
    found = read_records(output / "records.jsonl")[2:]
    assert [len(one.accuracy) for one in found] == [2] * 6
    assert [(r.model_extra or {})["view"] for r in found] == ["clean", *(f"cutout:{s}" for s in range(1, 6))]
    # The same clouds in another file have a name and a size of their own.
    copy = artefact.with_name("b.h5")
    copy.write_bytes(artefact.read_bytes())
    lines(copy, *words[1:], "--steps", 2)
    assert trained[-1] == ["clean"]
    assert [(r.model_extra or {})["variant"] for r in read_records(output / "records.jsonl")[1:]] == [
        "a.h5" if number < 7 else "b.h5" for number in range(8)
    ]
    assert all(str(tmp_path) not in line for line in (output / "records.jsonl").read_text().splitlines())


def test_plots_are_drawn_of_what_there_is(lines: Lines, artefact: Path, tiny_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = (artefact, "--data", tiny_file, "--seeds", 1, "--network", "pointnet-small", "--output", tmp_path / "out")
    lines(*words, "--views", "z")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"records.jsonl", "table.md"}
    said = lines(*words, "--views", "64", "1024", "impulse", "jitter")[-1]
    plots = {f"plot-{name}.{ending}" for name in ("severities", "kinds", "resolutions") for ending in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"records.jsonl", "table.md", *plots}
    assert all(name in said for name in plots)
    assert "points per test cloud (log scale)" in (tmp_path / "out" / "plot-resolutions.svg").read_text()
    assert "impulse" in (tmp_path / "out" / "plot-kinds.svg").read_text()


def test_a_trained_network_is_scored_as_it_is(
    lines: Lines, tiny_file: Path, tmp_path: Path, short_recipes: None
) -> None:
    path = tmp_path / "net.safetensors"
    run_train(TrainConfig(source=str(tiny_file), output=path, points=32, network="pointnet-small"))
    test = load(tiny_file, "test")
    other = tmp_path / "other.h5"
    write_hdf5(renamed(load(tiny_file, "train")), renamed(test), other)
    found = json.loads(
        "\n".join(lines(path, "--data", tiny_file, "--thin", "--views", "shear:3", f"data:{other}", "--json"))
    )
    assert [record["view"] for record in found] == ["clean", "shear:3", f"data:{other}"]
    trained = load_network(path)
    plan = trained.protocol.model_copy(update={"thin": True})
    for record, view in zip(found[:2], parse_views(["shear:3"]), strict=True):
        expected = score(trained.network, shown(test, view, plan, 32))
        assert record["accuracy"] == [expected.accuracy]
        assert record["confusion"] == [list(row) for row in expected.confusion]
    assert (found[0]["arm"], found[0]["points"], found[0]["train_seeds"]) == ("network", 32, [])
    assert found[2]["class_names"] == ["ball", "ring"]


def renamed(clouds: PointClouds) -> PointClouds:
    return replace(clouds, class_names=("Ball", "crate", "RING"))


def test_per_class_accuracies_and_what_is_mistaken() -> None:
    text = per_class([[3, 1, 0], [0, 0, 0], [2, 2, 4]], ["a", "bb", "c"], most=2)
    assert text.splitlines() == [
        "  a    75.0 %", "  bb      –", "  c    50.0 %", "taken for another class most often:",
        "  a    25.0 % for bb", "  c    25.0 % for a",
    ]  # fmt: skip
    assert per_class([[1, 0], [0, 1]], ["a", "b"]).splitlines() == ["  a  100.0 %", "  b  100.0 %"]


def test_one_network_prints_its_classes_and_calibration(lines: Lines, artefact: Path, tiny_file: Path) -> None:
    words = (artefact, "--data", tiny_file, "--seeds", 2, "--network", "pointnet-small", "--per-class")
    printed = lines(*words)
    assert [line.split("  ")[0] for line in printed[:4]] == [
        "accuracy",
        "class accuracy",
        "calibration error",
        "networks",
    ]
    found = evaluate(stored(artefact), load(tiny_file, "test"), protocol("tuned", "pointnet-small"), [0, 1])
    confusion = torch.tensor([run.confusion for run in found.runs]).sum(0).tolist()
    assert printed[4:] == per_class(confusion, ["ball", "box", "ring"]).splitlines()
    many = lines(*words, "--views", "z")
    place = many.index("pointnet-small, clean:")
    assert many[place + 1 : place + 1 + len(printed[4:])] == printed[4:]
    assert "pointnet-small, z:" in many


def record(view: str, accuracy: list[float], rotation: str = "none", **changes: Any) -> Record:
    facts: dict[str, Any] = {
        "benchmark": "evaluate", "dataset": "tiny", "arm": "random", "distilled": False, "objective": None,
        "storage": "points", "clouds_per_class": 1, "points": 8, "bits": 8, "bytes_per_class": 1.0,
        "protocol": "tuned v2", "network": "pointnet", "distill_network": None, "accuracy": accuracy,
        "accuracy_mean": 0.0, "accuracy_std": 0.0, "class_accuracy_mean": 0.0, "distill_seeds": [0], "train_seeds": [0],
        "distill_seconds": 0.0, "prepare_seconds": 0.0, "train_seconds": 0.0, "peak_mib": 1, "command": "",
        "commit": "", "versions": {}, "hardware": "", "date": "", "ece": accuracy, "variant": "a.h5", "view": view,
        "train_rotation": rotation, "thin": False,
    }  # fmt: skip
    return Record(**{**facts, **changes})


def test_rows_are_means_of_each_network_over_views() -> None:
    everything = [record("clean", [1.0, 0.8])]
    everything += [record(f"{kind}:{s}", [0.1 * s, 0.2]) for kind in ("gaussian", "cutout") for s in range(1, 6)]
    everything += [record("jitter:2", [0.5, 0.5]), record("so3", [0.4, 0.4]), record("data:x", [0.3, 0.3])]
    (column,) = columns_of(everything)
    rows = rows_of([column])
    assert [row.label for row in rows] == [
        "clean", "none/SO3", "cutout", "gaussian", *(f"ModelNet40-C, severity {s}" for s in range(1, 6)),
        "ModelNet40-C, mean", "jitter:2", "data:x",
    ]  # fmt: skip
    found = {row.label: values(row, column) for row in rows}
    assert found["gaussian"] == found["ModelNet40-C, mean"] == pytest.approx([0.3, 0.2])
    assert found["ModelNet40-C, severity 4"] == pytest.approx([0.4, 0.2])
    assert "| gaussian | 25.0 ± 7.1 |" in table(everything)
    assert values(Row("", ["clean", "z"]), column) is None


def test_columns_say_what_tells_networks_apart() -> None:
    everything = [
        record("so3", [0.1]), record("so3", [0.2], "so3"), record("so3", [0.3], network="other"),
        record("so3", [0.4], thin=True), record("so3", [0.5], variant="b.h5"),
    ]  # fmt: skip
    assert [column.label for column in columns_of(everything[:1])] == ["pointnet"]
    assert [column.label for column in columns_of(everything[:3])] == [
        "pointnet, trained unrotated", "pointnet, trained turned about any axis", "other, trained unrotated",
    ]  # fmt: skip
    labels = [column.label for column in columns_of(everything)]
    assert len(set(labels)) == 5
    assert labels[-1] == "pointnet, b.h5, trained unrotated, not thinned"
    lines = table(everything[:2]).splitlines()
    assert lines[5:7] == ["| none/SO3 | 10.0 | – |", "| SO3/SO3 | – | 20.0 |"]


def test_run_evaluate_is_for_one_network_on_the_clean_set(tiny_file: Path) -> None:
    for more in ({"views": ("z",)}, {"networks": ("pointnet",)}, {"output": Path("out")}):
        with pytest.raises(InputError, match="run_evaluate: views, networks or output"):
            run_evaluate(EvaluateConfig(source=str(tiny_file), **more))

"""`pcdistill evaluate`: networks and conditions, records, resuming, tables and plots, on real command lines."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands import evaluate as command
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.data import load, write_hdf5
from pcdistill.evaluation import evaluate, evaluate_conditions, parse_conditions, score, shown
from pcdistill.results import kept
from pcdistill.results.by_condition import markdown
from pcdistill.results.confusion import per_class
from pcdistill.results.measure import measure, summed_up
from pcdistill.results.record import Record, read_records, write_record
from pcdistill.training.recipe import protocol, recipe
from pcdistill.training.trained import load_network

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
    Select(data=str(tiny_file), output=path, clouds_per_class=2, points=16, method="random", seed=3).run([].append)
    return path


def cells(printed: list[str]) -> dict[str, list[str]]:
    """Rows of the first table by label."""
    rows = [line.strip("| ").split(" | ") for line in printed[: printed.index("", 2)] if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_a_table_of_networks_and_conditions(lines: Lines, artefact: Path, tiny_file: Path) -> None:
    printed = lines(
        artefact, "--test-data", tiny_file, "--train-seeds", 2, "--networks", "pointnet-small", "pointnet-linear",
        "--conditions", "so3", "64", "gaussian:1", "gaussian:5",
    )  # fmt: skip
    found = cells(printed)
    assert found["condition"] == ["pointnet-small", "pointnet-linear"]
    assert list(found)[2:] == ["clean", "none/SO3", "64 points", "gaussian"]
    assert any(line.startswith("Expected calibration error") for line in printed)
    clouds, test = stored(artefact), load(tiny_file, "test")
    for column, name in enumerate(("pointnet-small", "pointnet-linear")):
        plan = protocol("tuned", name)
        runs = evaluate(clouds, test, plan, seeds=[0, 1]).accuracies
        mean, spread = sum(runs) / 2, abs(runs[0] - runs[1]) / 2**0.5
        assert found["clean"][column] == f"{100 * mean:.1f} ± {100 * spread:.1f}"


def evaluated(**given: Any) -> Any:
    """What the command prints as JSON."""
    said: list[str] = []
    Evaluate(**given, json=True).run(said.append)
    return json.loads(said[-1])


def stored(path: Path) -> PointClouds:
    return Artefact.load(path).training_clouds


def test_settings_reach_the_training(artefact: Path, tiny_file: Path) -> None:
    """Steps and rotation change the recipe, and with it the protocol's name; thinning the test clouds."""
    given: dict[str, Any] = {
        "source": str(artefact),
        "test_data": str(tiny_file),
        "network": "pointnet-small",
        "train_seeds": 1,
    }
    changes: dict[str, Any] = {"train_steps": 2, "rotate": "z", "thin": True}
    clean, turned = map(Record.model_validate, evaluated(**given, **changes, conditions=("so3",)))
    base = protocol("tuned", "pointnet-small")
    augmentation = base.recipe.augmentation.model_copy(update={"rotate": "z"})
    changed = recipe("tuned", steps=2, augmentation=augmentation)
    plan = base.model_copy(update={"name": "tuned*", "recipe": changed, "thin": True})
    expected = evaluate(stored(artefact), load(tiny_file, "test"), plan, seeds=[0])
    assert clean.accuracy == expected.accuracies
    assert clean.protocol == turned.protocol == f"tuned* v{changed.version}"
    assert turned.recipe == changed.model_dump(mode="json")
    assert (turned.condition, turned.train_rotation, turned.thin) == ("so3", "z", True)
    assert (clean.arm, clean.points, clean.distill_seeds, clean.train_seeds) == ("random", 16, [3], [0])
    (alone,) = evaluated(**given, **changes)["runs"]  # the smallest case of the same
    of_parts = {"class_miou", "instance_miou", "class_ious"}  # said where points have them
    assert alone == json.loads(json.dumps({k: v for k, v in vars(expected.runs[0]).items() if k not in of_parts}))
    assert markdown([clean, turned]).splitlines()[5].startswith("| z/SO3 | ")
    same = evaluated(**given, rotate="none", conditions=("so3",))
    assert same[0]["protocol"] == f"tuned v{base.recipe.version}"  # that is what the recipe does


def test_an_output_is_gone_on_with(
    lines: Lines, artefact: Path, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    words: list[object] = [
        artefact,
        "--test-data",
        tiny_file,
        "--train-seeds",
        1,
        "--network",
        "pointnet-small",
        "--output",
        output,
    ]
    trained: list[list[str]] = []
    real = evaluate_conditions

    def counted(clouds: PointClouds, parts: Any, *more: Any, **named: Any) -> Any:
        trained.append([condition.name for part in parts for condition, _ in part.conditions])
        return real(clouds, parts, *more, **named)

    monkeypatch.setattr(command, "evaluate_conditions", counted)
    monkeypatch.setattr(kept, "draw", lambda *_: None)  # plots take longest, and have a test of their own
    plan = protocol("tuned", "pointnet-small")
    run = measure(Artefact.load(artefact), load(tiny_file, "test"), plan, 3, 1)
    old = summed_up("compare", "tiny", plan, [run], "", "")  # of another command: it stays, and does not show
    write_record(output / "records.jsonl", old)
    lines(*words, "--conditions", "z", "cutout:2")
    assert read_records(output / "records.jsonl")[0] == old
    first = read_records(output / "records.jsonl")[1:]
    lines(*words, "--conditions", "z", "so3", "cutout")
    second = read_records(output / "records.jsonl")[1:]
    again = lines(*words, "--conditions", "z", "so3", "cutout")
    assert trained == [["clean", "z", "cutout:2"], ["so3", *(f"cutout:{s}" for s in (1, 3, 4, 5))]]
    assert [r.condition for r in second] == ["clean", "z", "cutout:2", *trained[1]]
    assert second[:3] == first
    assert read_records(output / "records.jsonl")[1:] == second
    assert list(cells(again))[2:] == ["clean", "none/z", "none/SO3", "cutout"]
    assert (output / "table.md").read_text().rstrip("\n") in "\n".join(again)
    save = Select(data=str(tiny_file), output=artefact, clouds_per_class=2, points=16, method="random", seed=4,
                  force=True)  # fmt: skip
    save.run([].append)  # another set under the same name: no record of the old one stays in its column
    lines(*words, "--conditions", "z")
    assert trained[2:] == [["clean", "z"]]
    found = read_records(output / "records.jsonl")
    assert found[0] == old
    assert [one.distill_seeds for one in found[1:]] == [[4], [4]]
    lines(*words, "--train-steps", 2)  # another protocol: a column of its own
    assert cells((output / "table.md").read_text().splitlines())["clean"].count("–") == 0
    assert len(read_records(output / "records.jsonl")[1:]) == 3
    # Other seeds: in place of what was there, so that a row is never of unequal numbers of networks.
    lines(*words[:4], 2, *words[5:], "--conditions", "cutout")
    found = read_records(output / "records.jsonl")[2:]
    assert [len(one.accuracy) for one in found] == [2] * 6
    assert [r.condition for r in found] == ["clean", *(f"cutout:{s}" for s in range(1, 6))]
    # The same clouds in another file have a name and a size of their own.
    copy = artefact.with_name("b.h5")
    copy.write_bytes(artefact.read_bytes())
    lines(copy, *words[1:], "--train-steps", 2)
    assert trained[-1] == ["clean"]
    assert [r.variant for r in read_records(output / "records.jsonl")[1:]] == [
        "a.h5" if number < 7 else "b.h5" for number in range(8)
    ]
    assert all(str(tmp_path) not in line for line in (output / "records.jsonl").read_text().splitlines())


def test_plots_are_drawn_of_what_there_is(lines: Lines, artefact: Path, tiny_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    words = (
        artefact,
        "--test-data",
        tiny_file,
        "--train-seeds",
        1,
        "--network",
        "pointnet-small",
        "--output",
        tmp_path / "out",
    )
    lines(*words, "--conditions", "z")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"records.jsonl", "table.md"}
    said = lines(*words, "--conditions", "64", "1024", "impulse", "jitter")[-1]
    plots = {f"plot-{name}.{ending}" for name in ("severities", "kinds", "resolutions") for ending in ("png", "svg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"records.jsonl", "table.md", *plots}
    assert all(name in said for name in plots)
    assert "points per test cloud (log scale)" in (tmp_path / "out" / "plot-resolutions.svg").read_text()
    assert "impulse" in (tmp_path / "out" / "plot-kinds.svg").read_text()


def test_a_trained_network_is_scored_as_it_is(
    lines: Lines, tiny_file: Path, tmp_path: Path, short_recipes: None
) -> None:
    path = tmp_path / "net.safetensors"
    Train(source=str(tiny_file), output=path, points=32, network="pointnet-small").run([].append)
    test = load(tiny_file, "test")
    other = tmp_path / "other.h5"
    write_hdf5(renamed(load(tiny_file, "train")), renamed(test), other)
    found = json.loads(
        "\n".join(lines(path, "--test-data", tiny_file, "--thin", "--conditions", "shear:3", f"data:{other}", "--json"))
    )
    assert [record["condition"] for record in found] == ["clean", "shear:3", f"data:{other}"]
    trained = load_network(path)
    plan = trained.protocol.model_copy(update={"thin": True})
    for record, condition in zip(found[:2], parse_conditions(["shear:3"]), strict=True):
        expected = score(trained.network, shown(test, condition, plan, 32))
        assert record["accuracy"] == [expected.accuracy]
        assert record["confusion"] == [list(row) for row in expected.confusion]
    assert (found[0]["arm"], found[0]["points"], found[0]["train_seeds"]) == ("network", 32, [])
    assert found[2]["class_names"] == ["ball", "ring"]


def renamed(clouds: PointClouds) -> PointClouds:
    return replace(clouds, class_names=("Ball", "crate", "RING"))


def test_one_network_prints_its_classes_and_calibration(lines: Lines, artefact: Path, tiny_file: Path) -> None:
    words = (artefact, "--test-data", tiny_file, "--train-seeds", 2, "--network", "pointnet-small", "--per-class")
    printed = lines(*words)
    assert [line.split("  ")[0] for line in printed[:4]] == [
        "accuracy",
        "class accuracy",
        "calibration error",
        "networks",
    ]
    found = evaluate(stored(artefact), load(tiny_file, "test"), protocol("tuned", "pointnet-small"), seeds=[0, 1])
    confusion = torch.tensor([run.confusion for run in found.runs]).sum(0).tolist()
    assert printed[4:] == per_class(confusion, ["ball", "box", "ring"]).splitlines()
    many = lines(*words, "--conditions", "z")
    place = many.index("pointnet-small, clean:")
    assert many[place + 1 : place + 1 + len(printed[4:])] == printed[4:]
    assert "pointnet-small, z:" in many


def test_one_network_in_a_list_is_one_network(artefact: Path, tiny_file: Path) -> None:
    given = {"source": str(artefact), "test_data": str(tiny_file), "train_seeds": 1}
    one, listed = evaluated(**given, network="pointnet-small"), evaluated(**given, networks=("pointnet-small",))
    assert one["runs"] == listed["runs"]
    assert set(one) == {"seeds", "seconds", "runs"}

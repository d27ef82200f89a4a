"""Train x test networks, speed, and records measured anew: on a tiny set, with nothing written in `benchmarks/`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pcdistill.data import load
from pcdistill.evaluation import Record, read_records, write_record
from pcdistill.storage import Artefact

Script = Callable[[Path], ModuleType]
HERE = Path(__file__).parents[1] / "benchmarks"
SIZE = ("--bytes", 120, "--points", 16, "--bits", 6)


@pytest.fixture
def networks(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_recipes: None) -> ModuleType:
    module = script(HERE / "networks.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "networks.jsonl")
    monkeypatch.setattr(module, "SETS", tmp_path / "sets")
    usual = module.DistillConfig
    few = {"steps": 2, "networks": 1}
    monkeypatch.setattr(module, "DistillConfig", lambda **given: usual(**{**given, **few}))
    return module


def called(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> Any:
    monkeypatch.setattr(sys, "argv", ["script.py", *map(str, words)])
    return module.main()


def test_a_set_is_made_once_for_all_networks(
    networks: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SIZE, "--seeds", 2, "--steps", 2)
    called(networks, monkeypatch, tiny_file, "krr", "pointnet-small", *words)
    made = sorted(path.name for path in networks.SETS.iterdir())
    assert len(made) == 2
    monkeypatch.setattr(networks, "distill_artefact", None)
    called(networks, monkeypatch, tiny_file, "krr", "pointnet-tiny", *words)
    small, tiny = read_records(networks.RESULTS)
    assert (small.network, tiny.network) == ("pointnet-small", "pointnet-tiny")
    for record in (small, tiny):
        assert (record.arm, record.distilled, record.distill_network) == ("krr", True, "pointnet-small")
        assert (record.points, record.bits, len(record.accuracy)) == (16, 6, 2)
        assert record.bytes_per_class <= 120
        more = record.model_extra or {}
        assert (more["thin"], more["recipe"]["steps"], more["split"]) == (True, 2, "test")
        assert more["variant"] == "krr 120 validation=False"
    assert small.distill_seconds == tiny.distill_seconds > 0


def test_a_selection_says_what_it_took_and_validation_keeps_off_the_test_set(
    networks: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called(networks, monkeypatch, tiny_file, "random", "pointnet-tiny", *SIZE, "--steps", 1, "--validation")
    (record,) = read_records(networks.RESULTS)
    assert record.distill_seconds > 0
    assert (record.model_extra or {})["split"] == "the last fifth of train held out"
    cell = networks.Cell(str(tiny_file), "random", "pointnet-tiny", 120, 16, 6, validation=True)
    real, held = networks.splits(cell)
    everything = load(str(tiny_file), "train", points=1024)
    assert len(real) + len(held) == len(everything)
    (path,) = networks.SETS.iterdir()
    assert "validation" in path.name
    assert networks.make(cell, real, 0).clouds.points.equal(Artefact.load(path).clouds.points)


def test_the_whole_set_is_thinned_to_points_of_its_own(networks: ModuleType, tiny_file: Path) -> None:
    real = load(str(tiny_file), "train", points=1024)
    made = networks.make(networks.Cell(str(tiny_file), "whole", "pointnet", points=16), real, 0)
    assert made.points.shape == (24, 16, 3)
    assert (torch.cdist(made.points, real.points).amin(2) < 1e-3).all()
    assert not networks.SETS.exists()


def test_every_listed_cell_survives_its_own_command_line(networks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, seen = networks.cells(), []

    def measure(cell: Any) -> None:
        seen.append(cell)
        raise KeyboardInterrupt

    monkeypatch.setattr(networks, "measure", measure)
    for cell in listed:
        with pytest.raises(KeyboardInterrupt):
            called(networks, monkeypatch, *cell.command.split()[2:])
    # Bits are those of coded clouds: the whole set's command does not name them.
    assert [cell._replace(bits=0) for cell in seen] == [cell._replace(bits=0) for cell in listed]
    assert len({cell.command for cell in listed}) == len(listed)
    assert {networks.results(cell.dataset).name for cell in listed} == {"networks.jsonl", "shapes.jsonl"}


@pytest.mark.parametrize(
    "words", [["modelnet10", "krr"], ["modelnet10", "krr", "dgcnn"], ["shapes", "whole", "dgcnn", "--bytes", "9"]]
)
def test_half_a_cell_is_refused(
    words: list[str], networks: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        called(networks, monkeypatch, *words)
    assert "--bytes are needed" in capsys.readouterr().err


@pytest.fixture
def reproduce(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = script(HERE / "reproduce.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "committed")
    return module


def record(item: Any, accuracy: Sequence[float], **changes: Any) -> Record:
    mean = sum(accuracy) / len(accuracy)
    return Record(**{
        "benchmark": item.script, "dataset": item.arm.dataset, "arm": item.arm.arm, "distilled": False,
        "objective": None, "storage": "coded", "clouds_per_class": 9.9, "points": 128, "bits": 5,
        "bytes_per_class": 1229.0, "protocol": "tuned v2", "network": getattr(item.arm, "network", "pointnet"),
        "distill_network": None, "accuracy": list(accuracy), "accuracy_mean": mean, "accuracy_std": 0.02,
        "class_accuracy_mean": mean, "distill_seeds": [0], "train_seeds": [0], "distill_seconds": 1.0,
        "prepare_seconds": 1.0, "train_seconds": 1.0, "peak_mib": 1, "command": item.arm.command, "commit": "",
        "versions": {}, "hardware": "", "date": "", **changes,
    })  # fmt: skip


def test_what_is_measured_anew_is_what_the_scripts_list(reproduce: ModuleType) -> None:
    listed = reproduce.items()
    commands = {one.command for one in [*reproduce.SCRIPTS["networks"].cells(), *reproduce.SCRIPTS["frontier"].arms()]}
    assert {item.arm.command for item in listed} <= commands
    assert len(set(listed)) == len(listed) == 13
    assert {item.arm.dataset for item in listed} == {"modelnet10", "shapes"}
    assert len({item.label for item in listed}) == len(listed)


def test_shapes_have_a_committed_record(reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "RESULTS", HERE / "results")
    shapes = [item for item in reproduce.items() if item.file == "shapes.jsonl"]
    assert len(shapes) == 4
    assert all(reproduce.recorded(item) for item in shapes)


def test_items_on_one_set_follow_each_other_the_longest_first(reproduce: ModuleType) -> None:
    listed = reproduce.items()
    for item in listed:
        slow = item.arm.arm == "krr" and item.arm.dataset == "modelnet10"
        write_record(reproduce.RESULTS / item.file, record(item, [0.5], train_seconds=50.0 if slow else 1.0))
    found = reproduce.groups(listed)
    assert sorted(map(len, found)) == [1] * 7 + [3] * 2
    assert {item.arm.arm for item in found[0]} == {"krr"}
    assert [item for group in found for item in group] != listed
    assert {item for group in found for item in group} == set(listed)


@pytest.mark.parametrize(
    ("accuracy", "deviation", "allowed"),
    [([0.9, 0.9], 0.01, 0.0212), ([0.9] * 9, 0.01, 0.02), ([0.9], 0.0, 0.03), ([0.9] * 4, 0.1, 0.15)],
)
def test_tolerance(reproduce: ModuleType, accuracy: list[float], deviation: float, allowed: float) -> None:
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
    name: str, reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found, end, status = OUTCOMES[name]
    good, tried = reproduce.items()[7:9]
    monkeypatch.setattr(reproduce, "items", lambda: [good, tried])
    for item in (good, tried):
        write_record(reproduce.RESULTS / item.file, record(item, [0.8, 0.82]))
    before = (reproduce.RESULTS / good.file).read_text()
    outcomes = {good: reproduce.Outcome([0.8, 0.81]), tried: reproduce.Outcome(**found)}
    monkeypatch.setattr(reproduce, "in_a_process", lambda group: [outcomes[item] for item in group])
    assert called(reproduce, monkeypatch) == status
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:4]]
    assert rows[0] == [good.label, "81.0 ± 2.0 (2)", "80.5 ± 0.7 (2)", "-0.5", "4.2", "ok"]
    assert [rows[1][0], rows[1][-1]] == [tried.label, end]
    assert f" {end}" in lines[-1]
    assert lines[-1].startswith("2 ok, 0 no" if end == "ok" else "1 ok")
    assert lines[-1].endswith("minutes")
    if why := found.get("skipped") or found.get("failed"):
        assert f"{end}: {tried.label}: {why}" in lines
    assert (reproduce.RESULTS / good.file).read_text() == before


def test_an_item_without_a_record_fails_and_is_not_measured(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "in_a_process", None)
    assert called(reproduce, monkeypatch) == 1
    shown = capsys.readouterr().out
    assert "0 ok, 0 no, 0 failed, 13 no record, 0 skipped" in shown
    assert f"no record in networks.jsonl of: {reproduce.items()[0].arm.command}" in shown


def test_measured_anew_is_what_the_script_measures(
    reproduce: ModuleType, networks: ModuleType, tiny_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit on one machine; without the sets that were made before, which stay as they are."""
    cell = networks.Cell(str(tiny_file), "random", "pointnet-tiny", 120, 16, 6, seeds=2, steps=2)
    again = reproduce.SCRIPTS["networks"].Cell(*cell)
    recorded = networks.measure(cell)
    outcome, missing = reproduce.measured(
        [reproduce.Item("networks.jsonl", "networks", one) for one in (again, again._replace(dataset="nowhere"))]
    )
    assert outcome.accuracy == recorded.accuracy
    assert (outcome.skipped, outcome.failed) == (None, None)
    assert "nowhere" in missing.skipped
    assert not reproduce.SCRIPTS["networks"].SETS.exists()


def test_missing_data_and_a_crash_come_back_from_another_process(
    reproduce: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PCDISTILL_DATA", str(tmp_path / "nothing"))
    group = reproduce.items()[:2]
    outcomes = reproduce.in_a_process(group)
    assert all("modelnet10" in outcome.skipped and not outcome.accuracy for outcome in outcomes)
    crash = tmp_path / "crash.py"
    crash.write_text("raise SystemExit('out of luck')")
    monkeypatch.setattr(reproduce, "__file__", str(crash))
    assert reproduce.in_a_process(group) == [reproduce.Outcome(failed="out of luck")] * 2

"""Train x test networks, speed, and records measured anew: on a tiny set, with nothing written in `benchmarks/`."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from pcdistill.cli import main
from pcdistill.config import SelectConfig
from pcdistill.data import load
from pcdistill.evaluation import Record, accuracy_cell, read_records, write_record
from pcdistill.jobs import run_select
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


def rows_of(text: str) -> list[list[str]]:
    """Cells of the lines of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.fixture
def tables(script: Script) -> ModuleType:
    return script(HERE / "tables.py")


def crossed(cell: Any, accuracy: Sequence[float], **changes: Any) -> Record:
    item = SimpleNamespace(script="networks", arm=cell)
    variant = f"{cell.arm} {cell.bytes_per_class} validation={cell.validation}"
    made = "krr" if cell.arm == "krr-pool" else cell.arm
    facts = {"arm": made, "variant": variant, "thin": True, "test_points": 1024, "recipe": {"steps": 600}}
    return record(item, accuracy, **{**facts, **changes})


def test_networks_are_columns_and_the_best_of_a_size_is_bold(tables: ModuleType, networks: ModuleType) -> None:
    papers = json.loads((HERE / "results" / "published.json").read_text())["networks"]
    cell = networks.Cell
    records = [
        crossed(cell("modelnet10", "whole", "dgcnn"), [0.9], bytes_per_class=613017.6),
        crossed(cell("modelnet10", "random", "dgcnn", 12288), [0.8]),
        crossed(cell("modelnet10", "krr", "dgcnn", 12288), [0.7, 0.8], accuracy_std=0.07),
        crossed(cell("modelnet10", "krr", "pointnet", 12288), [0.6]),
        crossed(cell("modelnet10", "krr-pool", "pointnet", 1229), [0.5]),
        crossed(cell("modelnet10", "krr", "pointnet", 1229), [0.55]),
        crossed(cell("modelnet10", "random", "pointnet", 1229, validation=True), [0.99]),
    ]
    header, _, *rows = rows_of(tables.networks(records, papers))
    assert header == ["bytes per class", "trained on", "PointNet", "PointNet++", "DGCNN", "PointConv",
                      "Point Transformer"]  # fmt: skip
    assert rows[:5] == [
        ["ModelNet10, 1,229", "distilled", "**55.0**", "–", "–", "–", "–"],
        ["ModelNet10, 1,229", "distilled, pool", "50.0", "–", "–", "–", "–"],
        ["ModelNet10, 12,288", "random", "–", "–", "**80.0**", "–", "–"],
        ["ModelNet10, 12,288", "distilled", "60.0", "–", "75.0 ± 7.0", "–", "–"],
        ["ModelNet10, 613,018", "whole set", "–", "–", "90.0", "–", "–"],
    ]
    assert [row[1] for row in rows[5:]] == ["DM, printed", "DC, printed", "SADM, printed"]
    assert rows[-1][2:] == ["–", "82.9 ± 1.4", "79.0 ± 2.2", "56.6 ± 4.9", "77.6 ± 1.6"]
    text = tables.networks(records, papers, only=("12288",))
    assert {row[0] for row in rows_of(text)[2:]} == {"ModelNet10, 12,288", "ModelNet10, 613,018", "ModelNet10"}
    assert "`tuned v2`, 600 steps; training and test clouds of 128 points; n = 1 or 2." in text
    assert tables.networks([], papers) == ""


def test_robustness_of_what_evaluate_records(
    tables: ModuleType, tiny_file: Path, tmp_path: Path, short_recipes: None
) -> None:
    """Rows of rotations are of networks trained under them, columns are training sets."""
    output = tmp_path / "views"
    run_select(SelectConfig(data=str(tiny_file), output=tmp_path / "a.h5", clouds_per_class=2, points=16,
                            method="random"))  # fmt: skip
    words = ["--data", str(tiny_file), "--network", "pointnet-tiny", "--seeds", "2", "--output", str(output), "--views"]
    views = ["64", "gaussian:1", "gaussian:3", "shear:1"]
    assert main(["evaluate", str(tmp_path / "a.h5"), *words, "so3", *views]) == 0
    assert main(["evaluate", str(tmp_path / "a.h5"), *words, "so3", "--train-rotation", "so3"]) == 0
    assert main(["evaluate", str(tiny_file), *words, "64"]) == 0
    records = read_records(output / "records.jsonl")
    header, _, *rows = rows_of(tables.robustness(records))
    assert header == ["view", "random, 96 bytes", "whole set, 98,304 bytes"]
    found = {row[0]: row[1:] for row in rows}
    assert list(found) == ["clean", "none/SO3", "SO3/SO3", "64 points", "gaussian", "shear:1",
                           "ModelNet40-C, severity 1", "ModelNet40-C, severity 3", "ModelNet40-C, mean"]  # fmt: skip
    by_view = {(r.arm, r.train_rotation, r.view): r for r in records}  # type: ignore[attr-defined]
    for label, key in {
        "clean": ("random", "none", "clean"), "none/SO3": ("random", "none", "so3"),
        "SO3/SO3": ("random", "so3", "so3"), "64 points": ("random", "none", "64"),
    }.items():  # fmt: skip
        assert found[label][0] == accuracy_cell(by_view[key])
    assert found["64 points"][1] == accuracy_cell(by_view["whole", "none", "64"])
    assert found["gaussian"][1] == found["SO3/SO3"][1] == "–"
    degrees = [by_view["random", "none", f"gaussian:{degree}"].accuracy_mean for degree in (1, 3)]
    assert found["gaussian"][0].startswith(f"{50 * sum(degrees):.1f} ± ")
    clean = by_view["random", "none", "clean"].model_copy(update={"accuracy": [0.11, 0.11]})
    turned = [r for key, r in by_view.items() if key[:2] == ("random", "so3")]
    assert "| clean | 11.0 ± 0.0 |" in tables.robustness([*turned, clean])
    assert "tiny.h5, PointNet-tiny, protocol `tuned v2` at 3 steps, n = 2:" in tables.robustness(records)


def test_speed_is_measured_kept_and_shown(
    tables: ModuleType, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script(HERE / "speed.py")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "speed.json")
    for name, value in {"NETWORKS": ("pointnet-tiny",), "SEEDS": 2, "SIDE": 64}.items():
        monkeypatch.setattr(module, name, value)
    for part in ("seeds", "peak", "compiled"):
        usual = getattr(module, part)
        monkeypatch.setattr(module, part, lambda points, *more, usual=usual: usual(16, *more))
    monkeypatch.setattr(torch, "compile", lambda way: way)
    for part in ("seeds", "peak", "compile"):
        called(module, monkeypatch, part, "--threads", 1, "--steps", 2, "--repeats", 1)
    found = json.loads(module.RESULTS.read_text())
    assert list(found) == ["seeds 1", "peak 1", "compile 1"]
    for line in found["seeds 1"]["lines"]:
        assert line["speedup"] == pytest.approx(line["sequential_ms"] / line["stacked_ms"])
        assert line["at_once"] == 2
    trunk, head = 3 * 64 + 64 * 128 + 128 * 1024, 1024 * 512 + 512 * 256  # of the T-Net and of what follows it
    forward = 2 * 32 * (16 * (2 * trunk + 3 * 3) + 2 * head + 256 * 9 + 256 * 40)
    for line in found["peak 1"]["lines"]:
        assert line["dense_gflop_per_step"] == pytest.approx(3 * forward / 1e9)
        assert line["fraction_of_peak"] == pytest.approx(
            line["gflop_per_step"] / line["step_ms"] * 1000 / line["peak_gflops"]
        )
    rows = rows_of(tables.speed(found))
    assert [row[0] for row in rows if row[1] != "--:"] == [
        "seeds", "pointnet-tiny", "pointnet-tiny", "peak", "pointnet", "pointnet",
        "compile", "separate", "compiled", "fused",
    ]  # fmt: skip
    assert [row[1] for row in rows[2:4]] == ["bfloat16", "float32"]
    one = found["peak 1"]["lines"][0]
    shown = next(row for row in rows if row[:2] == ["pointnet", "float32"])
    assert shown[-2:] == [f"{100 * one[name]:.0f} %" for name in ("fraction_of_peak", "dense_fraction_of_peak")]
    assert tables.speed({}) == ""


def test_tables_without_records_say_so(tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "HERE", tmp_path)
    for name in ("networks", "networks_short", "robustness", "speed"):
        text = tables.filled(f"<!-- table: {name} -->\nold\n<!-- end -->\n", [])
        assert text == f"<!-- table: {name} -->\nNot measured yet.\n<!-- end -->\n"

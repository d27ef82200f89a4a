"""Trackers: one door for losses, pictures and results, with stand-ins for services and for another package's."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pcdistill.commands.compare import Compare
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.core.tracking import Tracked, Tracker, trackers

LONG = ("adapt", "compare", "distill", "evaluate", "experts", "rank", "teachers", "train")
NOTED = """
from pcdistill.core.tracking import Tracker


class Noted(Tracker):
    told = []

    def numbers(self, step, values):
        self.told.append(("numbers", step, dict(values)))

    def picture(self, step, path):
        self.told.append(("picture", step, path.is_file()))

    def result(self, name, facts):
        self.told.append(("result", name, dict(facts)))

    def close(self, finished):
        self.told.append(("close", finished, str(self.folder)))
"""


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """What the tracker `noted` of another distribution is told."""
    facts = tmp_path / "dist" / "distnoted-1.0.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: distnoted\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text("[pcdistill.trackers]\nnoted = plugin_noted:Noted\n")
    (tmp_path / "dist" / "plugin_noted.py").write_text(NOTED)
    monkeypatch.syspath_prepend(tmp_path / "dist")
    told: list[tuple[Any, ...]] = trackers["noted"].told  # type: ignore[attr-defined]
    told.clear()
    yield told
    sys.modules.pop("plugin_noted", None)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_tracker_of_another_package_is_told_of_a_distillation(
    noted: list[tuple[Any, ...]], tiny_file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    Distill(
        data=str(tiny_file), output=tmp_path / "a.h5", clouds_per_class=1, points=16, objective="dm", members=1,
        steps=2, snapshots=1, log=log, trackers=("noted",),
    ).run(lambda _: None)  # fmt: skip
    assert [one[1] for one in noted if one[0] == "numbers"] == [1, 2]
    assert [one[1:] for one in noted if one[0] == "picture"] == [(0, True), (1, True), (2, True)]
    results = {name: facts for kind, name, facts in noted if kind == "result"}
    assert results["a.h5"]["bytes_per_class"] == 48
    assert noted[-1] == ("close", True, str(log))
    kept = lines(log / "log.jsonl")
    assert kept == [{"step": step, **values} for kind, step, values in noted if kind == "numbers"]
    assert kept[0]["loss"] == results["outcome"]["loss_before"]
    assert [line["name"] for line in lines(log / "results.jsonl")] == ["outcome", "a.h5"]
    assert sorted(os.listdir(log)) == ["log.jsonl", "results.jsonl", "snapshots"]


def test_training_and_testing_are_told(
    noted: list[tuple[Any, ...]], tiny_file: Path, tmp_path: Path, short_recipes: None
) -> None:
    net = tmp_path / "net.safetensors"
    Train(
        source=str(tiny_file), output=net, points=32, network="pointnet-nano", log=tmp_path / "a", trackers=("noted",)
    ).run(lambda _: None)
    assert [set(one[2]) for one in noted if one[0] == "numbers"] == [{"loss"}] * 3
    noted.clear()
    Evaluate(
        source=str(tiny_file), networks=("pointnet-nano",), train_seeds=2, log=tmp_path / "b", trackers=("noted",)
    ).run(lambda _: None)
    seen = [(step, set(values)) for kind, step, values in noted if kind == "numbers"]
    assert seen == [(step, {"loss/pointnet-nano 0", "loss/pointnet-nano 1"}) for step in (1, 2, 3)]
    ((name, facts),) = [one[1:] for one in noted if one[0] == "result"]
    assert name == "pointnet-nano clean"
    assert 0 <= facts["accuracy_mean"] <= 1


def test_a_grid_tells_of_its_sets_and_of_every_cell(
    noted: list[tuple[Any, ...]], tiny_file: Path, tmp_path: Path
) -> None:
    grid = Compare(
        data=(str(tiny_file),), methods=("random", "dm"), budgets=("1x16@8",), networks=("pointnet-nano",),
        distill_seeds=1, train_seeds=1, train_steps=2, steps=2, output=tmp_path / "out", log=tmp_path / "log",
    )  # fmt: skip
    grid.run(lambda _: None)
    cells = lines(tmp_path / "log" / "results.jsonl")
    assert len(cells) == 2
    assert all(0 <= cell["accuracy_mean"] <= 1 and cell["name"].endswith(" clean") for cell in cells)
    (steps,) = (tmp_path / "log" / "sets").glob("*/log.jsonl")
    assert [line["step"] for line in lines(steps)] == [1, 2]
    grid.run(lambda _: None)  # all are there: they are told of again
    assert sorted(map(str, lines(tmp_path / "log" / "results.jsonl"))) == sorted(map(str, cells))


def test_all_long_commands_have_the_door() -> None:
    from pcdistill.commands import COMMANDS, command

    assert tuple(sorted(name for name in COMMANDS if issubclass(command(name), Tracked))) == LONG


def test_an_unknown_tracker_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^tracker: 'wandbb' \(did you mean 'wandb'\?\), expected one of .*wandb$"):
        Tracked.checked({"log": tmp_path / "log", "trackers": ["wandbb"]})
    assert not (tmp_path / "log").exists()


def test_trackers_need_a_folder() -> None:
    with pytest.raises(InputError, match=r"^trackers: wandb, and no folder, expected --log FOLDER$"):
        Tracked.checked({"trackers": ["wandb"]})


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_whose_package_is_missing_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with (
        pytest.raises(InputError, match=f"^trackers: {name} is not installed, expected pip install {name}$"),
        Tracked(log=tmp_path, trackers=(name,)).tracking(),
    ):
        pass


def test_one_that_cannot_begin_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise ValueError("api_key\nnot configured")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    refused = r"^trackers: wandb cannot begin \(ValueError: api_key not configured\), expected an account"
    with pytest.raises(InputError, match=refused), Tracked(log=tmp_path, trackers=("wandb",)).tracking():
        pass


def test_one_that_fails_on_the_way_is_left_out_and_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Tracker):
        def numbers(self, step: int, values: Any) -> None:
            raise ConnectionError("no server")

        def close(self, finished: bool) -> None:
            raise AssertionError

    monkeypatch.setitem(trackers._entries, "away", Away)
    with Tracked(log=tmp_path, trackers=("away",)).tracking() as tracking:
        tracking.loss(1, 0.5)
        tracking.loss(2, 0.25)
    assert [record.getMessage() for record in caplog.records] == [
        "tracker away: left out from here (ConnectionError: no server)"
    ]
    assert [line["loss"] for line in lines(tmp_path / "log.jsonl")] == [0.5, 0.25]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is of Linux")
def test_a_result_on_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised, Tracked(log=tmp_path).tracking() as tracking:
        tracking.result("a", {"b": 1})
    assert raised.value.filename == str(tmp_path / "results.jsonl")


def test_a_run_without_anything_to_say_leaves_older_lines_alone(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 0.5}\n')
    with Tracked(log=tmp_path).tracking() as tracking:
        tracking.result("a", {"share": float("nan")})
    assert lines(tmp_path / "log.jsonl") == [{"step": 1, "loss": 0.5}]
    assert lines(tmp_path / "results.jsonl") == [{"name": "a", "share": None}]
    with Tracked(log=tmp_path).tracking(goes_on=True) as tracking:
        tracking.loss(2, 0.25)
    assert [line["step"] for line in lines(tmp_path / "log.jsonl")] == [1, 2]


def told_all(folder: Path, name: str, goes_on: bool = False) -> None:
    picture = folder / "clouds.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    with Tracked(log=folder, trackers=(name,)).tracking(goes_on) as tracking:
        tracking.loss(1, 0.5)
        tracking.picture(1, picture)
        tracking.result("net clean", {"accuracy": 0.75, "network": "net"})


def test_wandb_gets_history_pictures_and_a_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history: list[tuple[int, Any]] = []
    ends: list[int] = []
    runs: list[dict[str, Any]] = []
    summary: dict[str, Any] = {}

    def init(**how: Any) -> SimpleNamespace:
        runs.append(how)
        return SimpleNamespace(
            log=lambda values, step: history.append((step, values)), summary=summary,
            finish=lambda exit_code: ends.append(exit_code),
        )  # fmt: skip

    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Image=Path))
    told_all(tmp_path, "wandb")
    assert history == [(1, {"loss": 0.5}), (1, {"clouds": tmp_path / "clouds.png"})]
    assert summary == {"net clean": {"accuracy": 0.75, "network": "net"}}
    assert ends == [0]
    assert (runs[0]["project"], runs[0]["dir"], runs[0]["resume"]) == ("pcdistill", str(tmp_path), "allow")
    assert runs[0]["config"]["trackers"] == ["wandb"]
    told_all(tmp_path, "wandb", goes_on=True)
    told_all(tmp_path, "wandb")
    assert runs[0]["id"] == runs[1]["id"] != runs[2]["id"]


def test_mlflow_gets_metrics_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    class Client:
        def __init__(self, tracking_uri: str) -> None:
            calls.append(("uri", tracking_uri))

        def get_experiment_by_name(self, name: str) -> None:
            return None

        def create_experiment(self, name: str, artifact_location: str | None) -> str:
            return name

        def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
            return SimpleNamespace(info=SimpleNamespace(run_id=f"{experiment} {run_name}"))

        def __getattr__(self, name: str) -> Any:
            return lambda *given, **named: calls.append((name, *given, *named.values()))

    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=Client))
    told_all(tmp_path, "mlflow")
    run = f"pcdistill {tmp_path.name}"
    assert calls[0] == ("uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert [call for call in calls if call[0] not in ("uri", "log_param")] == [
        ("log_metric", run, "loss", 0.5, 1),
        ("log_artifact", run, str(tmp_path / "clouds.png"), "clouds"),
        ("log_metric", run, "net clean/accuracy", 0.75),
        ("log_dict", run, {"accuracy": 0.75, "network": "net"}, "results/net clean.json"),
        ("set_terminated", run, "FINISHED"),
    ]


def test_tensorboard_gets_scalars_pictures_and_texts(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told_all(tmp_path, "tensorboard")
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "net clean/accuracy"]
    assert events.Tags()["images"] == ["clouds"]
    assert events.Scalars("net clean/accuracy")[0].value == 0.75

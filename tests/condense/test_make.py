"""The commands as functions: what they write says how it was made, and a run survives being stopped."""

import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import pcdistill as pcd
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.commands import experts
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.experts import Experts
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.commands.view import View
from pcdistill.core.engine import Job
from pcdistill.core.errors import InputError
from pcdistill.data import load, write_hdf5
from pcdistill.evaluation import evaluate
from pcdistill.matching.experts import record_experts
from pcdistill.models import build
from pcdistill.models.pointnet import PointNet
from pcdistill.selection import network_descriptor, watch
from pcdistill.selection import select as select_clouds
from pcdistill.training.loop import predict
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import load_network
from tests.conftest import lines_of, written

REPOSITORY = Path(__file__).parents[2]
STEPS = 300


def distilling(data: Path, output: Path, **changes: Any) -> Distill:
    few: dict[str, Any] = {"clouds_per_class": 2, "points": 16, "objective": "dm", "members": 1, "steps": 3}
    return Distill(data=str(data), output=output, **{**few, **changes})


@pytest.mark.skipif(sys.platform != "linux", reason="the size of pipes can only be set on Linux")
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_bytes(tiny_file: Path, tmp_path: Path) -> None:
    """The log is a pipe that nobody reads, so that the run waits in it, certainly unfinished, for the signal."""
    whole = written(distilling(tiny_file, tmp_path / "whole.h5", steps=STEPS, snapshots=2))
    output, checkpoint = tmp_path / "part.h5", tmp_path / "part.h5.checkpoint"
    (tmp_path / "log").mkdir()
    os.mkfifo(tmp_path / "log" / "log.jsonl")
    reader = os.open(tmp_path / "log" / "log.jsonl", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)  # room for a hundred lines
    words = ["distill", "--data", tiny_file, "--clouds-per-class", 2, "--points", 16, "--objective", "dm",
             "--members", 1, "--steps", STEPS, "--snapshots", 2, "--output", output,
             "--log", tmp_path / "log"]  # fmt: skip
    run = subprocess.Popen(
        [sys.executable, "-m", "pcdistill.cli", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert select.select([reader], [], [], 200)[0], "no step was made"
        run.send_signal(signal.SIGINT)
        os.set_blocking(reader, True)
        while os.read(reader, 1 << 16):
            pass
        out, err = run.communicate(timeout=100)
    finally:
        run.kill()
        run.wait()
        os.close(reader)
    assert run.returncode == 130
    assert out == ""
    assert err.startswith("pcdistill: stopped after step ")
    assert err.endswith(f"of {STEPS}; saved to {checkpoint} (the same command with --resume goes on from there)\n")
    assert checkpoint.is_file()
    assert not output.exists()

    resumed = written(distilling(tiny_file, output, steps=STEPS, snapshots=2, resume=True, log=tmp_path / "second"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "second" / "log.jsonl").read_text().splitlines()]
    assert 1 < steps[0] <= STEPS
    assert steps == list(range(steps[0], STEPS + 1))
    assert resumed.storage.arrays()["codes"].tobytes() == whole.storage.arrays()["codes"].tobytes()
    assert resumed.losses == whole.losses
    assert all(torch.equal(a, b) for a, b in zip(resumed.snapshots, whole.snapshots, strict=True))
    assert not checkpoint.exists()
    again = Artefact.load(output)
    assert again.storage.arrays()["codes"].tobytes() == whole.storage.arrays()["codes"].tobytes()


def test_a_log_has_every_step(tiny_file: Path, tmp_path: Path) -> None:
    made = written(distilling(tiny_file, tmp_path / "a.h5", log=tmp_path / "log"))
    lines = [json.loads(line) for line in (tmp_path / "log" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert [line["loss"] for line in lines] == pytest.approx(made.losses)


def test_a_new_run_does_not_write_into_an_older_log(tiny_file: Path, tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        made = written(distilling(tiny_file, tmp_path / name, log=tmp_path / "log"))
    assert len((tmp_path / "log" / "log.jsonl").read_text().splitlines()) == len(made.losses)


def test_tensorboard_reads_the_log(tiny_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    made = written(distilling(tiny_file, tmp_path / "a.h5", log=tmp_path / "log"))
    events = EventAccumulator(str(tmp_path / "log"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (step, pytest.approx(loss)) for step, loss in enumerate(made.losses, 1)
    ]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full is of Linux")
def test_a_log_on_a_full_disk_is_named_and_the_run_is_saved(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "log.jsonl").symlink_to("/dev/full")
    command = distilling(tiny_file, tmp_path / "a.h5", log=tmp_path / "log")
    with pytest.raises(OSError, match="No space left") as raised:
        command.run([].append)
    assert raised.value.filename == str(tmp_path / "log" / "log.jsonl")
    assert [path.name for path in tmp_path.iterdir() if path.suffix] == ["a.h5.checkpoint"]


def test_an_artefact_says_how_it_was_made(tiny_file: Path, tmp_path: Path) -> None:
    config = distilling(tiny_file, tmp_path / "a.h5", seed=5, lr=0.5, init="random", protocol="published",
                        bits=6, force=True)  # fmt: skip
    written(config)
    facts = Artefact.load(config.output).metadata
    real = load(tiny_file, "train")
    assert (facts.arm, facts.distilled, facts.storage, facts.seed) == ("dm", True, "points", 5)
    assert (facts.clouds_per_class, facts.points, facts.bits) == (2, 16, 6)
    assert facts.source_fingerprint == real.fingerprint()
    assert facts.dataset == "tiny.h5"
    assert facts.selection == {"method": "random", "features": "raw", "seed": 5}
    assert facts.objective is not None
    assert facts.settings is not None
    assert (facts.objective["name"], facts.objective["bank"]["networks"], facts.objective["seed"]) == ("dm", 1, 5)
    assert (facts.settings["steps"], facts.settings["lr"], facts.settings["seed"]) == (3, 0.5, 5)
    assert facts.protocol == protocol("published").model_dump(mode="json")
    assert str(tiny_file.parent) not in facts.to_json()


def test_no_steps_give_the_selection_itself(tiny_file: Path, tmp_path: Path) -> None:
    start = written(distilling(tiny_file, tmp_path / "a.h5", steps=0, init="kcenter"))
    chosen = written(
        Select(data=str(tiny_file), output=tmp_path / "b.h5", clouds_per_class=2, points=16, method="kcenter")
    )
    assert torch.equal(start.clouds.points, chosen.clouds.points)
    assert start.losses == ()


def test_selection_by_a_networks_features(tiny_clouds: PointClouds) -> None:
    made = pcd.select(
        tiny_clouds, clouds_per_class=2, points=16, bits=32, method="medoid", features="pointnet-small", seed=3
    )
    features = network_descriptor(tiny_clouds, build("pointnet-small", 3, 3))
    expected = select_clouds(tiny_clouds, "medoid", 2, features=features, points=16, seed=3)
    assert torch.equal(made.clouds.points, expected.points)
    assert made.metadata.selection["features"] == "pointnet-small, random weights, seed 3"


def test_any_method_may_compare_trained_features(tiny_clouds: PointClouds) -> None:
    made = pcd.select(tiny_clouds, clouds_per_class=2, points=16, bits=32, method="medoid", features="trained", seed=3)
    expected = select_clouds(tiny_clouds, "medoid", 2, features=watch(tiny_clouds, 3).features, points=16, seed=3)
    assert torch.equal(made.clouds.points, expected.points)
    assert made.metadata.selection["features"] == "pointnet-tiny, 3 trained ones, seed 3"


def test_a_network_file_holds_all_that_its_use_needs(tiny_file: Path, tmp_path: Path, short_recipes: None) -> None:
    path = tmp_path / "net.safetensors"
    lines = lines_of(Train(source=str(tiny_file), output=path, points=32, network="pointnet-small", seed=4))
    assert lines[-1].startswith(f"wrote {path}: 3 steps, loss ")
    loaded = load_network(path)
    assert loaded.class_names == ("ball", "box", "ring")
    assert loaded.protocol == protocol("tuned", network="pointnet-small")
    assert loaded.dataset == "tiny.h5"
    assert isinstance(loaded.network, PointNet)
    assert loaded.network.bf16 == loaded.protocol.recipe.bf16 is True
    test = load(tiny_file, "test")
    run = evaluate(load(tiny_file, "train", points=32), test, loaded.protocol, seeds=[4]).runs[0]
    guesses = predict(loaded.network, test.points).argmax(1)
    assert (guesses == test.labels).double().mean().item() == run.accuracy
    with safe_open(path, "pt") as stored:
        facts = stored.metadata()
    assert json.loads(facts["versions"])["torch"] == torch.__version__
    assert (facts["seed"], str(tiny_file.parent) in str(facts)) == ("4", False)


def test_what_an_artefact_says_is_the_default_and_flags_win(
    tiny_file: Path, tmp_path: Path, short_recipes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    config = Select(
        data=str(tiny_file), output=path, clouds_per_class=1, points=16, method="random", protocol="published"
    )
    clouds = written(config).clouds
    test = load(tiny_file, "test")
    for changes, plan in (
        ({"network": "pointnet-small"}, protocol("published", network="pointnet-small")),
        ({"network": "pointnet-small", "protocol": "tuned"}, protocol("tuned", network="pointnet-small")),
    ):
        (line,) = lines_of(Evaluate(source=str(path), test_data=str(tiny_file), train_seeds=1, json=True, **changes))
        expected = evaluate(clouds, test, plan, seeds=[0]).runs[0]
        assert [run["accuracy"] for run in json.loads(line)["runs"]] == [expected.accuracy]
    monkeypatch.chdir(tiny_file.parent)  # where the set that it was made from lies
    (line,) = lines_of(Evaluate(source=str(path), train_seeds=1, network="pointnet-small", json=True))
    assert len(json.loads(line)["runs"]) == 1


def test_a_view_of_where_clouds_started(tiny_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    made = written(distilling(tiny_file, path, snapshots=1, lr=0.1))
    shown = View(source=str(path), initial=True).exhibit()
    assert torch.equal(shown.frames[0], made.snapshots[0].float())
    assert torch.equal(shown.clouds.points, made.clouds.points)
    assert not torch.equal(shown.frames[0], shown.frames[-1])
    assert shown.title == "tiny.h5: dm, 96 bytes per class"


def test_a_network_whose_weights_do_not_fit_is_refused(
    tiny_file: Path, tmp_path: Path, short_recipes: None, tiny_clouds: PointClouds
) -> None:
    """The weights of a network for four classes under the facts of one for three."""
    from safetensors.torch import save_file

    path = tmp_path / "net.safetensors"
    lines_of(Train(source=str(tiny_file), output=path, points=16, network="pointnet-small"))
    with safe_open(path, "pt") as stored:
        facts = stored.metadata()
    save_file(build("pointnet-small", 4, 0).state_dict(), path, facts)
    with pytest.raises(InputError, match=r"net\.safetensors: not a network of this package"):
        load_network(path)


def test_output_folders_are_made(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    write_hdf5(tiny_clouds, tiny_clouds, tmp_path / "set.h5")
    output = tmp_path / "some" / "where" / "a.h5"
    written(Select(data=str(tmp_path / "set.h5"), output=output, clouds_per_class=1, points=16))
    assert Artefact.is_one(output)


def test_experts_are_jobs_of_their_own(tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are missing, as the named engine is asked to do them; a failed one is told of when all have ended."""
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path))
    asked: list[tuple[str, str, int]] = []

    def carried_out(left: Sequence[Job], engine: str, workers: int, device: str) -> Iterator[tuple[Job, str | None]]:
        for job in left:
            asked.append((job.name, engine, workers))
            if job.name == "expert 1" and len(asked) < 4:
                yield job, "a reason"
            else:
                job.work(*job.arguments)
                yield job, None

    monkeypatch.setattr(experts, "carried_out", carried_out)
    config = Experts(
        data=str(tiny_file), members=3, surrogate="pointnet-small-layernorm", workers=2, engine="ray",
        options={"start": [0, 1], "length": 1, "bank": {"points": 16, "steps": 4, "interval": 2}},
    )  # fmt: skip
    said: list[str] = []
    with pytest.raises(InputError, match=r"^experts: 1 of 3 failed, as expert 1: a reason$"):
        config.run(said.append)
    assert asked == [(f"expert {k}", "ray", 2) for k in range(3)]
    assert len(list(tmp_path.glob("experts/*"))) == 2
    config.run(said.append)
    assert asked[3:] == [("expert 1", "ray", 2)]
    assert [text.partition(":")[0] for text in said if "recorded before" in text] == [
        f"3 experts of 4 steps, {number} recorded before" for number in (0, 2)
    ]
    seconds = record_experts(load(str(tiny_file), "train"), config.config())[1]
    assert said[-1] == f"recorded in {seconds:.0f} s"
    config.run(said.append)
    assert len(asked) == 4

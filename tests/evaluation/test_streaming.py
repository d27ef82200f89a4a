"""`evaluate` and `train --stream`: a set on disk trains networks to the bits that the set in memory does."""

import json
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.core.sealed import KEY, unsealed
from pcdistill.data import StreamedClouds, load, open_streamed, write_hdf5
from pcdistill.evaluation import evaluate, train
from pcdistill.training import loop
from pcdistill.training.augment import Augmentation
from pcdistill.training.recipe import Recipe, protocol

EVERYTHING = Augmentation(scale=1.2, stretch=1.2, shift=0.1, jitter=0.01, tilt=8, rotate="z", mirror=True, drop=0.3)
BRIEF = ["--network", "pointnet-nano", "--train-steps", "4"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clouds each part had that was read; none may be the whole set."""
    sizes: list[int] = []
    usual = StreamedClouds._read

    def counted(self: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        return usual(self, rows)

    monkeypatch.setattr(StreamedClouds, "_read", counted)
    return sizes


@pytest.fixture
def never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = StreamedClouds.load
    monkeypatch.setattr(StreamedClouds, "load", lambda self: pytest.fail("loaded whole") or usual(self))


@pytest.mark.parametrize("changes", [
    {"batch": 5, "augmentation": EVERYTHING},
    {"batch": 5, "fill": False, "normalise": True, "optimizer": "sgd"},
    {"batch": 40},  # more than there are: clouds twice in a step
    {"batch": 7, "balanced": True, "points": 100, "ema": 0.9},
], ids=["augmented", "published", "repeats", "balanced"])  # fmt: skip
def test_networks_have_the_bits_of_those_trained_in_memory(
    changes: dict[str, Any], tiny_file: Path, reads: list[int]
) -> None:
    """Two at once, and one alone."""
    recipe = Recipe(name="brief", steps=6, **changes)
    whole = load(tiny_file, points=256)
    with open_streamed(tiny_file, points=256) as stream:
        for seeds in ((3,), (0, 1)):
            expected = loop.train_networks("pointnet-nano", whole, recipe, seeds)
            found = loop.train_networks("pointnet-nano", stream, recipe, seeds)
            for one, other in zip(found, expected, strict=True):
                assert_same(one.state_dict(), other.state_dict())
    assert 0 < max(reads) <= 2 * recipe.batch


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name, value in one.items() if not torch.equal(value, other[name])] == []


def test_the_api_takes_a_set_on_disk(tiny_file: Path, never_loaded: None) -> None:
    plan = protocol("tuned", network="pointnet-nano", test_points=128).changed(steps=3)
    whole, test = load(tiny_file), load(tiny_file, "test")
    with open_streamed(tiny_file) as stream:
        expected, found = (evaluate(one, test, plan, seeds=2) for one in (whole, stream))
        assert found.runs == expected.runs
        trained = train(stream, plan)
        assert trained.source_fingerprint == whole.fingerprint()
        assert_same(trained.network.state_dict(), train(whole, plan).network.state_dict())


def test_evaluate_keeps_the_record_that_it_keeps_without(
    tiny_file: Path, tmp_path: Path, never_loaded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", str(tiny_file), *BRIEF, "--train-seeds", "2", "--conditions", "so3", "--output"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    assert main([*words, str(tmp_path / "streamed"), "--stream"]) == 0
    whole, streamed = (
        [json.loads(line) for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        for name in ("whole", "streamed")
    )
    assert len(whole) == 2
    taken = {"command", "train_seconds", "peak_mib", "date"}
    for one, other in zip(whole, streamed, strict=True):
        assert {name: value for name, value in one.items() if name not in taken} == {
            name: value for name, value in other.items() if name not in taken
        }
        assert "--stream" in other["command"]
    monkeypatch.setattr(loop, "_fit", lambda *_: pytest.fail("trained again"))
    assert main([*words, str(tmp_path / "whole"), "--stream"]) == 0  # goes on where the other was
    with h5py.File(tiny_file, "r+"):  # is refused while another reader has it open
        pass


def test_train_writes_the_same_file(tiny_file: Path, tmp_path: Path, never_loaded: None) -> None:
    for name, more in (("whole", []), ("streamed", ["--stream"])):
        output = tmp_path / f"{name}.safetensors"
        assert main(["train", str(tiny_file), *BRIEF, "--points", "64", *more, "--output", str(output)]) == 0
    assert_same_file(tmp_path / "whole.safetensors", tmp_path / "streamed.safetensors")


def assert_same_file(one: Path, other: Path) -> None:
    """But for the order in which the library writes names, and the digest."""
    (tensors, facts), (others, said) = (unsealed(path.read_bytes(), path, "a network") for path in (one, other))
    assert_same(tensors, others)
    assert {**facts, KEY: ""} == {**said, KEY: ""}


def test_a_teacher_labels_what_is_read(tiny_file: Path, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.safetensors"
    assert main(["train", str(tiny_file), *BRIEF, "--output", str(teacher)]) == 0
    for name, more in (("whole", []), ("streamed", ["--stream"])):
        output = tmp_path / f"{name}.safetensors"
        words = ["train", str(tiny_file), *BRIEF, "--points", "64", "--teacher", str(teacher), "--policy", "kind=mix"]
        assert main([*words, *more, "--output", str(output)]) == 0
    assert_same_file(tmp_path / "whole.safetensors", tmp_path / "streamed.safetensors")


def test_what_cannot_stay_on_disk_is_one_line(
    tiny_file: Path, tiny_clouds: PointClouds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artefact, network, fewer = tmp_path / "a.h5", tmp_path / "net.safetensors", tmp_path / "fewer.h5"
    main(["select", "--data", str(tiny_file), "--clouds-per-class", "1", "--points", "16", "--output", str(artefact)])
    main(["train", str(artefact), *BRIEF, "--output", str(network)])
    assert Artefact.load(artefact).metadata.points == 16
    two = tiny_clouds[tiny_clouds.labels < 2].with_classes(tiny_clouds.class_names)
    pair = PointClouds(two.points, two.labels, tiny_clouds.class_names[:2])
    write_hdf5(pair, pair, fewer)
    cases = {
        (str(artefact),): f"stream: {artefact}, an artefact, expected a data set",
        (str(network),): f"stream: {network}, a trained network, expected a data set",
        ("shapes",): "stream: 'shapes', which is made in memory, expected a project HDF5 file",
        (str(tiny_file), "--protocol", "sweep"): "protocol: sweep, which holds clouds out, with --stream",
        (str(tiny_file), "--test-points", "64", "--conditions", f"data:{fewer}"):
            f"data:{fewer}: 2 classes of a set on disk, expected all, or a set in memory",
    }  # fmt: skip
    for words, message in cases.items():
        capsys.readouterr()
        assert main(["evaluate", *words, "--stream"]) == 2, words
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1, shown
        assert message in shown

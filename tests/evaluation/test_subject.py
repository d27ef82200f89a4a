"""What is trained on or tested, opened once: artefacts, data sets and networks, and what is asked of them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.core.options import Reading
from pcdistill.data import last_split, load
from pcdistill.data.places import remember, remembered
from pcdistill.evaluation.subject import (
    SubjectSpec,
    SupervisionSpec,
    TrainingSpec,
    open_set,
    open_subject,
    open_training,
    told,
)
from pcdistill.teaching import Online, OnPolicy
from pcdistill.training.recipe import protocol
from pcdistill.training.trained import Trained


class SupervisedSpec(TrainingSpec, SupervisionSpec):
    """As that of the commands that train."""


@pytest.fixture(scope="module")
def place(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set, artefacts of it, and a network that was trained on one."""
    folder = tmp_path_factory.mktemp("subjects")
    (folder / "set.h5").write_bytes(tiny_file.read_bytes())
    given: dict[str, Any] = {"data": str(folder / "set.h5"), "clouds_per_class": 2, "points": 16, "method": "random"}
    Select(**given, output=folder / "a.h5", protocol="published", expand={"interpolate": 1}).run([].append)
    Select(**given, output=folder / "swept.h5", protocol="sweep").run([].append)
    network = folder / "net.safetensors"
    Train(source=str(folder / "a.h5"), output=network, network="pointnet-nano", train_steps=2).run([].append)
    warm: dict[str, Any] = {"labels": "teacher", "teacher": [network], "temperature": 2.0}
    Select(**given, output=folder / "soft.h5", **warm).run([].append)
    return folder


@pytest.fixture(autouse=True)
def _there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_an_artefact_says_how_it_is_trained_on() -> None:
    training = open_training(TrainingSpec(source="a.h5"))
    artefact = Artefact.load("a.h5")
    assert torch.equal(training.clouds.points, artefact.training_clouds.points)
    assert (training.dataset, training.protocol, training.supervision) == ("set.h5", protocol("published"), None)
    assert training.digest == artefact.digest
    changed = open_training(TrainingSpec(source="a.h5", protocol="tuned", network="pointnet-nano", train_steps=7))
    assert changed.protocol == protocol("tuned", "pointnet-nano").changed(steps=7)


def test_a_data_set_is_trained_on_whole() -> None:
    training = open_training(TrainingSpec(source="set.h5"))
    assert training.artefact is None
    assert (training.protocol, training.clouds.points.shape) == (protocol("tuned"), (24, 1024, 3))
    assert open_training(TrainingSpec(source="set.h5"), points=100).clouds.points_per_cloud == 100
    with pytest.raises(InputError, match=r"a\.h5: an artefact with --points, expected a data set"):
        open_training(TrainingSpec(source="a.h5"), points=100)


def test_what_is_tested_has_its_test_set() -> None:
    subject = open_subject(SubjectSpec(source="a.h5", rotate="z", thin=True))
    assert torch.equal(subject.test.points, load("set.h5", "test").points)
    assert (subject.validation, subject.real) == (None, None)
    assert (subject.protocol.recipe.augmentation.rotate, subject.protocol.thin) == ("z", True)
    whole = open_subject(SubjectSpec(source="a.h5"), real=True).real
    assert whole is not None
    assert torch.equal(whole.points, load("set.h5", "train", points=1024).points)


def test_a_grid_chooses_on_clouds_that_are_held_out() -> None:
    kept, held = last_split(load("set.h5", "train", points=1024), 0.2)
    swept, data = (open_subject(SubjectSpec(source=name, protocol="sweep")) for name in ("swept.h5", "set.h5"))
    assert torch.equal(data.clouds.points, kept.points)
    for subject in (swept, data):
        assert subject.validation is not None
        assert torch.equal(subject.validation.points, held.points)
    with pytest.raises(InputError, match=r"a\.h5: made of clouds that protocol sweep chooses a recipe on"):
        open_subject(SubjectSpec(source="a.h5", protocol="sweep"))


def test_a_network_is_tested_as_it_was_trained() -> None:
    subject = open_subject(SubjectSpec(source="net.safetensors", network="pointnet-nano", thin=True))
    assert isinstance(subject.made, Trained)
    assert (subject.dataset, subject.protocol) == ("set.h5", subject.made.protocol)
    assert subject.protocol.thin
    with pytest.raises(InputError, match="a trained network, expected an artefact or a data set to train on"):
        _ = subject.clouds
    with pytest.raises(InputError, match="a trained network with --protocol and --train-steps, expected a set"):
        open_subject(SubjectSpec(source="net.safetensors", protocol="tuned", train_steps=3))


def test_supervision_is_at_the_temperature_of_the_protocol() -> None:
    given: dict[str, Any] = {"source": "soft.h5", "teacher": ["net.safetensors"]}
    training = open_training(SupervisedSpec(**given))
    assert isinstance(training.supervision, Online)
    assert training.supervision.teacher.temperature == training.protocol.recipe.temperature == 2.0
    training = open_training(SupervisedSpec(**given, temperature=3.0, hard=0.5, soft_loss="mse"))
    assert isinstance(training.supervision, Online)
    recipe = training.protocol.recipe
    assert (recipe.temperature, recipe.hard, recipe.soft_loss, recipe.name) == (3.0, 0.5, "mse", "tuned*")
    assert training.supervision.teacher.temperature == 3.0
    assert isinstance(open_training(SupervisedSpec(**given, policy={"kind": "mix"})).supervision, OnPolicy)
    with pytest.raises(InputError, match="temperature: 3 with --policy, expected 2, that of the set's labels"):
        open_training(SupervisedSpec(**given, temperature=3.0, policy={"kind": "mix"}))
    with pytest.raises(InputError, match="hard: given, but labels are hard, expected --teacher"):
        open_training(SupervisedSpec(source="a.h5", hard=0.5))
    assert open_training(SupervisedSpec(source="soft.h5", hard=0.5)).supervision is None


def test_an_artefact_or_a_data_set() -> None:
    assert isinstance(open_set("a.h5", Reading()), Artefact)
    clouds = open_set("set.h5", Reading(), "test", 50)
    assert not isinstance(clouds, Artefact)
    assert torch.equal(clouds.points, load("set.h5", "test", points=50).points)


@pytest.mark.parametrize(
    "dataset", ["/etc/passwd", "../tiny.h5", "sub/tiny.h5", r"\\host\share", "C:set", "", ".", "..", "a\0"]
)
def test_a_file_does_not_choose_what_is_opened(dataset: str) -> None:
    with pytest.raises(InputError, match=r"^art\.h5: made from '.*', which is not here, expected --real"):
        told(dataset, "", "art.h5", "--real")


def test_names_of_the_catalog_and_of_the_folder_are_what_a_file_may_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.h5").touch()
    for dataset in ("shapes", "scanobjectnn:OBJ_BG", "tiny.h5"):
        assert told(dataset, "", "art.h5", "--real") == dataset


def test_where_this_machine_read_a_set_is_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    here, there = tmp_path / "set.h5", tmp_path / "there" / "set.h5"
    there.parent.mkdir()
    for path in (here, there):
        path.touch()
    remember("a" * 64, "there/set.h5")
    remember("b" * 64, "shapes")  # of the catalog: no path
    assert told("set.h5", "a" * 64, "art.h5", "--real") == str(there)
    assert told("set.h5", "b" * 64, "art.h5", "--real") == "set.h5"
    there.unlink()
    assert told("set.h5", "a" * 64, "art.h5", "--real") == "set.h5"
    here.unlink()
    with pytest.raises(InputError, match=r"made from 'set\.h5', which is not here"):
        told("set.h5", "a" * 64, "art.h5", "--real")
    (own_cache / "note").write_text(str(tmp_path))
    assert remembered("../note") is None  # what a file says is no way through the cache

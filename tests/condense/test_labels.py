"""Soft labels on their way: learned by the loop, given by a teacher, through objectives, jobs and the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.commands.distill import Distill
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.select import Select
from pcdistill.commands.train import Train
from pcdistill.condense.loop import DistillSettings, Follower, Interrupted, distill
from pcdistill.condense.make import _within
from pcdistill.condense.start import Start
from pcdistill.core.errors import InputError
from pcdistill.core.files import sha256_file
from pcdistill.data import write_hdf5
from pcdistill.data.procedural import shapes
from pcdistill.geometry import normalise
from pcdistill.matching import BankConfig, Objective
from pcdistill.matching.krr import KernelRidgeRegression
from pcdistill.storage import Budget
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.labels import smoothed
from pcdistill.storage.points import StoredPoints
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import recipe
from pcdistill.training.trained import load_network, save_network
from tests.conftest import lines_of, written

CLASSES = ("ball", "box", "ring")


class Wanted(Objective):
    """Squared distance of points and labels from fixed ones, the labels' turned by one class."""

    name = "wanted"

    def describe(self) -> dict[str, Any]:
        return {}

    def prepare(self, real: CloudSource) -> None:
        self.target = torch.eye(3).roll(1, 1)

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        noise = torch.randn(3, generator=torch.Generator().manual_seed(step)) / 10
        near = (decoded.points - noise).square().mean()
        return near + (decoded.labels - self.target[decoded.labels.detach().argmax(1)]).square().mean()


def stored(*, learn: bool = True) -> StoredPoints:
    points = torch.rand(12, 5, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    storage = StoredPoints(
        points, torch.arange(len(CLASSES)).repeat_interleave(len(points) // len(CLASSES)), 8, CLASSES
    )
    storage.soften(smoothed(storage.labels, 3, 0.9), learn=learn)
    return storage


def settings(**changes: Any) -> DistillSettings:
    return DistillSettings(**{"steps": 30, "lr": 0.02, "batch": 100, **changes})


# The loop


def test_learned_labels_go_where_the_loss_wants_them(tiny_clouds: PointClouds) -> None:
    class Turned(Wanted):
        def loss(self, decoded: PointClouds, step: int) -> Tensor:
            return (decoded.labels - self.target.repeat_interleave(4, 0)).square().sum(1).mean()

    storage = stored()
    done = distill(tiny_clouds, storage, Turned(), settings(steps=100))
    assert done.losses[-1] < 0.05 * done.losses[0]
    assert storage.decode().labels.argmax(1).tolist() == [1] * 4 + [2] * 4 + [0] * 4
    assert storage.labels.tolist() == storage.decode().hard_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert torch.equal(storage.points, stored().points)  # which this loss does not depend on


def test_a_step_of_labels_is_ten_of_a_coordinate(tiny_clouds: PointClouds) -> None:
    storage, before = stored(), stored()
    distill(tiny_clouds, storage, Wanted(), settings(steps=1))
    for name, size in (("points", 0.02), ("labels", 0.2)):
        moved = (storage.learned()[name] - before.learned()[name]).detach().abs()
        torch.testing.assert_close(moved, torch.full_like(moved, size), rtol=1e-3, atol=0)


@pytest.mark.parametrize(("batch", "ema"), [(100, 0.0), (4, 0.0), (4, 0.9)])
def test_resumed_labels_are_those_of_an_uninterrupted_run(
    batch: int, ema: float, tiny_clouds: PointClouds, tmp_path: Path
) -> None:
    how, path = settings(batch=batch, steps=9, ema=ema, snapshots=1), tmp_path / "checkpoint"
    reference, storage = stored(), stored()
    expected = distill(tiny_clouds, reference, Wanted(), how)

    class Stopping(Follower):
        def step(self, step: int, loss: float) -> None:
            if step == 4:
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        distill(tiny_clouds, stored(), Wanted(), how, checkpoint=path, followers=[Stopping()])
    done = distill(tiny_clouds, storage, Wanted(), how, checkpoint=path, resume=True)
    assert done.losses == expected.losses
    for name, value in storage.learned().items():
        assert torch.equal(value, reference.learned()[name])
    assert storage.arrays()["labels"].tobytes() == reference.arrays()["labels"].tobytes()
    assert storage.arrays()["labels"].tobytes() != stored().arrays()["labels"].tobytes()
    with pytest.raises(InputError, match="checkpoint of a run with other data or settings"):
        distill(tiny_clouds, stored(learn=False), Wanted(), how, checkpoint=path, resume=True)


# Objectives


@pytest.fixture
def small_bank() -> BankConfig:
    return BankConfig(
        networks=1, network="pointnet-small", points=16, pooled_points=16, quantiles=4, trained_steps=(0, 0),
        trained_clouds=4, pooled_samples=4,
    )  # fmt: skip


def test_labels_are_only_learned_by_objectives_that_see_them(tmp_path: Path) -> None:
    config = Distill(
        data="shapes", output=tmp_path / "a.h5", clouds_per_class=1, points=8, objective="dm", labels="learned"
    )
    wanted = r"^labels: learned with objective dm, which sees classes only, expected one of dc, dsa, gm, idm, krr, tm$"
    with pytest.raises(InputError, match=wanted):
        written(config)


def test_regression_on_one_hot_soft_labels_is_that_on_classes(tiny_clouds: PointClouds, small_bank: BankConfig) -> None:
    objective = KernelRidgeRegression(small_bank)
    objective.prepare(tiny_clouds)
    hard = tiny_clouds[[0, 1, 8, 9, 16, 17]]
    soft = PointClouds(hard.points, torch.eye(3)[hard.labels], hard.class_names)
    assert objective.loss(soft, 3).item() == objective.loss(hard, 3).item()


def test_regression_learns_labels(tiny_clouds: PointClouds, small_bank: BankConfig) -> None:
    """Its loss is a parabola in the labels: they alone, at fixed clouds, bring it down."""
    objective = KernelRidgeRegression(small_bank)
    objective.prepare(tiny_clouds)
    storage = StoredPoints(tiny_clouds.points, tiny_clouds.hard_labels, 8, CLASSES)
    wrong = storage.labels.roll(8)  # every class under the name of another
    storage.soften(smoothed(wrong, 3, 0.5), learn=True)
    start = storage.decode()
    for step in range(40):
        logits = storage.learned()["labels"]
        (gradient,) = torch.autograd.grad(objective.loss(storage.decode(), step), logits)
        with torch.no_grad():
            logits -= 50 * gradient
    assert objective.loss(storage.decode(), 99) < 0.8 * objective.loss(start, 99)
    right = (storage.decode().hard_labels == storage.labels).double().mean()
    assert right > 0.7


# Training on them


def test_training_follows_soft_labels(tiny_clouds: PointClouds) -> None:
    from pcdistill.models import build

    soft = torch.tensor([0.6, 0.3, 0.1]).expand(24, 3)
    network = build("pointnet-small", 3, 0)
    train(network, PointClouds(tiny_clouds.points, soft, CLASSES), recipe("tuned", steps=40, batch=8), 0)
    found = predict(network, tiny_clouds.points).softmax(1).mean(0)
    torch.testing.assert_close(found, soft[0], atol=0.15, rtol=0)


# Jobs


@pytest.fixture
def teacher(tiny_file: Path, tmp_path: Path, short_recipes: None) -> Path:
    path = tmp_path / "folder" / "net.safetensors"
    lines_of(Train(source=str(tiny_file), output=path, points=32, network="pointnet-small"))
    return path


def distilling(data: Path, output: Path, **changes: Any) -> Distill:
    few: dict[str, Any] = {"clouds_per_class": 2, "points": 16, "objective": "krr", "members": 1, "steps": 3}
    few["force"] = True
    return Distill(data=str(data), output=output, **{**few, **changes})


def teaching(teacher: Path, points: Tensor, temperature: float) -> Tensor:
    with torch.no_grad():
        return (load_network(teacher).network(points).logits / temperature).softmax(1)


def test_a_teachers_labels_are_of_the_final_clouds(tiny_file: Path, tmp_path: Path, teacher: Path) -> None:
    config = distilling(tiny_file, tmp_path / "a.h5", labels="teacher", teacher=teacher, temperature=0.05, lr=0.3)
    written(config)
    made = Artefact.load(config.output)
    expected = teaching(teacher, made.clouds.points, 0.05)
    assert (made.clouds.labels - expected).abs().max() < 0.01
    start = written(config.model_copy(update={"steps": 0}))
    assert (made.clouds.labels - start.clouds.labels).abs().max() > 0.02
    assert made.metadata.selection["labels"] == {
        "kind": "teacher", "teacher": "net.safetensors", "sha256": sha256_file(teacher),
        "network": "pointnet-small", "temperature": 0.05,
    }  # fmt: skip
    assert "folder" not in made.metadata.to_json()
    assert made.bytes_per_class == 2 * (48 + 3)


def test_learned_labels_start_from_the_teacher_or_the_class(tiny_file: Path, tmp_path: Path, teacher: Path) -> None:
    still = distilling(tiny_file, tmp_path / "a.h5", labels="learned", steps=0)
    start = written(still)
    torch.testing.assert_close(start.clouds.labels, smoothed(start.storage.labels, 3, 0.9), atol=3e-3, rtol=0)
    assert start.metadata.selection["labels"] == {"kind": "learned", "own": 0.9}
    moved = written(still.model_copy(update={"steps": 3}))
    assert not torch.equal(moved.clouds.labels, start.clouds.labels)
    assert torch.equal(Artefact.load(still.output).clouds.labels, moved.clouds.labels)

    taught = written(still.model_copy(update={"teacher": (teacher,), "temperature": 0.1}))
    assert (taught.clouds.labels - teaching(teacher, taught.clouds.points, 0.1)).abs().max() < 0.01
    labels = taught.metadata.selection["labels"]
    assert isinstance(labels, dict)
    assert (labels["kind"], labels["teacher"], labels["temperature"]) == ("learned", "net.safetensors", 0.1)


def test_a_selection_may_be_labelled_by_a_teacher(tiny_file: Path, tmp_path: Path, teacher: Path) -> None:
    config = Select(
        data=str(tiny_file),
        output=tmp_path / "a.h5",
        bytes_per_class=110,
        points=16,
        bits=8,
        storage="points",
        labels="teacher",
        teacher=teacher,
        force=True,
    )
    made = written(config)
    assert (made.metadata.clouds_per_class, made.bytes_per_class) == (2, 2 * (48 + 3))
    assert (made.clouds.labels - teaching(teacher, made.clouds.points, 1.0)).abs().max() < 0.01
    hard = written(config.model_copy(update={"labels": "hard", "teacher": ()}))
    assert torch.equal(hard.clouds.points, made.clouds.points)
    assert hard.metadata.selection == {"method": "medoid", "features": "raw", "seed": 0}
    (line,) = lines_of(Evaluate(source=str(config.output), test_data=str(tiny_file), train_seeds=1, json=True))
    assert 0 <= json.loads(line)["runs"][0]["accuracy"] <= 1


@pytest.fixture
def many(tiny_clouds: PointClouds, tmp_path: Path) -> Path:
    """A set of 160 clouds per class, noisy copies of `tiny_clouds`, as a file."""
    noise = torch.randn(20, *tiny_clouds.points.shape, generator=torch.Generator().manual_seed(0)) / 20
    points = (tiny_clouds.points + noise).flatten(0, 1)
    clouds = PointClouds(normalise(points), tiny_clouds.labels.repeat(20), CLASSES)
    path = tmp_path / "many.h5"
    write_hdf5(clouds, tiny_clouds, path)
    return path


@pytest.mark.parametrize("temperature", [0.05, 1.0, 4.0])
def test_a_budget_holds_the_coded_labels_of_a_teacher(
    temperature: float, many: Path, tmp_path: Path, teacher: Path
) -> None:
    """What labels take is known only once clouds are chosen, and the budget is used all the same."""
    room, output = 3 * 800, tmp_path / "a.h5"
    config = Select(
        data=str(many), output=output, bytes=room, points=16, bits=5, labels="teacher", teacher=teacher,
        temperature=temperature, method="random",
    )  # fmt: skip
    written(config)
    made = Artefact.load(output)
    assert made.metadata.layout["soft_labels"] == 2
    assert 0.95 * room < made.storage.nbytes <= room
    assert made.sizes(output).training_bytes == made.storage.nbytes
    labels = made.storage.arrays()["labels"]
    assert 0 < labels.nbytes < 3 * len(made.clouds)
    assert (made.clouds.labels - teaching(teacher, made.clouds.points, temperature)).abs().max() < 0.06


def test_a_distilled_budget_holds_the_coded_labels_of_the_final_clouds(
    many: Path, tmp_path: Path, teacher: Path
) -> None:
    """Thrown about by the learning rate, clouds take more bytes and other labels."""

    def config(**size: Any) -> Distill:
        return distilling(
            many, tmp_path / "a.h5", points=32, bits=5, labels="teacher", teacher=teacher, temperature=0.05,
            lr=0.3, storage="coded", **size,
        )  # fmt: skip

    least = written(config(clouds_per_class=1, steps=0)).storage.nbytes
    for room in (3 * 200, least + 4):
        written(config(clouds_per_class=None, bytes=room, steps=5))
        made = Artefact.load(tmp_path / "a.h5")
        assert made.metadata.layout["soft_labels"] == 2
        assert made.storage.nbytes <= room
        assert (made.clouds.labels - teaching(teacher, made.clouds.points, 0.05)).abs().max() < 0.06


def test_labels_follow_clouds_that_move_back_until_they_fit() -> None:
    """One cloud of every class, thrown about; its label says how far its points lie from the middle."""
    points = 2 * torch.rand(3, 40, 3, generator=torch.Generator().manual_seed(0)) - 1
    thrown_about = PointClouds(points, torch.arange(3), CLASSES)
    start = Start(thrown_about.with_points(thrown_about.points / 50), Budget(1, 40, 8), CodedPoints, 0)
    storage = CodedPoints.from_clouds(start.clouds, start.budget)

    def follow() -> None:
        spread = storage.decode().points.detach().norm(dim=2).mean(1)
        storage.soften(torch.stack([spread, spread / 2, 1 - 1.5 * spread], 1).clamp_min(0.01).softmax(1))

    follow()
    room = storage.nbytes + 20
    with torch.no_grad():
        storage.points.copy_(thrown_about.points)
    follow()
    thrown = storage.label_logits
    assert storage.nbytes > room
    assert _within(storage, start, room, follow).tolist() == [0, 1, 2]
    assert storage.nbytes <= room
    found = storage.label_logits
    follow()
    assert found is not None
    assert thrown is not None
    assert storage.label_logits is not None
    assert torch.equal(found, storage.label_logits)
    assert not torch.equal(found, thrown)


@pytest.mark.parametrize(
    ("storage", "labels", "room", "clouds"),
    [("points", "hard", 96, 2), ("points", "learned", 101, 1), ("points", "learned", 102, 2),
     ("rotated", "hard", 107, 1), ("rotated", "hard", 108, 2), ("rotated", "learned", 114, 2)],
)  # fmt: skip
def test_bytes_count_labels_and_angles(
    storage: str, labels: str, room: int, clouds: int, tiny_file: Path, tmp_path: Path
) -> None:
    """48 bytes of coordinates, 6 of angles, 3 of labels."""
    changes = {
        "clouds_per_class": None,
        "bytes_per_class": room,
        "bits": 8,
        "storage": storage,
        "labels": labels,
        "steps": 0,
    }
    made = written(distilling(tiny_file, tmp_path / "a.h5", **changes))
    assert made.metadata.clouds_per_class == clouds
    assert made.bytes_per_class <= room
    assert made.bytes_per_class == clouds * made.budget.cloud_bytes


def test_learned_angles_turn_clouds(tiny_file: Path, tmp_path: Path) -> None:
    written(distilling(tiny_file, tmp_path / "a.h5", storage="rotated", labels="learned", snapshots=1))
    made = Artefact.load(tmp_path / "a.h5")
    assert made.storage.arrays().keys() == {"codes", "labels", "angles"}
    assert made.storage.arrays()["angles"].any()
    assert torch.equal(made.snapshots[-1], made.clouds.points.half())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": "teacher"}, r"^labels: 'teacher' and no --teacher, expected a network written by"),
        ({"teacher": "net"}, r"^teacher: .*net\.safetensors with hard labels, expected --labels teacher"),
        ({"labels": "learned", "temperature": 2.0}, r"^temperature: 2\.0 and no --teacher, expected both or neither$"),
        ({"labels": "teacher", "teacher": "other"}, r"other\.safetensors: classes ring, box, ball, expected those of"),
        ({"labels": "teacher", "teacher": "none"}, r"none\.safetensors: no such file"),
    ],
)
def test_labels_that_cannot_be_had(
    changes: dict[str, Any], message: str, tiny_file: Path, tmp_path: Path, teacher: Path
) -> None:
    other = load_network(teacher)._replace(class_names=("ring", "box", "ball"))
    save_network(teacher.with_name("other.safetensors"), other)
    if "teacher" in changes:
        changes = {**changes, "teacher": teacher.with_name(f"{changes['teacher']}.safetensors")}
    output = tmp_path / "made" / "a.h5"
    with pytest.raises(InputError, match=message) as caught:
        written(distilling(tiny_file, output, **changes))
    assert "\n" not in str(caught.value)
    if changes.get("labels") != "learned":
        with pytest.raises(InputError, match=message):
            written(Select(data=str(tiny_file), output=output, clouds_per_class=1, points=16, **changes))
    assert not output.exists()


def test_a_selection_learns_nothing() -> None:
    with pytest.raises(InputError, match=r"labels = 'learned', expected 'hard', 'teacher' or 'network'"):
        Select.checked({"data": "set", "output": "a.h5", "labels": "learned"})


# The command line


def test_soft_labels_on_the_command_line(
    tmp_path: Path,
    short_recipes: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the built-in shapes to a teacher, to sets with its labels or learned ones, to accuracy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shapes, "TRAIN_PER_CLASS", 3)
    monkeypatch.setattr(shapes, "TEST_PER_CLASS", 1)

    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out

    small = ("--data", "shapes", "--clouds-per-class", 1, "--points", 16)
    few = (*small, "--members", 1, "--surrogate", "pointnet-small", "--steps", 2)
    run("train", "shapes", "--points", 16, "--network", "pointnet-small", "--output", "net.safetensors")
    by_teacher = ("--labels", "teacher", "--teacher", "net.safetensors", "--temperature", 2)
    commands: dict[str, tuple[object, ...]] = {
        "selected": ("select", *small, *by_teacher),
        "taught": ("distill", *few, *by_teacher),
        "learned": ("distill", *few, "--labels", "learned", "--storage", "rotated"),
    }
    for name, words in commands.items():
        size = 48 + 10 + 6 * (name == "learned")
        assert f"{size} bytes per class" in run(*words, "--output", f"{name}.h5")
        facts = json.loads(run("show", f"{name}.h5", "--json"))
        assert facts["selection"]["labels"]["kind"] == ("learned" if name == "learned" else "teacher")
        assert facts["sizes"]["training_bytes"] == 10 * size
        assert Artefact.load(f"{name}.h5").clouds.labels.shape == (10, 10)
    found = json.loads(run("evaluate", "learned.h5", "--train-seeds", 1, "--network", "pointnet-small", "--json"))
    assert 0 <= found["runs"][0]["per_class"][0] <= 1

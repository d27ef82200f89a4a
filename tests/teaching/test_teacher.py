"""Teachers, alone and together, and what students are told online."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.commands.evaluate import Evaluate
from pcdistill.commands.train import Train
from pcdistill.core.errors import InputError
from pcdistill.core.files import sha256_file
from pcdistill.models import Network, build
from pcdistill.teaching import Online, Teacher, read_teacher
from pcdistill.training import loop as training
from pcdistill.training.loop import predict, train, train_networks
from pcdistill.training.recipe import protocol, recipe
from pcdistill.training.supervision import Batch, OnBatch
from pcdistill.training.trained import Trained, load_network


def fresh(clouds: PointClouds, seed: int, network: str = "pointnet-small") -> Trained:
    plan = protocol("tuned", network)
    return Trained(build(network, clouds.num_classes, seed).eval(), clouds.class_names, plan, "tiny", 32)


def test_an_ensemble_averages_probabilities(tiny_clouds: PointClouds) -> None:
    one, two = fresh(tiny_clouds, 0), fresh(tiny_clouds, 1)
    found = Teacher((one, two), 2.0).probabilities(tiny_clouds.points)
    parts = [(predict(each.network, tiny_clouds.points) / 2).softmax(1) for each in (one, two)]
    torch.testing.assert_close(found, sum(parts) / 2)
    torch.testing.assert_close(found.sum(1), torch.ones(len(found)))


def test_other_classes_are_refused(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match="classes ball, box, ring, expected those of the data: a, b"):
        Teacher((fresh(tiny_clouds, 0),)).check(("a", "b"))


def test_a_student_learns_what_only_the_teacher_says(tiny_clouds: PointClouds) -> None:
    """Labels of the set are wrong by one class; the teacher knows better."""
    taught = build("pointnet-small", 3, 5)
    train(taught, tiny_clouds, recipe("tuned", steps=60, batch=12), 5)
    teacher = Teacher((fresh(tiny_clouds, 0)._replace(network=taught),))
    turned = PointClouds(tiny_clouds.points, (tiny_clouds.labels + 1) % 3, tiny_clouds.class_names)
    student = build("pointnet-small", 3, 0)
    train(student, turned, recipe("tuned", steps=60, batch=12), 0, supervision=Online(teacher))
    told = teacher.probabilities(tiny_clouds.points)
    assert (told.argmax(1) == tiny_clouds.labels).float().mean() > 0.9
    found = predict(student, tiny_clouds.points)
    assert (found.argmax(1) == told.argmax(1)).float().mean() > 0.9
    assert (found.softmax(1) - told).abs().mean() < 0.1


def test_taught_together_as_alone(tiny_clouds: PointClouds) -> None:
    """Losses of the first steps: later on rounding grows."""
    supervision = Online(Teacher((fresh(tiny_clouds, 3),), 2.0))
    how = recipe("tuned", steps=2, batch=8, bf16=False, temperature=2.0, lr=1e-4)
    networks = [build("pointnet-tiny", 3, seed) for seed in (0, 1)]
    together = training._fit(networks, tiny_clouds, how, [0, 1], None, supervision)
    for seed in (0, 1):
        alone = train(build("pointnet-tiny", 3, seed), tiny_clouds, how, seed, supervision=supervision)
        assert [step[seed] for step in together] == pytest.approx(alone, rel=1e-4)
    assert together[0][0] != pytest.approx(together[0][1], rel=1e-3)


def test_one_who_follows_sees_the_student(tiny_clouds: PointClouds) -> None:
    seen: list[tuple[int, int, int]] = []

    class Watching:
        follows = True

        def begin(self, seeds: Sequence[int]) -> OnBatch:
            def teach(batch: Batch, students: Sequence[Network]) -> Batch:
                assert students[0].training
                seen.append((*seeds, batch.step, batch.total))
                return batch._replace(points=batch.points[:, :7])

            return teach

    train_networks("pointnet-tiny", tiny_clouds, recipe("tuned", steps=2, batch=8), [4, 5], supervision=Watching())
    assert seen == [(4, 0, 2), (4, 1, 2), (5, 0, 2), (5, 1, 2)]


@pytest.fixture
def teacher(tiny_file: Path, tmp_path: Path, short_recipes: None) -> Path:
    path = tmp_path / "folder" / "teacher.safetensors"
    Train(source=str(tiny_file), output=path, points=32, network="pointnet-small").run([].append)
    return path


def test_a_taught_network_says_by_whom(tiny_file: Path, tmp_path: Path, teacher: Path) -> None:
    path = tmp_path / "student.safetensors"
    given = {"source": str(tiny_file), "output": path, "points": 32, "network": "pointnet-tiny"}
    Train(**given, teacher=teacher, temperature=3, hard=0.1, soft_loss="mse", train_steps=2).run([].append)
    student = load_network(path)
    assert student.taught == {
        "teacher": "teacher.safetensors", "sha256": sha256_file(teacher), "network": "pointnet-small", "temperature": 3,
    }  # fmt: skip
    how = student.protocol.recipe
    assert (how.temperature, how.hard, how.soft_loss, how.steps, how.name) == (3, 0.1, "mse", 2, "tuned*")
    assert load_network(teacher).taught == {}


def test_evaluating_with_a_teacher(tiny_file: Path, teacher: Path) -> None:
    said: list[str] = []
    config = Evaluate(source=str(tiny_file), network="pointnet-tiny", train_seeds=2, teacher=teacher, json=True)
    config.run(said.append)
    config.model_copy(update={"teacher": ()}).run(said.append)
    taught, plain = (json.loads(line)["runs"] for line in said)
    assert len(taught) == 2
    assert [run["ece"] for run in taught] != [run["ece"] for run in plain]
    two = read_teacher([teacher, teacher], 1.0)
    assert len(two.members) == 2

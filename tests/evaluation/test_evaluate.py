"""The face for people who have sets in memory: what is evaluated, and by what."""

from pathlib import Path

import pytest
import torch

import pcdistill as pcd
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.evaluation import Evaluation
from pcdistill.evaluation.scores import Scores
from pcdistill.training.loop import predict
from pcdistill.training.recipe import EvaluationProtocol, Recipe, protocol
from pcdistill.training.trained import load_network, save_network

PLAN = EvaluationProtocol(
    name="brief", recipe=Recipe(name="brief", steps=3, batch=8), network="pointnet-small", test_points=32
)


def made(clouds: PointClouds, **asked: object) -> pcd.Artefact:
    return pcd.select(clouds, clouds_per_class=2, points=16, method="random", **asked)


def test_an_artefact_is_evaluated_as_it_is_trained_on(tiny_clouds: PointClouds) -> None:
    artefact = made(tiny_clouds, expand={"interpolate": 1})
    expected = pcd.evaluate(artefact.training_clouds, tiny_clouds, PLAN, seeds=[0, 1])
    assert pcd.evaluate(artefact, tiny_clouds, PLAN, seeds=2).runs == expected.runs
    assert expected.seeds == (0, 1)
    assert len(artefact.training_clouds) == 12


def test_it_is_shown_in_one_line() -> None:
    runs = [Scores(one, one, (one,), ((1,),), 0.0, "80") for one in (0.75, 0.85)]
    assert repr(Evaluation((0, 1), tuple(runs), 3.6)) == "Evaluation(accuracy 80.0 % ± 7.1, 2 networks, 4 s)"
    assert "75.0 % ± 0.0, 1 network, " in repr(Evaluation((0,), tuple(runs[:1]), 3.6))


def test_labels_of_a_teacher_set_the_temperature(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    save_network(path, pcd.train(tiny_clouds, PLAN))
    artefact = made(tiny_clouds, labels="teacher", teacher=[path], temperature=3.0)
    warm = PLAN.changed(temperature=3.0)
    expected = pcd.evaluate(artefact.training_clouds, tiny_clouds, warm, seeds=1)
    assert pcd.evaluate(artefact, tiny_clouds, PLAN, seeds=1).runs == expected.runs
    assert pcd.train(artefact, PLAN).protocol == warm


def test_protocols_and_networks_by_name(tiny_file: Path, short_recipes: None) -> None:
    train, test = (pcd.load(tiny_file, split, points=1024) for split in ("train", "test"))
    expected = pcd.evaluate(train, test, protocol("published", "pointnet-nano"), seeds=1)
    assert pcd.evaluate(train, test, "published", network="pointnet-nano", seeds=1).runs == expected.runs
    with pytest.raises(InputError, match=r"network: 'pointnet-nan' \(did you mean"):
        pcd.evaluate(train, test, network="pointnet-nan")
    with pytest.raises(InputError, match="recipe: 'tund'"):
        pcd.evaluate(train, test, "tund")


def test_by_name_clouds_of_fewer_points_are_tested_on_all_of_them(
    tiny_clouds: PointClouds, short_recipes: None
) -> None:
    """A protocol as an object asks for its number of points."""
    expected = pcd.evaluate(tiny_clouds, tiny_clouds, protocol("tuned", "pointnet-nano", 64), seeds=1)
    assert pcd.evaluate(tiny_clouds, tiny_clouds, network="pointnet-nano", seeds=1).runs == expected.runs
    with pytest.raises(InputError, match="64 points per cloud, expected at least 1024"):
        pcd.evaluate(tiny_clouds, tiny_clouds, protocol("tuned", "pointnet-nano"), seeds=1)


def test_one_network_and_its_file(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    losses: list[float] = []
    trained = pcd.train(tiny_clouds, PLAN, network="pointnet-nano", seed=3, on_step=lambda _, loss: losses.append(loss))
    assert (trained.class_names, trained.points, trained.seed) == (tiny_clouds.class_names, 64, 3)
    assert (trained.dataset, trained.protocol.network, len(losses)) == ("tiny", "pointnet-nano", 3)
    save_network(tmp_path / "net.safetensors", trained)
    again = load_network(tmp_path / "net.safetensors")
    assert torch.equal(predict(again.network, tiny_clouds.points), predict(trained.network, tiny_clouds.points))
    (run,) = pcd.evaluate(tiny_clouds, tiny_clouds, PLAN, network="pointnet-nano", seeds=[3]).runs
    right = predict(trained.network, tiny_clouds.points[:, :32]).argmax(1) == tiny_clouds.labels
    assert run.accuracy == right.double().mean().item()
    with pytest.raises(InputError, match="protocol: sweep, which chooses among recipes"):
        pcd.train(tiny_clouds, "sweep")

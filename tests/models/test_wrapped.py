"""Anyone's torch modules as networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pcdistill as pcd
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.models import build, networks
from pcdistill.training.trained import load_network, save_network


class Mine(nn.Module):
    """Per-point layers and a maximum."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 16), nn.BatchNorm1d(16)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(16, classes))

    def forward(self, points: Tensor) -> Tensor:
        features = self.layer(points).relu().amax(1)
        logits: Tensor = self.head(self.norm(features))
        return logits


class Flat(Mine):
    """The same, as models of torch-geometric are called."""

    def forward(self, pos: Tensor, batch: Tensor) -> Tensor:  # type: ignore[override]
        clouds = int(batch.max()) + 1
        features = self.layer(pos).relu()
        index = batch[:, None].expand_as(features)
        pooled = features.new_zeros(clouds, 16).scatter_reduce(0, index, features, "amax")
        logits: Tensor = self.head(self.norm(pooled))
        return logits


class Pair(Mine):
    def forward(self, points: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(points), None


class Deaf(Mine):
    """Of the same layers, it hears half."""

    def forward(self, points: Tensor) -> Tensor:
        return super().forward(points * torch.tensor([1.0, 1.0, 0.0]))


@pytest.fixture(autouse=True)
def _leaves_no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_entries", dict(networks._entries))
    monkeypatch.setattr("pcdistill.models.wrapped._known", {})


@pytest.fixture(scope="module")
def clouds() -> PointClouds:
    """Sticks and discs."""
    random = torch.Generator().manual_seed(0)
    points = torch.randn(24, 32, 3, generator=random)
    points[:12] *= torch.tensor([0.1, 0.1, 1.0])
    points[12:] *= torch.tensor([1.0, 1.0, 0.1])
    return PointClouds.from_arrays(points, ["stick"] * 12 + ["disc"] * 12, points_per_cloud=None)


def short(network: str) -> pcd.EvaluationProtocol:
    return pcd.protocol("tuned", network=network, test_points=32).changed(steps=40, lr=0.01)


@pytest.mark.parametrize("kind", [Mine, Flat, Pair, Mine(2), Flat(2), lambda classes: Mine(classes)])
def test_a_module_is_trained_and_evaluated(kind: nn.Module | Callable[[int], nn.Module], clouds: PointClouds) -> None:
    name = pcd.as_network(kind, "mine")
    assert name == "mine"
    found = pcd.evaluate(clouds, clouds, short(name), seeds=2)
    assert min(found.accuracies) > 0.9
    trained = pcd.train(clouds, short(name))
    assert trained.network(clouds.points).logits.shape == (24, 2)
    again = pcd.train(clouds, short(name))
    assert again.network(clouds.points).logits.equal(trained.network(clouds.points).logits)


def test_flat_points_give_what_clouds_give(clouds: PointClouds) -> None:
    whole, flat = (build(pcd.as_network(kind), 3, seed=5) for kind in (Mine, Flat))
    for network in (whole.eval(), flat.eval()):
        assert network(clouds.points).global_feature.shape == (24, 3)
    torch.testing.assert_close(flat(clouds.points).logits, whole(clouds.points).logits)


def test_weights_of_a_module_are_drawn_anew() -> None:
    module = Mine()
    name = pcd.as_network(module)
    assert name == "Mine"
    first, second, same = (build(name, 2, seed).module.layer.weight for seed in (0, 1, 0))
    assert first.equal(same)
    assert not first.equal(second)
    assert not first.equal(module.layer.weight)


def test_a_name_given_before_is_replaced() -> None:
    pcd.as_network(Mine, "mine")
    assert pcd.as_network(Flat, "mine") == "mine"
    assert isinstance(build("mine", 4, 0).module, Flat)
    assert build("mine", 4, 0).training


def test_its_file_is_read_where_the_name_is_known(clouds: PointClouds, tmp_path: Path) -> None:
    trained = pcd.train(clouds, short(pcd.as_network(Mine, "mine")))
    save_network(tmp_path / "mine.safetensors", trained)
    back = load_network(tmp_path / "mine.safetensors")
    assert back.network(clouds.points).logits.equal(trained.network(clouds.points).logits)


class Scaled(Mine):
    """Has a weight of its own."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__(classes)
        self.scale = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("kind", "classes", "message"),
    [
        (3, 2, "as_network: a int, expected a module, or a function of the number of classes"),
        (Mine(2), 3, r"network mine: shape \(2, 2\) for 2 clouds, expected logits \(2, 3\)"),
        (Scaled(), 2, "weights of a Scaled that has no reset_parameters, expected a function of the number of classes"),
        (lambda classes: None, 2, "network mine: a NoneType, expected a torch module"),
        (lambda classes: nn.Conv1d(3, classes, 1), 2, r"RuntimeError when it was called with clouds \(B, P, 3\): "),
        (lambda classes: nn.Linear(3, classes), 2, r"shape \(2, 1024, 2\) for 2 clouds"),
    ],
)
def test_what_does_not_fit_is_refused(kind: Mine, classes: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(pcd.as_network(kind, "mine"), classes, 0)
    assert "\n" not in str(caught.value)


def test_built_in_names_are_kept() -> None:
    with pytest.raises(InputError, match="'pointnet', which is a network already, expected another name"):
        pcd.as_network(Mine, "pointnet")


def test_features_of_points_are_not_known(clouds: PointClouds) -> None:
    with pytest.raises(InputError, match="network Mine: wrapped, so that features of points are not known"):
        build(pcd.as_network(Mine), 2, 0).point_features(clouds.points)


def distilled(clouds: PointClouds, kind: Callable[[int], nn.Module], objective: str) -> Tensor:
    asked = {"surrogate": pcd.as_network(kind, "mine"), "members": 1, "clouds_per_class": 1, "points": 16, "steps": 2}
    options = {"bank": {"trained_steps": (0, 0)}}
    return pcd.distill(clouds, objective=objective, options=options, **asked).clouds.points


def test_it_is_a_surrogate_where_logits_will_do(
    clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is cached of one is not taken for another's of the same name."""
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path))
    first = distilled(clouds, Mine, "krr")
    kept = sorted(tmp_path.rglob("*.*"))
    assert distilled(clouds, Mine, "krr").equal(first)
    assert sorted(tmp_path.rglob("*.*")) == kept
    assert not distilled(clouds, Deaf, "krr").equal(first)
    assert len(sorted(tmp_path.rglob("*.*"))) > len(kept)
    with pytest.raises(InputError, match="features of points are not known"):
        distilled(clouds, Mine, "dm")

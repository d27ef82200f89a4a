"""Which teacher: snapshots, measures, and the command that climbs the ladder."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.models import build
from pcdistill.teaching.candidates import (
    Candidate,
    assistant,
    best,
    correlations,
    own_inputs,
    pass_gflops,
    read_candidates,
    size,
    snapshot_steps,
    snapshots,
    strongest,
)
from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import recipe


def candidate(teacher: str, accuracy: float, overlap: float, *students: float, **more: Any) -> Candidate:
    before = dict.fromkeys(("kl", "entropy_gap", "mistakes", "corrected", "truth", "shared"), None)
    facts = {"files": (f"{teacher}.safetensors",), "steps": 9, "temperature": 1.0, "nbytes": 7, "label_gflops": 1.0}
    costs = dict.fromkeys(("train_seconds", "train_gflops", "label_seconds"), 1.0)
    given = {**facts, **costs, "before": {**before, "overlap": overlap}, **more}
    return Candidate(teacher=teacher, teacher_accuracy=accuracy, student_accuracy=students, **given)


def test_snapshots_are_the_training_on_its_way(tiny_clouds: PointClouds) -> None:
    """The last one is what training returns; an earlier one has the weights of that step, found by stopping there."""
    how = recipe("tuned", steps=6, batch=8)
    kept = snapshots("pointnet", tiny_clouds, how, 3, (2, 6))
    network, early = build("pointnet", 3, 3), {}

    class Enough(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 2:
            early.update({name: value.clone() for name, value in network.state_dict().items()})
            raise Enough

    with pytest.raises(Enough):
        train(network, tiny_clouds, how, 3, stop)
    for name, value in kept[2].state_dict().items():
        assert torch.equal(value, early[name]), name
    whole = build("pointnet", 3, 3)
    train(whole, tiny_clouds, how, 3)
    assert torch.equal(predict(kept[6], tiny_clouds.points), predict(whole, tiny_clouds.points))
    assert not torch.equal(predict(kept[2], tiny_clouds.points), predict(kept[6], tiny_clouds.points))
    assert not kept[2].training


def test_averaged_weights_have_no_snapshots(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"ema 0.9 with snapshots, expected ema 0"):
        snapshots("pointnet-small", tiny_clouds, recipe("tuned", ema=0.9), 0, (1,))


def test_steps_of_snapshots() -> None:
    assert snapshot_steps(600, (1.0, 0.05, 0.5, 0.5)) == (30, 300, 600)
    assert snapshot_steps(3, (0.01, 1.0)) == (1, 3)


def test_own_inputs_are_augmented_clouds(tiny_clouds: PointClouds) -> None:
    points, classes = own_inputs(tiny_clouds, recipe("tuned"), 0, least=50)
    assert points.shape == (72, 64, 3)
    assert torch.equal(classes, tiny_clouds.labels.repeat(3))
    assert not torch.equal(points[:24], points[24:48])
    assert torch.equal(points, own_inputs(tiny_clouds, recipe("tuned"), 0, least=50)[0])


def test_products_are_counted(tiny_clouds: PointClouds) -> None:
    """Two operations a product: three shared layers at 64 points, and the head."""
    products = 64 * (3 * 64 + 64 * 128 + 128 * 256) + 256 * 128 + 128 * 3
    assert pass_gflops("pointnet-small", 3, tiny_clouds.points[:2], False) == pytest.approx(2 * products / 1e9)
    assert pass_gflops("pointnet-small", 3, tiny_clouds.points[:2], True) > 4 * products / 1e9


@pytest.mark.parametrize("name", ["dgcnn", "pointnet2"])
def test_networks_with_neighbours_are_counted_too(name: str, tiny_clouds: PointClouds) -> None:
    """In pointnet2 it depends on how many neighbours the balls of a cloud hold."""
    few, all_of_them = (pass_gflops(name, 3, tiny_clouds.points[:count], False) for count in (8, 24))
    assert few == pytest.approx(all_of_them, rel=0.3)
    assert pass_gflops(name, 3, tiny_clouds.points[:8], True) > 1.5 * few > 0


def test_an_assistant_stands_between() -> None:
    found = assistant("pointnet", "pointnet-nano", 10, ("pointnet-small",))
    assert found is not None
    assert size("pointnet-nano", 10) < size(found, 10) < size("pointnet", 10)
    assert assistant("pointnet-nano", "pointnet-nano", 10, ()) is None


def test_the_choice() -> None:
    early, late, dear = (
        candidate("a@1", 0.7, 0.5, 0.9, 0.8),
        candidate("a@9", 0.9, 0.4, 0.6, 0.7),
        candidate("b@9", 0.8, 0.9, 0.85),
    )
    cheaper = dear.model_copy(update={"label_gflops": 0.5})
    assert best([late, early]) is early
    assert best([dear, cheaper, late]) is cheaper
    assert best([early, late, dear], cheap=True) is dear
    pair = candidate("a@9 + b@9", 0.99, 0.1, 0.1, files=("a", "b"))
    assert strongest([early, late, dear, pair]) is late


def test_rank_correlations_by_hand(tmp_path: Path) -> None:
    """Ranks of students 1 2 3 4; of overlaps 1 3 2 4: 1 - 6 (0 + 1 + 1 + 0) / (4 · 15)."""
    candidates = [candidate(str(n), 0.9 - n / 10, overlap, n / 10) for n, overlap in enumerate((0.1, 0.3, 0.2, 0.4))]
    hotter = candidate("0", 0.1, 0.9, 0.9, temperature=2.0)
    found = correlations([*candidates, hotter])
    assert found["overlap"] == pytest.approx(1 - 12 / 60)
    assert found["teacher_accuracy"] == pytest.approx(-1)
    assert math.isnan(found["kl"])
    path = tmp_path / "ladder.jsonl"
    path.write_text("".join(one.model_dump_json() + "\n" for one in candidates))
    assert read_candidates(path) == candidates
    path.write_text("{}\n")
    with pytest.raises(InputError, match="line 1"):
        read_candidates(path)


def test_what_is_not_a_number_never_wins() -> None:
    other, known = candidate("a@1", 0.5, 0.5), candidate("b@1", 0.5, 0.1)
    unknown = other.model_copy(update={"before": {**other.before, "overlap": None}})
    assert best([unknown, known], cheap=True) is best([known, unknown], cheap=True) is known


def test_inputs_are_normalised_as_in_training() -> None:
    clouds = PointClouds(0.3 * torch.rand(4, 9, 3), torch.arange(4) % 2, ("a", "b"))
    points, _ = own_inputs(clouds, recipe("published").model_copy(update={"augmentation": Augmentation()}), 0, least=4)
    torch.testing.assert_close(points.norm(dim=2).amax(1), torch.ones(4))
    torch.testing.assert_close(points.mean(1), torch.zeros(4, 3), atol=1e-6, rtol=0)

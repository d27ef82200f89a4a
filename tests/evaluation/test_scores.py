"""Scores against scikit-learn's, and evaluation against the same steps by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, recall_score
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.evaluation import as_tested, calibration_error, evaluate, hits, mean_std, peak_mib, score
from pcdistill.geometry import farthest_point_sample, gather_points
from pcdistill.models import Network, Output, build
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import EvaluationProtocol, Recipe

PLAN = EvaluationProtocol(
    name="brief", recipe=Recipe(name="brief", steps=3, batch=8), network="pointnet-small", test_points=32
)


class Oracle(Network):
    """Says what it is told to: the class that stands in the first coordinate of a cloud."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, points: Tensor) -> Output:
        guess = points[:, 0, 0].round().long()
        return Output(torch.nn.functional.one_hot(guess, self.classes).float(), points[:, 0])


def told(truth: list[int], guesses: list[int], classes: int) -> PointClouds:
    points = torch.tensor(guesses, dtype=torch.float32)[:, None, None].expand(-1, 4, 3)
    return PointClouds(points, torch.tensor(truth), tuple(map(str, range(classes))))


@given(st.integers(2, 5).flatmap(lambda c: st.lists(st.tuples(*[st.integers(0, c - 1)] * 2), min_size=1, max_size=40)))
def test_scores_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, guesses = (list(side) for side in zip(*pairs, strict=True))
    classes = max(truth + guesses) + 1
    found = score(Oracle(classes), told(truth, guesses, classes))
    assert found.accuracy == pytest.approx(accuracy_score(truth, guesses))
    assert [list(row) for row in found.confusion] == [
        [pairs.count((t, g)) for g in range(classes)] for t in range(classes)
    ]
    assert hits(found.right, len(truth)).tolist() == [t == g for t, g in pairs]
    present = sorted(set(truth))
    recalls = recall_score(truth, guesses, labels=present, average=None, zero_division=0.0)
    assert [found.per_class[label] for label in present] == pytest.approx(list(recalls))
    if set(guesses) <= set(truth) and len(present) > 1:  # else scikit-learn warns
        assert found.class_accuracy == pytest.approx(balanced_accuracy_score(truth, guesses))


def test_a_class_without_test_clouds_is_nan_and_not_in_the_mean() -> None:
    found = score(Oracle(3), told([0, 0, 2, 2], [0, 1, 2, 2], 3))
    assert found.per_class[0] == 0.5
    assert math.isnan(found.per_class[1])
    assert found.class_accuracy == 0.75


def test_calibration_error_of_known_confidences() -> None:
    """Bins of a half: two clouds at 0.9 of which one is right, one at 0.6 which is right, one at 0.5 which is wrong."""
    logits = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]], dtype=torch.float64).log()
    labels = torch.tensor([0, 1, 1, 1])
    upper, lower = abs(0.5 - 0.9) * 2 + abs(1 - 0.6), 0.5
    assert calibration_error(logits, labels, bins=2) == pytest.approx((abs((1 + 1) - (0.9 + 0.9 + 0.6)) + lower) / 4)
    assert calibration_error(logits, labels, bins=10) == pytest.approx((upper + lower) / 4)


def test_confidence_that_comes_true_has_no_calibration_error() -> None:
    logits = torch.tensor([[0.75, 0.25]], dtype=torch.float64).log().expand(4, 2)
    assert calibration_error(logits, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)


def test_soft_labels_count_by_their_most_probable_class() -> None:
    test = told([0, 1], [0, 0], 2)
    soft = PointClouds(test.points, torch.tensor([[0.6, 0.4], [0.3, 0.7]]), test.class_names)
    assert score(Oracle(2), soft) == score(Oracle(2), test)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.5], (0.5, 0.0)), ([0.2, 0.4], (0.3, 0.1 * 2**0.5)), ([1, 2, 3, 4], (2.5, (5 / 3) ** 0.5))],
)
def test_mean_and_sample_deviation(values: list[float], expected: tuple[float, float]) -> None:
    assert mean_std(values) == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [[4], [4, 5]])
def test_evaluation_is_training_and_prediction(tiny_clouds: PointClouds, seeds: list[int]) -> None:
    """Of one network seed by seed; of two, which are trained at once, up to rounding (`test_stack`)."""
    steps = []
    found = evaluate(
        tiny_clouds, tiny_clouds, PLAN, seeds=seeds, on_progress=lambda done, note: steps.append((done, note))
    )
    for seed, run in zip(seeds, found.runs, strict=True):
        network = build("pointnet-small", 3, seed)
        train(network, tiny_clouds, PLAN.recipe, seed)
        guesses = predict(network, tiny_clouds.points[:, :32]).argmax(1)
        assert run.accuracy == (guesses == tiny_clouds.labels).double().mean().item()
    assert found.seeds == tuple(seeds)
    assert found.train_seconds > 0
    assert [done for done, _ in steps] == [len(seeds) * step for step in (1, 2, 3)]
    which = "network 1 of 1" if len(seeds) == 1 else "network 1 to 2 of 2"
    assert all(note.startswith(f"{which}, loss ") for _, note in steps)


def test_evaluation_depends_on_the_seeds_alone(tiny_clouds: PointClouds) -> None:
    together = evaluate(tiny_clouds, tiny_clouds, PLAN, seeds=[0, 1]).runs
    torch.manual_seed(123)
    assert evaluate(tiny_clouds, tiny_clouds, PLAN, seeds=[0, 1]).runs == together


def test_the_test_set_is_cut_to_the_protocols_points(tiny_clouds: PointClouds) -> None:
    seen = as_tested(tiny_clouds, tiny_clouds.class_names, PLAN)
    assert torch.equal(seen.points, tiny_clouds.points[:, :32])


def test_a_thinning_protocol_shows_as_many_points_as_were_trained_on(tiny_clouds: PointClouds) -> None:
    plan = PLAN.model_copy(update={"thin": True})
    seen = as_tested(tiny_clouds, tiny_clouds.class_names, plan, 8)
    chosen = farthest_point_sample(tiny_clouds.points[:, :32], 8)
    assert torch.equal(seen.points, gather_points(tiny_clouds.points[:, :32], chosen))
    for points in (32, 100, None):
        seen = as_tested(tiny_clouds, tiny_clouds.class_names, plan, points)
        assert torch.equal(seen.points, tiny_clouds.points[:, :32])
    trained = tiny_clouds.with_points(tiny_clouds.points[:, :16])
    (run,) = evaluate(trained, tiny_clouds, plan, seeds=[0]).runs
    network = build("pointnet-small", 3, 0)
    train(network, trained, plan.recipe, 0)
    assert run == score(network, as_tested(tiny_clouds, tiny_clouds.class_names, plan, 16))


def test_test_sets_that_do_not_fit(tiny_clouds: PointClouds) -> None:
    renamed = PointClouds(tiny_clouds.points, tiny_clouds.labels, ("box", "ball", "ring"))
    with pytest.raises(InputError, match="test set: classes box, ball, ring, expected those of training: ball, box"):
        evaluate(tiny_clouds, renamed, PLAN, seeds=[0])
    fewer = tiny_clouds.with_points(tiny_clouds.points[:, :31])
    with pytest.raises(InputError, match="test set: 31 points per cloud, expected at least 32"):
        evaluate(tiny_clouds, fewer, PLAN, seeds=[0])


def test_peak_memory_is_that_of_a_process_with_torch() -> None:
    assert 50 < peak_mib() < 1 << 20

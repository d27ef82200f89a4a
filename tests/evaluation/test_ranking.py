"""Scores of data apart from labels and recipe: their formulas, and the trainings that they are made from."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.commands.select import Select
from pcdistill.condense import make as making
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import SelectSpec
from pcdistill.core.errors import InputError
from pcdistill.evaluation import Evaluation, Scores, evaluate, ranking, split
from pcdistill.evaluation.ranking import (
    ARMS,
    Compression,
    Ranking,
    augmentation_robust_score,
    compression,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
    random_twin,
    rank,
    recovery,
)
from pcdistill.training.augment import Augmentation
from pcdistill.training.recipe import RECIPES, EvaluationProtocol, Grid, Recipe, protocol

PLAN = EvaluationProtocol(
    name="brief", recipe=Recipe(name="brief", steps=2, batch=8, lr=1e-2), network="pointnet-small", test_points=16
)
fractions = st.floats(0, 1)


@given(fractions, fractions, fractions, fractions)
def test_scores_stay_in_the_unit_interval_and_rise_with_what_is_good(a: float, b: float, c: float, d: float) -> None:
    hlr, ior = hard_label_recovery(a, b), improvement_over_random(c, d)
    found = label_robust_score(hlr, ior)
    assert 0 <= found <= 1
    assert label_robust_score(hlr, ior + 0.1) > found > label_robust_score(hlr + 0.1, ior)
    assert augmentation_robust_score(ior, b - a) == pytest.approx(found)  # the same squashing of the same mean


def test_known_scores() -> None:
    assert label_robust_score(0, 0) == pytest.approx(1 / (math.e + 1))
    assert label_robust_score(-1, 1) == pytest.approx(1)
    assert label_robust_score(1, -1) == pytest.approx(0)
    # A set that loses 10 points of the whole set's accuracy and wins 30 over random clouds: alpha is 0.1.
    assert label_robust_score(0.9 - 0.8, 0.8 - 0.5) == pytest.approx((1.1051709 - 0.3678794) / 2.3504024)
    assert label_robust_score(0.5, 0.25, weight=1) == pytest.approx((1.2840254 - 0.3678794) / 2.3504024)
    assert augmentation_robust_score(0.25, 0.9, gamma=1) == pytest.approx((1.2840254 - 0.3678794) / 2.3504024)
    assert recovery(0.45, 0.9) == 0.5
    assert math.isnan(recovery(0.5, 0))


def test_a_ranking_is_made_of_means() -> None:
    found = Ranking((0.9, 0.7), (0.6,), (0.7, 0.8), (0.5,), (0.5,), (0.4, 0.6))
    assert found.hlr == pytest.approx(0.2)
    assert found.ior == pytest.approx(0.25)
    assert found.lrs == pytest.approx(label_robust_score(0.2, 0.25))
    assert found.ars == pytest.approx(augmentation_robust_score(0.25, 0.0))
    assert found.recovery == pytest.approx(0.75 / 0.8)


@pytest.fixture
def few(tiny_clouds: PointClouds) -> PointClouds:
    return tiny_clouds.with_points(tiny_clouds.points[:, :16])


def teacher(points: Tensor) -> Tensor:
    """Probabilities that follow from the points."""
    return (3 * points.abs().mean(1)).softmax(1)


def selected(real: PointClouds, each: int = 2, plan: EvaluationProtocol = PLAN, **asked: Any) -> Artefact:
    """Clouds of every class, of 8 points at 8 bits unless others are asked for."""
    spec = SelectSpec.checked({"clouds_per_class": each, "points": 8, "bits": 8, "method": "medoid", **asked})
    return making.select(real, replace(resolve(spec), protocol=plan))


@pytest.fixture
def made(few: PointClouds) -> Callable[..., Artefact]:
    def make(labelled: bool = False, **changes: Any) -> Artefact:
        artefact = selected(few, **changes)
        if labelled:
            artefact.storage.soften(teacher(artefact.clouds.points))
        return artefact

    return make


def test_what_a_set_saves(few: PointClouds, made: Callable[..., Artefact]) -> None:
    plan = PLAN.model_copy(update={"recipe": Recipe(name="passes", epochs=3, batch=2)})
    expanded = made(expand={"interpolate": 1})
    assert len(expanded.training_clouds) == 12
    found = compression(expanded, few, plan)
    assert found == Compression(24 / 6, 24 * 16 / (6 * 8), 24 * 16 * 12 / (6 * 8 * 3), 36 / 18)


@pytest.mark.parametrize("storage", ["points", "coded", "rotated"])
def test_the_twin_is_random_in_as_many_bytes(storage: str, few: PointClouds, made: Callable[..., Artefact]) -> None:
    artefact = made(storage=storage)
    twin = random_twin(artefact, few, 3)
    assert twin.points_per_cloud == 8
    if storage == "points":
        expected = selected(few, method="random", seed=3)
        assert torch.equal(twin.points, expected.clouds.points)
        assert twin.labels.tolist() == expected.clouds.labels.tolist()
    else:
        again = selected(few, int(twin.class_counts[0]), method="random", seed=3, storage="coded")
        assert torch.equal(twin.points, again.clouds.points)
        assert again.storage.nbytes <= artefact.storage.nbytes


def test_the_twin_is_labelled_and_expanded_alike(few: PointClouds, made: Callable[..., Artefact]) -> None:
    artefact = made(labelled=True, expand={"interpolate": 1})
    twin = random_twin(artefact, few, 0, teacher)
    assert len(twin) == len(artefact.training_clouds) == 12
    assert (twin.labels.shape, twin.class_counts.tolist()) == ((12, 3), [4] * 3)
    plain = random_twin(made(labelled=True), few, 0, teacher)
    assert (plain.labels - teacher(plain.points)).abs().max() < 0.01  # a byte each


def test_every_arm_is_trained_as_it_says(
    few: PointClouds, made: Callable[..., Artefact], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, EvaluationProtocol, Any]] = []

    def told(
        clouds: PointClouds, test: PointClouds, plan: EvaluationProtocol, seeds: Any, validation: None, device: str
    ) -> Evaluation:
        assert (test, seeds, validation, device) == (few, [0, 4], None, "cpu:0")
        seen.append((clouds.fingerprint(), plan, clouds.labels.ndim))
        runs = tuple(Scores(float(len(seen)), 0.0, (), (), 0.0, "") for _ in seeds)
        return Evaluation(tuple(seeds), runs, 0.0)

    monkeypatch.setattr(ranking, "evaluate", told)
    artefact = made(labelled=True)
    found = rank(artefact, few, few, PLAN, [0, 4], teacher, device="cpu:0")
    recipe = PLAN.recipe.model_copy(update={"augmentation": RECIPES["tuned"].augmentation})
    augmented = PLAN.model_copy(update={"recipe": recipe})
    soft, twin = artefact.clouds, random_twin(artefact, few, 0, teacher)
    hard = PointClouds(soft.points, soft.hard_labels, few.class_names)
    expected = {
        "real_hard": (few, augmented), "made_hard": (hard, augmented), "made": (soft, augmented),
        "random": (twin, augmented), "made_plain": (soft, PLAN), "random_plain": (twin, PLAN),
    }  # fmt: skip
    for name, (clouds, plan) in expected.items():
        one, two = getattr(found, name)
        assert one == two
        assert seen[int(one) - 1] == (clouds.fingerprint(), plan, clouds.labels.ndim)


def test_soft_labels_of_the_twin_count_as_bytes(few: PointClouds) -> None:
    artefact = selected(few, 4, points=2)
    artefact.storage.soften(teacher(artefact.clouds.points))
    assert artefact.storage.nbytes == 12 * (6 + 3)
    assert len(random_twin(artefact, few, 0, teacher)) == 12


def test_an_augmentation_of_the_protocol_is_used_and_a_grid_chooses(
    few: PointClouds, made: Callable[..., Artefact]
) -> None:
    own = Recipe(name="own", steps=2, batch=8, augmentation=Augmentation(rotate="z"))
    plan = PLAN.model_copy(update={"recipe": own, "grid": Grid(lr=(1e-2, 1e-9), held_out=0.25)})
    kept, validation = split(few, plan)
    artefact = selected(kept, plan=plan)
    found = rank(artefact, few, few, plan, [1])
    assert found.real_hard == tuple(evaluate(kept, few, plan, seeds=[1], validation=validation).accuracies)
    assert (
        found.made
        == found.made_hard
        == tuple(evaluate(artefact.clouds, few, plan, seeds=[1], validation=validation).accuracies)
    )
    plain = plan.model_copy(update={"recipe": own.model_copy(update={"augmentation": Augmentation()})})
    assert found.made_plain == tuple(evaluate(artefact.clouds, few, plain, seeds=[1], validation=validation).accuracies)


def test_soft_labels_need_their_teacher(few: PointClouds, made: Callable[..., Artefact]) -> None:
    with pytest.raises(InputError, match="ranking: soft labels and no teacher, expected one to label random clouds"):
        rank(made(labelled=True), few, few, protocol("tuned"), [0])


def test_the_command_prints_what_the_scores_are_made_of(
    tiny_file: Path, tmp_path: Path, short_recipes: None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.h5"
    Select(data=str(tiny_file), output=path, clouds_per_class=2, points=16, method="medoid").run([].append)
    words = [
        "rank",
        str(path),
        "--test-data",
        str(tiny_file),
        "--network",
        "pointnet-small",
        "--train-seeds",
        "1",
    ]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    reached = {name: accuracies[0] for name, accuracies in found["accuracies"].items()}
    assert set(reached) == set(ARMS)
    assert found["hlr"] == pytest.approx(reached["real_hard"] - reached["made_hard"])
    assert found["ior"] == pytest.approx(reached["made"] - reached["random"])
    assert found["compression"]["clouds"] == 4
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"label-robust score           {found['lrs']:.3f} " in shown
    assert f"the set                      {100 * reached['made']:.1f} %" in shown

"""Conditions: what is shown of a test set, which networks that needs, and scores against the same steps by hand."""

import pytest
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.evaluation import (
    Condition,
    as_tested,
    condition_label,
    evaluate,
    evaluate_conditions,
    of_classes,
    parse_conditions,
    parts_of,
    score,
    score_conditions,
    shared_classes,
    shown,
)
from pcdistill.evaluation.conditions import GROUPS
from pcdistill.geometry import MODELNET_C, POINTCLOUD_C, corrupt, farthest_point_sample, gather_points
from pcdistill.models import Network, Output, build
from pcdistill.training.loop import train
from pcdistill.training.recipe import EvaluationProtocol, Recipe
from pcdistill.training.trained import Trained

PLAN = EvaluationProtocol(
    name="brief", recipe=Recipe(name="brief", steps=3, batch=8), network="pointnet-small", test_points=32
)


def condition(name: str) -> Condition:
    """The last of those that a word stands for."""
    return parse_conditions([name])[-1]


def names(*words: str, points: int | None = None) -> list[str]:
    return [one.name for one in parse_conditions(words, points)]


def test_words_name_conditions_and_groups_of_them() -> None:
    assert names() == ["clean"]
    assert names("so3", "clean", "so3", "512") == ["clean", "so3", "512"]
    assert names("gaussian:3", "gaussian") == ["clean", "gaussian:3", *(f"gaussian:{s}" for s in (1, 2, 4, 5))]
    assert names("density_inc:1") == ["clean", "density-inc:1"]
    assert names("rotations", "resolutions", points=300) == ["clean", "z", "so3", "64", "128", "256"]
    assert len(names("corruptions")) == 1 + 5 * len(MODELNET_C)
    assert len(names("all")) == 1 + 2 + 6 + 5 * (len(MODELNET_C) + len(POINTCLOUD_C))
    assert names("all") == names(*GROUPS)
    assert condition("data:some:set.h5").dataset == "some:set.h5"


@pytest.mark.parametrize("word", ["so4", "0", "-5", "gaussian:0", "gaussian:6", "gaussian:", "data:", "z:1", ""])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=f"conditions: '{word}'"):
        parse_conditions([word])


def test_more_points_than_there_are_is_refused_if_asked_for_by_number() -> None:
    assert names("64", points=64) == ["clean", "64"]
    with pytest.raises(InputError, match="conditions: '65' of clouds of 64 points, expected at most as many"):
        parse_conditions(["65"], 64)


def test_the_clean_condition_is_the_test_set_and_resolutions_are_its_first_points(tiny_clouds: PointClouds) -> None:
    assert torch.equal(shown(tiny_clouds, condition("clean"), PLAN).points, tiny_clouds.points[:, :32])
    for points in (16, 64):  # below and above the protocol's
        assert torch.equal(shown(tiny_clouds, condition(str(points)), PLAN).points, tiny_clouds.points[:, :points])


def test_rotated_conditions_turn_every_cloud_by_itself_and_always_the_same(tiny_clouds: PointClouds) -> None:
    clean = tiny_clouds.points[:, :32]
    for name in ("z", "so3"):
        seen = shown(tiny_clouds, condition(name), PLAN).points
        assert torch.equal(seen, shown(tiny_clouds, condition(name), PLAN).points)
        torch.testing.assert_close(seen.norm(dim=2), clean.norm(dim=2))
        torch.testing.assert_close(torch.cdist(seen, seen), torch.cdist(clean, clean), atol=2e-3, rtol=0)
        heights = (seen[..., 2] - clean[..., 2]).abs().amax(1)
        assert heights.max() < 1e-6 if name == "z" else heights.min() > 0.01
        moves = (seen - clean).norm(dim=2).mean(1)
        assert len(moves.unique()) == len(moves)


def test_a_corrupted_condition_is_a_corrupted_cut(tiny_clouds: PointClouds) -> None:
    cut = tiny_clouds.with_points(tiny_clouds.points[:, :32])
    seen = shown(tiny_clouds, condition("add-local:2"), PLAN)
    assert torch.equal(seen.points, corrupt(cut, "add-local", 2, 0).points)
    assert torch.equal(seen.labels, tiny_clouds.labels)


@pytest.mark.parametrize("name", ["clean", "so3", "48", "upsampling:5", "cutout:1", "16"])
def test_conditions_are_thinned_when_the_protocol_is(name: str, tiny_clouds: PointClouds) -> None:
    """After they were made: as many points as were trained on are left of what there is."""
    thin = PLAN.model_copy(update={"thin": True})
    whole = shown(tiny_clouds, condition(name), PLAN).points
    seen = shown(tiny_clouds, condition(name), thin, 20).points
    left = min(20, whole.shape[1])
    expected = whole if left == whole.shape[1] else gather_points(whole, farthest_point_sample(whole, left))
    assert torch.equal(seen, expected)
    assert torch.equal(shown(tiny_clouds, condition(name), thin, None).points, whole)
    if name == "clean":
        assert torch.equal(seen, as_tested(tiny_clouds, tiny_clouds.class_names, thin, 20).points)


def test_the_three_usual_protocols_have_their_names() -> None:
    assert [condition_label(*pair) for pair in (("z", "z"), ("so3", "z"), ("so3", "so3"))] == [
        "z/z",
        "z/SO3",
        "SO3/SO3",
    ]
    assert [condition_label(name, "z") for name in ("clean", "512", "gaussian:3")] == [
        "clean",
        "512 points",
        "gaussian:3",
    ]


def test_networks_are_trained_once_and_scored_on_every_condition(tiny_clouds: PointClouds) -> None:
    conditions = parse_conditions(["so3", "gaussian:5"])
    steps: list[int] = []
    parts = parts_of(tiny_clouds, tiny_clouds, conditions, PLAN)
    assert len(parts) == 1
    found = dict(evaluate_conditions(tiny_clouds, parts, PLAN, [4, 5], lambda done, _: steps.append(done)))
    assert list(found) == conditions
    assert steps == [2, 4, 6, 6, 6]  # both networks at once, then the conditions that have to be made
    clean = evaluate(tiny_clouds, tiny_clouds, PLAN, seeds=[4, 5])
    assert found[conditions[0]].runs == clean.runs
    for number, seed in enumerate((4, 5)):
        network = build("pointnet-small", 3, seed)
        train(network, tiny_clouds, PLAN.recipe, seed)
        for one in conditions:
            expected = score(network, shown(tiny_clouds, one, PLAN))
            assert found[one].runs[number].right == expected.right
            assert found[one].runs[number].ece == pytest.approx(expected.ece, abs=1e-3)  # trained in a stack: rounding
    assert all(one.seeds == (4, 5) and one.class_names == tiny_clouds.class_names for one in found.values())


def other(clouds: PointClouds) -> PointClouds:
    """The same clouds under names of another set: ring first, balls of two sorts, no box."""
    labels = torch.where(clouds.labels == 0, 1 + torch.arange(len(clouds)) % 2, 0)[clouds.labels != 1]
    return PointClouds(clouds.points[clouds.labels != 1], labels, ("RING", "Ball", "dish"))


def test_class_names_match_but_for_case_and_signs_between_words() -> None:
    ours, theirs = ["night_stand", "TV Stand", "bed", "bookshelf"], ["tv-stand", "Night  Stand", "book_shelf", "BED"]
    assert shared_classes(ours, theirs) == [(0, 1), (1, 0), (2, 3)]


def test_across_data_sets_training_is_restricted_to_the_shared_classes(tiny_clouds: PointClouds) -> None:
    theirs = other(tiny_clouds)
    conditions = parse_conditions(["data:theirs"])
    whole, shared = parts_of(tiny_clouds, tiny_clouds, conditions, PLAN, {"theirs": theirs})
    assert whole.training is tiny_clouds
    assert shared.training.class_names == ("ball", "ring")
    assert torch.equal(shared.training.points, tiny_clouds.points[tiny_clouds.labels != 1])
    assert shared.training.labels.tolist() == [0] * 8 + [1] * 8
    ((_, test),) = shared.conditions
    assert test.class_names == ("ball", "ring")
    assert torch.equal(test.points, theirs.points[theirs.labels != 2])
    assert test.labels.tolist() == [0] * 4 + [1] * 8
    found = dict(evaluate_conditions(tiny_clouds, [whole, shared], PLAN, [0]))
    assert found[conditions[1]].runs == evaluate(shared.training, test, PLAN, seeds=[0]).runs


def test_one_training_serves_all_where_every_class_is_shared(tiny_clouds: PointClouds) -> None:
    names = ("RING", "Ball", "box", "dish")
    theirs = PointClouds(tiny_clouds.points, tiny_clouds.labels + torch.arange(len(tiny_clouds)) % 2, names)
    (part,) = parts_of(tiny_clouds, tiny_clouds, parse_conditions(["data:theirs", "so3"]), PLAN, {"theirs": theirs})
    assert part.training is tiny_clouds
    assert [test.class_names for _, test in part.conditions] == [tiny_clouds.class_names] * 3


def test_fewer_than_two_shared_classes_are_refused(tiny_clouds: PointClouds) -> None:
    for names, found in ((("x", "y", "z"), "none"), (("x", "Box", "z"), "box")):
        theirs = PointClouds(tiny_clouds.points, tiny_clouds.labels, names)
        with pytest.raises(
            InputError, match=f"data:theirs: classes shared with training: {found}, expected at least 2"
        ):
            parts_of(tiny_clouds, tiny_clouds, parse_conditions(["data:theirs"]), PLAN, {"theirs": theirs})


def test_sets_that_do_not_fit_are_refused_before_training(tiny_clouds: PointClouds) -> None:
    few = tiny_clouds.with_points(tiny_clouds.points[:, :31])
    with pytest.raises(InputError, match="test set: 31 points per cloud, expected at least 32"):
        parts_of(tiny_clouds, few, parse_conditions(["16"]), PLAN)
    with pytest.raises(InputError, match="test set: 31 points per cloud, expected at least 32"):
        parts_of(tiny_clouds, tiny_clouds, parse_conditions(["data:few"]), PLAN, {"few": few})
    with pytest.raises(InputError, match="test set: classes RING, Ball, dish, expected those of training"):
        parts_of(tiny_clouds, other(tiny_clouds), parse_conditions([]), PLAN)


def test_soft_labels_of_some_classes_sum_to_one_and_keep_the_clouds_own() -> None:
    soft = torch.tensor([[0.2, 0.6, 0.2], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    clouds = PointClouds(torch.rand(3, 4, 3), soft, ("a", "b", "c"), classes=torch.tensor([1, 0, 2]))
    found = of_classes(clouds, [2, 0])
    assert found.class_names == ("c", "a")
    torch.testing.assert_close(found.labels, torch.tensor([[1 / 3, 2 / 3], [1.0, 0.0]]))
    assert found.hard_labels.tolist() == [1, 0]
    assert torch.equal(found.points, clouds.points[1:])


class Ordered(Network):
    """Always the same order of preference: class 1, then 2, then 0."""

    def forward(self, points: Tensor) -> Output:
        return Output(torch.tensor([[0.0, 2.0, 1.0]]).expand(len(points), 3), points[:, 0])


def test_a_trained_network_guesses_among_the_shared_classes(tiny_clouds: PointClouds) -> None:
    conditions = parse_conditions(["data:theirs", "16"])
    trained = Trained(Ordered(), tiny_clouds.class_names, PLAN, "tiny", 64)
    found = dict(score_conditions(trained, tiny_clouds, conditions, {"theirs": other(tiny_clouds)}))
    assert found[conditions[0]].runs[0].per_class == (0, 1, 0)
    assert found[conditions[1]].runs[0].per_class == (0, 1)  # ring, as box is not to be had
    assert found[conditions[1]].class_names == ("ball", "ring")
    assert found[conditions[2]].runs[0].accuracy == pytest.approx(1 / 3)

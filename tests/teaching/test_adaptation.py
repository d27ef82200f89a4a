"""Networks that learn new classes: what stays as it was, what is merged, and what a memory keeps."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.evaluation import of_classes
from pcdistill.models import build
from pcdistill.teaching.adaptation import How, LowRank, adapt, evenly, last_layer, union, widened
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import Recipe, protocol
from pcdistill.training.trained import Trained

NAMES = ("ball", "box", "ring")


def short(**changes: object) -> Recipe:
    return protocol("tuned").changed(**{"steps": 4, "batch": 8, "bf16": False, **changes}).recipe


def learned(clouds: PointClouds, steps: int = 4, network: str = "pointnet-tiny") -> Trained:
    made = build(network, clouds.num_classes, 0)
    train(made, clouds, short(steps=steps), 0)
    return Trained(made, clouds.class_names, protocol("tuned", network), "tiny", clouds.points_per_cloud)


@pytest.fixture
def sides(tiny_clouds: PointClouds) -> tuple[PointClouds, PointClouds]:
    """Balls and boxes, which are known, and rings, which are new."""
    return of_classes(tiny_clouds, [0, 1]), of_classes(tiny_clouds, [2])


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("network", ["pointnet-tiny", "pointnet", "dgcnn", "pointnet2"])
def test_logits_of_old_classes_stay(network: str, sides: tuple[PointClouds, PointClouds]) -> None:
    old = learned(sides[0], 1, network)
    wide = widened(old, NAMES, 5)
    last = last_layer(wide)
    assert torch.equal(last.weight[:2], last_layer(old.network).weight)
    assert torch.equal(last.bias[:2], last_layer(old.network).bias)
    points = sides[1].points
    torch.testing.assert_close(predict(wide, points)[:, :2], predict(old.network, points), rtol=1e-6, atol=1e-6)
    bound = 1 / math.sqrt(last.in_features)  # of nn.Linear's own initialisation
    assert 0 < last.weight[2].abs().max() <= bound
    assert not torch.equal(last_layer(widened(old, NAMES, 6)).weight[2], last.weight[2])


def test_head_leaves_the_trunk_as_it_was(sides: tuple[PointClouds, PointClouds]) -> None:
    old, (known, new) = learned(sides[0]), sides
    before = state(old.network)
    made = adapt(old, [known], new, "head", short(), 0)
    after = made.network.state_dict()
    trunk = [name for name in before if name.startswith("trunk")]
    assert any("running_mean" in name for name in trunk)
    for name in trunk:
        assert torch.equal(after[name], before[name]), name
    moved = [name for name in before if name.startswith("head.0") and not torch.equal(after[name], before[name])]
    assert any("linear.weight" in name for name in moved)
    assert any("running_mean" in name for name in moved)
    assert all(torch.equal(value, before[name]) for name, value in old.network.state_dict().items())


@pytest.mark.parametrize("rank", [1, 2])
def test_low_rank_updates_are_merged(rank: int, sides: tuple[PointClouds, PointClouds]) -> None:
    old = learned(sides[0])
    before = state(old.network)
    made = adapt(old, [sides[0]], sides[1], "lora", short(lr=0.02), 0, rank)
    after = made.network.state_dict()
    assert after.keys() == before.keys()
    linear = [name for name in before if name.endswith("linear.weight")]
    assert len(linear) == 4
    for name in linear:
        sizes = torch.linalg.svdvals(after[name].double() - before[name].double())
        assert (sizes > 1e-5 * before[name].norm()).sum() == rank, name
    for name in before:  # norms and their statistics
        if ".norm." in name:
            assert torch.equal(after[name], before[name]), name
    last = last_layer(made.network)
    assert not torch.equal(last.weight[:2], last_layer(old.network).weight)
    assert all(value.requires_grad for value in made.network.parameters())


def test_whole_trains_everything(sides: tuple[PointClouds, PointClouds]) -> None:
    old = learned(sides[0])
    after = adapt(old, [], sides[1], "whole", short(), 0).network.state_dict()
    for name, value in old.network.state_dict().items():
        assert value.shape != after[name].shape or not torch.equal(value, after[name]), name


def test_what_a_network_was_taught_stays_known(sides: tuple[PointClouds, PointClouds]) -> None:
    old = learned(sides[0])._replace(taught={"teacher": "big.safetensors"})
    assert adapt(old, [], sides[1], "head", short(), 0).taught == {"teacher": "big.safetensors"}


def test_a_low_rank_update_has_the_product_rules_gradient() -> None:
    torch.manual_seed(0)
    update = LowRank(torch.randn(5, 4), 2).double()
    with torch.no_grad():
        assert torch.equal(update(torch.ones(5, 4).double()), torch.ones(5, 4).double())
        update.up.normal_()
    weight = torch.randn(5, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda up, down: torch.func.functional_call(update, {"up": up, "down": down}, (weight,)),
        (update.up, update.down),
    )
    assert update.down.shape == (2, 4)
    assert LowRank(torch.randn(8, 3), 4).up.shape == (8, 3)  # no more than the weight has


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=7), min_size=1, max_size=3))
def test_classes_are_shown_equally_often(labels: list[list[int]]) -> None:
    """And in a class, sets that know it; every cloud at least once."""
    names = ("a", "b", "c", "d")
    counter = iter(range(1000))
    sets = [
        PointClouds(torch.tensor([[[float(next(counter)), 0, 0]] for _ in own]), torch.tensor(own), names)
        for own in labels
    ]
    found = evenly(sets, names)
    counts = found.class_counts
    assert len(counts[counts > 0].unique()) == 1
    seen = found.points[:, 0, 0]
    assert set(seen.tolist()) == {value for one in sets for value in one.points[:, 0, 0].tolist()}
    for label in range(4):
        parts = [one.points[one.labels == label, 0, 0] for one in sets]
        shares = [int(torch.isin(seen, part).sum()) for part in parts if len(part)]
        assert not shares or max(shares) - min(shares) <= 1
        for part in parts:
            times = [int((seen == value).sum()) for value in part]
            assert not times or max(times) - min(times) <= 1


def test_soft_labels_of_a_memory_count_by_their_class(tiny_clouds: PointClouds) -> None:
    soft = torch.tensor([[0.6, 0.4]]).repeat(2, 1)
    known = PointClouds(tiny_clouds.points[:2], soft, ("ball", "box"), {}, torch.tensor([0, 1]))
    assert evenly([known], NAMES).labels.tolist() == [0, 1]


def test_the_union_begins_with_old_classes() -> None:
    assert union(("c", "a"), ("b", "a")) == ("c", "a", "b")


def test_relabelling_by_name(tiny_clouds: PointClouds) -> None:
    wider = tiny_clouds.with_classes(("ring", "x", "box", "ball"))
    assert wider.labels.tolist() == [{0: 3, 1: 2, 2: 0}[label] for label in tiny_clouds.labels.tolist()]
    soft = PointClouds(tiny_clouds.points[:1], torch.tensor([[0.5, 0.3, 0.2]]), NAMES)
    assert soft.with_classes(("ring", "x", "box", "ball")).labels.tolist() == [pytest.approx([0.2, 0, 0.3, 0.5])]
    with pytest.raises(InputError, match="tiny: classes box, expected some of ball, ring"):
        tiny_clouds.with_classes(("ball", "ring"))


@pytest.mark.parametrize("how", ["whole", "lora"])
def test_a_memory_keeps_from_forgetting(how: How, sides: tuple[PointClouds, PointClouds]) -> None:
    known, new = sides
    old, recipe = learned(known, 40), short(steps=40)

    def right(made: Trained, clouds: PointClouds) -> float:
        labels = clouds.with_classes(made.class_names).labels
        return float((predict(made.network, clouds.points).argmax(1) == labels).float().mean())

    assert right(old, known) > 0.9
    few = known[torch.tensor([0, 1, 8, 9])]
    without, reminded = (adapt(old, memory, new, how, recipe, 0) for memory in ([], [few]))
    assert min(right(without, new), right(reminded, new)) > 0.8
    assert right(without, known) < 0.3
    assert right(reminded, known) > 0.8


def test_a_new_domain_adds_no_class(sides: tuple[PointClouds, PointClouds]) -> None:
    known, _ = sides
    made = adapt(learned(known), [known], known.with_points(known.points.flip(2)), "whole", short(), 3)
    assert (made.class_names, made.points, made.seed) == (known.class_names, 64, 3)
    assert last_layer(made.network).out_features == 2
    assert made.protocol.recipe.steps == 4


def test_memories_that_do_not_fit(sides: tuple[PointClouds, PointClouds]) -> None:
    known, new = sides
    old = learned(known, 1)
    with pytest.raises(InputError, match="tiny: classes ring, expected some of ball, box"):
        adapt(old, [new], known, "whole", short(), 0)
    with pytest.raises(InputError, match="memory: 7 points per cloud, expected 64 as in new"):
        adapt(old, [known.with_points(known.points[:, :7])], new, "whole", short(), 0)

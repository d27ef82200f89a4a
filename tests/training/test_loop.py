"""Recipes, batches, learning rates and the training loop."""

import math
from collections import Counter
from itertools import chain, islice, pairwise, repeat
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import normalise
from pcdistill.models import networks, seeded
from pcdistill.models.pointnet import PointNet
from pcdistill.training import loop as training
from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import predict, train
from pcdistill.training.recipe import RECIPES, EvaluationProtocol, Recipe, protocol, recipe


def tiny(dropout: float = 0.0, seed: int = 0) -> PointNet:
    with seeded(seed):
        return PointNet(3, widths=(8, 16), head=(8,), tnet=False, dropout=dropout)


def quick(**changes: Any) -> Recipe:
    settings: dict[str, Any] = {"name": "quick", "steps": 6, "batch": 8, "optimizer": "adamw", "lr": 0.01, "ema": 0.0,
                                "schedule": "onecycle", "weight_decay": 0.01, "label_smoothing": 0.0}  # fmt: skip
    return Recipe(**{**settings, **changes})


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# Recipes


def test_published_recipe_is_the_protocol_of_the_papers() -> None:
    """SADM's evaluation, as its paper and code have it."""
    assert RECIPES["published"].model_dump(exclude={"version"}) == {
        "name": "published", "steps": None, "epochs": 500, "batch": 8, "fill": False, "optimizer": "sgd", "lr": 0.01,
        "momentum": 0.9, "weight_decay": 5e-4, "schedule": "halfway", "augmentation": Augmentation().model_dump(),
        "label_smoothing": 0.0, "normalise": True, "ema": 0.0, "bf16": False, "least_steps": 1, "most_steps": None,
        "temperature": 1.0, "soft_loss": "kl", "hard": 0.0,
    }  # fmt: skip
    assert RECIPES["published"].total_steps(10) == 500 * 2
    assert RECIPES["published"].total_steps(9) == 500  # the ninth cloud joins the eight


def test_converged_differs_from_tuned_in_length_and_in_the_points_of_a_step() -> None:
    tuned, converged = RECIPES["tuned"].model_dump(), RECIPES["converged"].model_dump()
    changed = {name for name in converged if converged[name] != tuned.get(name)}
    assert changed == {"name", "version", "most_steps", "points"}
    assert [RECIPES["converged"].total_steps(clouds) for clouds in (10, 320, 3991)] == [500, 1000, 8000]


def test_tuned_recipe_makes_a_hundred_passes_within_bounds() -> None:
    counts = {clouds: RECIPES["tuned"].total_steps(clouds) for clouds in (10, 160, 162, 224, 320, 1280, 3991)}
    assert counts == {10: 500, 160: 500, 162: 600, 224: 700, 320: 1000, 1280: 4000, 3991: 4000}


def test_recipes_are_filed_under_their_names_and_survive_json() -> None:
    for name, found in RECIPES.items():
        assert found.name == name
        assert Recipe.model_validate_json(found.model_dump_json()) == found


def test_recipe_by_name_and_with_changes() -> None:
    assert recipe("tuned") is RECIPES["tuned"]
    changed = recipe("published", epochs=3, lr=0.5)
    assert (changed.name, changed.epochs, changed.lr, changed.batch) == ("published*", 3, 0.5, 8)
    assert RECIPES["published"].epochs == 500


def test_unknown_recipe_is_one_line() -> None:
    expected = (
        r"^recipe: 'publishd' \(did you mean 'published'\?\), expected one of converged, published, sweep, tuned$"
    )
    with pytest.raises(InputError, match=expected):
        recipe("publishd")
    with pytest.raises(InputError, match="expected one of"):
        protocol("nothing")


@pytest.mark.parametrize(
    "fields",
    [{"batch": 1}, {"steps": 0}, {"epochs": 0}, {"lr": 0}, {"ema": 1}, {"label_smoothing": 1}, {"optimizer": "adam"},
     {"schedule": "none"}, {"learning_rate": 1}],
)  # fmt: skip
def test_impossible_recipes_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        quick(**fields)


def test_recipe_without_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"^recipe endless: neither steps nor epochs, expected one of them"):
        Recipe(name="endless").total_steps(10)


def test_recipes_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe("tuned").lr = 1.0  # type: ignore[misc]


def test_protocol_holds_its_recipe_and_a_registered_network() -> None:
    found = protocol("published", test_points=77)
    assert found.recipe == RECIPES["published"]
    assert found.network in networks
    assert found.test_points == 77
    assert EvaluationProtocol.model_validate_json(found.model_dump_json()) == found


# Learning rates


def test_onecycle_is_torchs_up_to_half_a_step() -> None:
    """PyTorch's default (div factor 25, cosine, 30 % rise) is a step ahead; it ends at 1/250000, ours at zero."""
    total = 1000
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total)
    theirs = []
    for _ in range(total):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(theirs) < total:
            schedule.step()
    ours = [training._lr_factor("onecycle", step, total) for step in range(total)]
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < math.pi / 2 / (0.3 * total)  # steepest slope
    assert ours[0] == pytest.approx(1 / 25)
    assert ours[300] == 1.0 == max(ours)
    assert all(a < b for a, b in pairwise(ours[:301]))
    assert all(a > b > 0 for a, b in pairwise(ours[300:]))
    assert ours[-1] < 1e-5


def test_halfway_is_a_tenth_from_the_middle() -> None:
    assert [training._lr_factor("halfway", step, 10) for step in range(10)] == [1.0] * 5 + [0.1] * 5


def watch(monkeypatch: pytest.MonkeyPatch) -> list[torch.optim.Optimizer]:
    """The optimisers that `train` makes."""
    made: list[torch.optim.Optimizer] = []
    make = training._optimizer

    def recorded(network: Any, how: Recipe) -> torch.optim.Optimizer:
        made.append(make(network, how))
        return made[-1]

    monkeypatch.setattr(training, "_optimizer", recorded)
    return made


@pytest.mark.parametrize("schedule", ["onecycle", "halfway"])
def test_every_step_is_taken_at_the_scheduled_rate(
    schedule: str, tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = watch(monkeypatch)
    rates: list[float] = []
    train(tiny(), tiny_clouds, quick(schedule=schedule, lr=0.02, steps=7), 0,
          lambda step, loss: rates.append(made[0].param_groups[0]["lr"]))  # fmt: skip
    assert rates == [0.02 * training._lr_factor(schedule, step, 7) for step in range(7)]


def test_published_steps_are_those_of_plain_sgd(tiny_clouds: PointClouds) -> None:
    """Three steps on a set of one batch, by hand: v = .9 v + g + 5e-4 w, w -= .01 v."""
    clouds = tiny_clouds[[0, 8, 16, 1]]
    ours, theirs = tiny(), tiny().train()
    train(ours, clouds, recipe("published", epochs=6), 0)
    velocity = [torch.zeros_like(value) for value in theirs.parameters()]
    for epoch in range(6):
        loss = nn.functional.cross_entropy(theirs(normalise(clouds.points)).logits, clouds.labels)
        gradients = torch.autograd.grad(loss, list(theirs.parameters()))
        with torch.no_grad():
            for value, gradient, speed in zip(theirs.parameters(), gradients, velocity, strict=True):
                speed.mul_(0.9).add_(gradient + 5e-4 * value)
                value.sub_((0.01 if epoch < 3 else 0.001) * speed)
    torch.testing.assert_close(state(ours), state(theirs), rtol=1e-4, atol=1e-5)


def test_adamw_settings(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    made = watch(monkeypatch)
    train(tiny(), tiny_clouds, quick(optimizer="adamw", weight_decay=0.03), 0)
    assert isinstance(made[0], torch.optim.AdamW)
    assert made[0].param_groups[0]["weight_decay"] == 0.03


# Batches


def batches(clouds: int, batch: int, fill: bool, count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(clouds)
    classes = torch.zeros(clouds, dtype=torch.int64)
    how = quick(batch=batch, fill=fill)
    return [index.tolist() for index in islice(training._batches(classes, how, generator), count)]


@given(clouds=st.integers(2, 40), batch=st.integers(2, 20))
def test_full_batches_cover_every_cloud_equally(clouds: int, batch: int) -> None:
    seen: Counter[int] = Counter(dict.fromkeys(range(clouds), 0))
    for index in batches(clouds, batch, True, 12):
        assert len(index) == batch
        seen.update(index)
        assert max(seen.values()) - min(seen.values()) <= 1
    assert set(seen) == set(range(clouds))


@given(clouds=st.integers(2, 40), batch=st.integers(2, 20))
def test_passes_hold_every_cloud_once_and_no_batch_of_one(clouds: int, batch: int) -> None:
    per_pass = quick(steps=None, epochs=1, batch=batch).total_steps(clouds)
    found = batches(clouds, batch, False, 3 * per_pass)
    assert all(2 <= len(index) <= batch + 1 for index in found)
    for turn in range(3):
        one_pass = found[turn * per_pass : (turn + 1) * per_pass]
        assert sorted(chain.from_iterable(one_pass)) == list(range(clouds))


def test_passes_differ_in_order() -> None:
    first, second = batches(30, 30, False, 2)
    assert first != second


@given(
    classes=st.lists(st.sampled_from([0, 1, 3]), min_size=2, max_size=30), batch=st.integers(2, 12), fill=st.booleans()
)
def test_balanced_batches_draw_classes_equally_and_of_each_its_clouds(
    classes: list[int], batch: int, fill: bool
) -> None:
    how = quick(batch=batch, fill=fill, balanced=True)
    found = training._batches(torch.tensor(classes), how, torch.Generator().manual_seed(batch))
    by_class: Counter[int] = Counter(dict.fromkeys(classes, 0))
    by_cloud: Counter[int] = Counter(dict.fromkeys(range(len(classes)), 0))
    for place in chain.from_iterable(index.tolist() for index in islice(found, 20)):
        by_class[classes[place]] += 1
        by_cloud[place] += 1
        assert max(by_class.values()) - min(by_class.values()) <= 1
        for label in by_class:
            own = [count for cloud, count in by_cloud.items() if classes[cloud] == label]
            assert max(own) - min(own) <= 1


def test_balanced_order_follows_the_seed_and_differs_between_rounds() -> None:
    classes = torch.tensor([0] * 9 + [1] * 3)
    how = quick(batch=12, balanced=True)

    def drawn(seed: int) -> list[list[int]]:
        return [one.tolist() for one in islice(training._batches(classes, how, torch.Generator().manual_seed(seed)), 4)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(map(tuple, drawn(1)))) == 4


def test_points_of_a_step_are_some_of_a_cloud_and_others_at_every_step() -> None:
    clouds = torch.randn(6, 40, 3)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    found = [training._some(clouds, 15, generators) for _ in range(2)]
    for index in found:
        seen = clouds.gather(1, index[..., None].expand(-1, -1, 3))
        assert seen.shape == (6, 15, 3)
        assert ((seen[:, :, None] == clouds[:, None]).all(3).sum(2) == 1).all()  # points of their own cloud
        assert ((seen[:, :, None] == seen[:, None]).all(3).sum(2) == 1).all()  # none of them twice
    assert not torch.equal(*found)
    alone = training._some(clouds[3:], 15, [torch.Generator().manual_seed(2)])
    assert torch.equal(alone, found[0][3:])  # a network's draws hang on its own seed


def test_as_many_points_as_there_are_or_more_change_nothing(tiny_clouds: PointClouds) -> None:
    networks = [tiny() for _ in range(3)]
    most = tiny_clouds.points_per_cloud
    histories = [
        train(network, tiny_clouds, quick(points=points), seed=3)
        for network, points in zip(networks, (None, most, most - 1), strict=True)
    ]
    assert histories[0] == histories[1] != histories[2]
    assert equal(state(networks[0]), state(networks[1]))


def test_a_recipe_that_does_not_balance_is_written_as_before_there_were_others() -> None:
    for younger in ("balanced", "points"):
        assert younger not in quick().model_dump()
        assert younger not in quick().model_dump_json()
    balanced = protocol("tuned").changed(balanced=True)
    assert balanced.model_dump(mode="json")["recipe"]["balanced"] is True
    assert EvaluationProtocol.model_validate_json(balanced.model_dump_json()) == balanced


# The loop


def test_loss_falls_and_the_classes_are_told_apart(tiny_clouds: PointClouds) -> None:
    network = tiny()
    losses = train(network, tiny_clouds, quick(steps=120, batch=12, lr=0.02), 0)
    assert len(losses) == 120
    assert sum(losses[-5:]) < 0.1 * sum(losses[:5])
    assert (predict(network, tiny_clouds.points).argmax(1) == tiny_clouds.labels).float().mean() > 0.95


def test_same_seed_same_bits(tiny_clouds: PointClouds) -> None:
    how = quick(augmentation=Augmentation(scale=1.2, jitter=0.01), ema=0.9)
    one, two, three = tiny(0.5), tiny(0.5), tiny(0.5)
    assert train(one, tiny_clouds, how, 1) == train(two, tiny_clouds, how, 1)
    assert equal(state(one), state(two))
    train(three, tiny_clouds, how, 2)
    assert not equal(state(one), state(three))


def test_dropout_follows_the_seed_and_the_global_generator_is_left_alone(tiny_clouds: PointClouds) -> None:
    before = torch.get_rng_state()
    one, two = tiny(0.5), tiny(0.5)
    train(one, tiny_clouds, quick(), 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    train(two, tiny_clouds, quick(), 1)
    assert equal(state(one), state(two))


def test_dropout_differs_between_seeds(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_batches", lambda *_: repeat(torch.arange(24)))  # the order tells no seeds apart
    losses = [train(tiny(0.5), tiny_clouds, quick(), seed) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_evaluation_mode_afterwards_and_steps_numbered_from_one(tiny_clouds: PointClouds) -> None:
    network = tiny()
    calls: list[tuple[int, float]] = []
    losses = train(network, tiny_clouds, quick(steps=3), 0, lambda step, loss: calls.append((step, loss)))
    assert not network.training
    assert calls == list(enumerate(losses, start=1))


def test_returned_weights_are_the_exponential_average(tiny_clouds: PointClouds) -> None:
    network = tiny()
    averaged = state(network)

    def average(step: int, loss: float) -> None:
        decay = min(0.8, step / (9 + step))  # short runs forget their start sooner
        for name, value in network.state_dict().items():
            averaged[name] = decay * averaged[name] + (1 - decay) * value

    last: list[dict[str, Tensor]] = []
    train(network, tiny_clouds, quick(ema=0.8, steps=40), 0,
          lambda step, loss: (average(step, loss), last.append(state(network))))  # type: ignore[func-returns-value]  # fmt: skip
    torch.testing.assert_close(state(network), averaged, rtol=1e-4, atol=1e-6)
    assert not equal(state(network), last[-1])


def test_average_takes_counts_as_they_are() -> None:
    module = nn.BatchNorm1d(3)
    averaged = [value.clone() for value in module.state_dict().values()]
    module.num_batches_tracked += 5
    module.running_mean += 1
    training._average(averaged, list(module.state_dict().values()), 0.75)
    found = dict(zip(module.state_dict(), averaged, strict=True))
    assert found["num_batches_tracked"] == 5
    assert found["running_mean"].tolist() == [0.25] * 3


def first_loss(clouds: PointClouds, **changes: Any) -> float:
    """Of a step on the whole set, whose order then does not matter."""
    return train(tiny(), clouds, quick(steps=1, fill=False, batch=len(clouds), **changes), 0)[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_label_smoothing(smoothing: float, tiny_clouds: PointClouds) -> None:
    logarithms = tiny().train()(tiny_clouds.points).logits.log_softmax(1)
    right = logarithms[torch.arange(24), tiny_clouds.labels]
    expected = -((1 - smoothing) * right + smoothing * logarithms.mean(1)).mean()
    assert first_loss(tiny_clouds, label_smoothing=smoothing) == pytest.approx(expected.item(), rel=1e-5)


def test_a_balanced_step_shows_a_class_of_one_as_often_as_others(tiny_clouds: PointClouds) -> None:
    uneven = tiny_clouds[[*range(7), 8]]
    how = {"steps": 1, "fill": False, "batch": 8, "balanced": True}
    index = next(training._batches(uneven.labels, quick(**how), torch.Generator().manual_seed(0)))
    assert uneven.labels[index].bincount().tolist() == [4, 4]
    logits = tiny().train()(uneven.points[index]).logits
    expected = nn.functional.cross_entropy(logits, uneven.labels[index]).item()
    assert train(tiny(), uneven, quick(**how), 0)[0] == pytest.approx(expected, rel=1e-5)


def soft(clouds: PointClouds, labels: Tensor) -> PointClouds:
    return PointClouds(clouds.points, labels, clouds.class_names)


def test_soft_labels_are_the_target_and_are_not_smoothed(tiny_clouds: PointClouds) -> None:
    random = torch.rand(24, 3, generator=torch.Generator().manual_seed(0))
    labels = random / random.sum(1, keepdim=True)
    logarithms = tiny().train()(tiny_clouds.points).logits.log_softmax(1)
    expected = -(labels * logarithms).sum(1).mean()
    for smoothing in (0.0, 0.3):
        found = first_loss(soft(tiny_clouds, labels), label_smoothing=smoothing)
        assert found == pytest.approx(expected.item(), rel=1e-5)


def test_certain_soft_labels_train_as_hard_ones(tiny_clouds: PointClouds) -> None:
    one, two = tiny(), tiny()
    train(one, tiny_clouds, quick(), 0)
    train(two, soft(tiny_clouds, nn.functional.one_hot(tiny_clouds.labels).float()), quick(), 0)
    torch.testing.assert_close(state(one), state(two), rtol=1e-4, atol=1e-5)


def test_normalise_undoes_place_and_size(tiny_clouds: PointClouds) -> None:
    size, place = torch.rand(2, 24, 1, 3, generator=torch.Generator().manual_seed(0))
    away = tiny_clouds.with_points((1 + 8 * size[..., :1]) * tiny_clouds.points + place)
    assert first_loss(away, normalise=True) == pytest.approx(first_loss(tiny_clouds, normalise=False), rel=1e-4)
    assert first_loss(away, normalise=False) != pytest.approx(first_loss(tiny_clouds, normalise=False), rel=1e-2)


def test_augmentation_reaches_the_network(tiny_clouds: PointClouds) -> None:
    plain = train(tiny(), tiny_clouds, quick(), 0)
    changed = train(tiny(), tiny_clouds, quick(augmentation=Augmentation(rotate="so3")), 0)
    assert plain != changed


def test_training_leaves_the_clouds_alone(tiny_clouds: PointClouds) -> None:
    before = tiny_clouds.fingerprint()
    train(tiny(), tiny_clouds, quick(augmentation=Augmentation(scale=1.5, jitter=0.1), normalise=True), 0)
    assert tiny_clouds.fingerprint() == before


@pytest.mark.parametrize("name", list(networks))
@pytest.mark.parametrize("how", list(RECIPES))
def test_every_recipe_trains_every_network(name: str, how: str, tiny_clouds: PointClouds) -> None:
    """Nine clouds: a batch of eight would leave one alone."""
    length = {"epochs": 2, "least_steps": 1} if RECIPES[how].epochs else {"steps": 2}
    network = networks[name](3)
    losses = train(network, tiny_clouds[:9], recipe(how, **length), 0)
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)


def test_single_cloud_is_refused(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"^training set: 1 cloud, expected at least 2$"):
        train(tiny(), tiny_clouds[[0]], quick(), 0)


def test_loss_that_is_not_finite_stops_with_its_step(tiny_clouds: PointClouds) -> None:
    with pytest.raises(
        InputError, match=r"^training, step \d: loss (nan|inf), expected a finite one \(lower the lr\)$"
    ):
        train(tiny(), tiny_clouds, quick(optimizer="sgd", lr=1e38, schedule="halfway"), 0)


def test_predict_is_the_same_in_pieces_and_in_evaluation_mode(tiny_clouds: PointClouds) -> None:
    network = tiny(0.5).train()
    whole = predict(network, tiny_clouds.points, batch=100)
    assert whole.shape == (24, 3)
    assert not whole.requires_grad
    assert not network.training
    torch.testing.assert_close(predict(network, tiny_clouds.points, batch=7), whole)
    assert equal(state(network), state(tiny(0.5)))

"""What every registered objective promises."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.matching import BankConfig, Objective, kernels, objectives
from pcdistill.matching.base import BankObjective, BankOptions
from pcdistill.training.augment import Augmentation
from tests.conftest import of_class

Configure = Callable[..., BankConfig]
Make = Callable[..., Objective]

# What stands for a bank of networks where there is none. Experts that see the whole real set at every step do exactly
# what a student does on the real set; else the minimum of `tm` would not be there.
LAYERS = {"network": "pointnet-small-layernorm"}
BANKS: dict[str, dict[str, Any]] = {
    "dc": LAYERS,
    "dsa": LAYERS,
    "tm": {**LAYERS, "networks": 2, "points": 64, "steps": 4, "interval": 2, "batch": 24, "lr": 0.02,
           "augmentation": Augmentation()},
}  # fmt: skip
# For all tests: as much of the real set as there is, a fresh network at every step.
WHOLE = {"outer": 1, "real_clouds": 8, "real_points": 64}
BASE: dict[str, dict[str, Any]] = {
    "dc": WHOLE,
    "dsa": WHOLE,
    "tm": {"start": (0, 1), "length": 1, "student_steps": 2},
}
# Without the terms whose minimum is elsewhere than at the real set ...
PLAIN = {"augmentation": Augmentation(), "ridge": 1e-9}
PURE: dict[str, dict[str, Any]] = {
    "gm": {"augmentation": Augmentation()},
    "tm": {"augmentation": Augmentation()},
    "quantile": {"pooled_weight": 1.0, "channels": 512},
    "krr": PLAIN,
    "idm": {"cross_entropy": 0.0},
    "cafe": {"discrimination": 0.0},
}
# ... and for derivatives.
SMOOTH: dict[str, dict[str, Any]] = {
    "quantile": {"pooled_weight": 1.0, "channels": 16},
    "krr": {"augmentation": Augmentation(stretch=1.2)},
    "dm": {"augmentation": Augmentation(stretch=1.2)},
    "cafe": {"discrimination": 1.0},
    "sadm": {"pooled_weight": 1.0},
    "sadm-paper": {"map_weight": 1.0, "pooled_weight": 1.0, "channels": 16},
}


@pytest.fixture(params=list(objectives))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(name: str, tiny_clouds: PointClouds, configure: Configure) -> Make:
    """Makes and prepares the objective of a test; keywords change its bank."""

    def made(settings: dict[str, dict[str, Any]], seed: int = 0, **changes: Any) -> Objective:
        if name in ("dc", "dsa"):
            changes.pop("networks", None)  # as many as there are steps
        bank = {**BANKS[name], **changes} if name in BANKS else configure(**changes)
        new = objectives[name](bank=bank, seed=seed, **{**BASE.get(name, {}), **settings.get(name, {})})
        new.prepare(tiny_clouds)
        return new

    return made


@pytest.fixture
def objective(make: Make) -> Objective:
    return make(PURE)


def guess(seed: int = 0, per_class: int = 3, points: int = 20) -> PointClouds:
    """Boxes full of points, whatever the class."""
    random = torch.Generator().manual_seed(seed)
    cubes = torch.rand(3 * per_class, points, 3, generator=random) - 0.5
    return PointClouds(cubes, torch.arange(3).repeat_interleave(per_class), ("ball", "box", "ring"))


def gradient(objective: Objective, clouds: PointClouds, step: int = 0) -> Tensor:
    points = clouds.points.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective.loss(clouds.with_points(points), step), points)
    return found


def test_registered_under_its_name_with_a_default_bank(name: str) -> None:
    assert objectives[name].name == name
    made = objectives[name]()
    assert isinstance(made.options.bank, BaseModel)
    assert made.describe()["bank"] == made.options.bank.model_dump(mode="json")


def test_unknown_objective_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^objective: 'quantil' \(did you mean 'quantile'\?\), expected one of "):
        objectives["quantil"]


def test_description_tells_settings_apart_and_is_plain(make: Make) -> None:
    described = [make({}), make({}, seed=1), make({}, network="pointnet-small-instancenorm")]
    assert len({json.dumps(each.describe(), sort_keys=True) for each in described}) == 3


def test_runs_are_told_apart_as_in_release_0_1(name: str) -> None:
    """Whose checkpoints go on: no option that came later is in the way, none that went is missing."""
    made = objectives[name]()
    if not isinstance(made.options, BankOptions):
        assert made.identity() == made.describe()
        return
    added = {"augmentation"} if name in ("quantile", "sadm", "sadm-paper") else set()
    assert made.identity().keys() == made.describe().keys() - added
    assert made.identity()["bank"] == {**made.describe()["bank"], "map_samples": 0, "attention": 0.0}
    augmented = objectives[name](augmentation=Augmentation(shift=0.25))
    assert augmented.identity()["augmentation"]["shift"] == 0.25


def test_synthetic_clouds_are_augmented_and_real_ones_are_not(name: str, make: Make) -> None:
    """A common shift of all clouds at every step."""
    shift = {name: {"augmentation": Augmentation(shift=0.25)}}
    if name in ("dc", "dsa", "tm", "gm"):  # siamese; or step by step of a student; or critical points before
        return
    objective, plain = make(shift), make({name: {"augmentation": Augmentation()}})
    assert isinstance(objective, BankObjective)
    assert not torch.equal(objective.loss(guess(), 0), plain.loss(guess(), 0))
    seen: list[Tensor] = []
    distance = objective.distance

    def watched(member: Any, points: Tensor, *more: Any) -> Tensor:
        seen.append(points)
        return distance(member, points, *more)

    objective.distance = watched  # type: ignore[method-assign]
    for step in (0, 0, 1):
        objective.loss(guess(), step)
    moved = [points - guess().points for points in seen]
    for part in moved:
        torch.testing.assert_close(part, part[:, :1].expand_as(part))
        assert 0 < part.abs().max() <= 0.25
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2])


def test_real_set_itself_has_no_loss(objective: Objective, tiny_clouds: PointClouds) -> None:
    for step in range(4):
        at_real = objective.loss(tiny_clouds, step)
        assert at_real.shape == ()
        assert abs(at_real.item()) < 1e-4 * objective.loss(guess(), step).item()
    off = tiny_clouds.with_points(1.1 * tiny_clouds.points)
    assert objective.loss(off, 0).item() > 10 * abs(objective.loss(tiny_clouds, 0).item())


def test_order_does_not_matter(objective: Objective) -> None:
    clouds = guess()
    random = torch.Generator().manual_seed(1)
    of_points = torch.rand(9, 20, generator=random).argsort(dim=1)
    shuffled = clouds.with_points(clouds.points.gather(1, of_points[..., None].expand(-1, -1, 3)))
    of_clouds = torch.randperm(9, generator=random)
    expected = objective.loss(clouds, 0)
    torch.testing.assert_close(objective.loss(shuffled, 0), expected, rtol=1e-4, atol=0)
    torch.testing.assert_close(objective.loss(clouds[of_clouds], 0), expected, rtol=1e-4, atol=0)


def test_labels_do_matter(objective: Objective, tiny_clouds: PointClouds) -> None:
    exchanged = PointClouds(tiny_clouds.points, tiny_clouds.labels.flip(0), tiny_clouds.class_names)
    assert objective.loss(exchanged, 0) > 100 * abs(objective.loss(tiny_clouds, 0))


def test_certain_soft_labels_are_hard_labels(make: Make) -> None:
    objective = make({})
    hard = guess()[[0, 1, 3, 5, 4]]  # of two classes
    soft = PointClouds(hard.points, torch.nn.functional.one_hot(hard.labels, 3).float(), hard.class_names)
    torch.testing.assert_close(objective.loss(soft, 0), objective.loss(hard, 0))
    torch.testing.assert_close(gradient(objective, soft), gradient(objective, hard))


def test_labels_are_learned_where_it_says_so(make: Make) -> None:
    objective, clouds = make({}), guess()
    labels = (0.7 * torch.nn.functional.one_hot(clouds.labels, 3) + 0.1).requires_grad_()
    loss = objective.loss(PointClouds(clouds.points.clone().requires_grad_(), labels, clouds.class_names), 0)
    (found,) = torch.autograd.grad(loss, labels, materialize_grads=True)
    assert bool(found.any()) == objective.learns_labels


def test_clouds_belong_to_their_class_whatever_their_label_says(make: Make) -> None:
    objective, clouds = make({}), guess()
    turned = torch.nn.functional.one_hot(clouds.labels.roll(3), 3).float()
    own = PointClouds(clouds.points, turned, clouds.class_names, classes=clouds.labels)
    if not objective.learns_labels:
        torch.testing.assert_close(objective.loss(own, 0), objective.loss(clouds, 0))
    assert own[[0, 4]].hard_labels.tolist() == [0, 1]


@pytest.mark.parametrize("points", [1, 7, 64, 100])
def test_any_number_of_points(objective: Objective, points: int) -> None:
    found = gradient(objective, guess(points=points))
    assert found.isfinite().all()
    assert found.any()


def test_number_of_points_counts_only_for_what_is_seen(objective: Objective, tiny_clouds: PointClouds) -> None:
    """A cloud in which every point stands twice is the same surface."""
    twice = tiny_clouds.with_points(tiny_clouds.points.repeat(1, 2, 1))
    assert abs(objective.loss(twice, 0).item()) < 1e-4 * objective.loss(guess(), 0).item()


def test_downhill_lowers_the_loss(make: Make, as_double: Callable[[Objective], Objective], decoded: Any) -> None:
    """By as much as the slope says, in float64 for a move that is as good as none.

    A gradient with respect to weights jumps where a ReLU turns over, and so does what is made of it.
    """
    objective, clouds, move = as_double(make(PURE)), guess(), 1e-8
    for step in range(3):
        points = clouds.points.double().requires_grad_()
        before = objective.loss(decoded(points, clouds.labels), step)
        (slope,) = torch.autograd.grad(before, points)
        after = objective.loss(decoded(points - move * slope / slope.norm(), clouds.labels), step)
        assert (before - after).item() == pytest.approx(move * slope.norm().item(), rel=0.15)


def test_gradcheck(
    make: Make, as_double: Callable[[Objective], Objective], decoded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "bandwidth", lambda distance: distance.new_tensor(20.0))  # counts as a constant
    objective = as_double(make(SMOOTH))
    clouds = guess(per_class=1, points=5)
    points = clouds.points.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda given: objective.loss(decoded(given, clouds.labels), 0), points, atol=1e-6, fast_mode=True
    )


def test_absent_classes_count_for_nothing(objective: Objective, tiny_clouds: PointClouds) -> None:
    """The clouds of a class are pulled the same way whether or not others are in the minibatch."""
    if objective.minibatch != "classes":
        pytest.skip("compares classes with one another")
    clouds = guess()
    whole, alone = gradient(objective, clouds)[3:6], gradient(objective, clouds[3:6])
    ratio = whole.norm() / alone.norm()
    torch.testing.assert_close(whole, ratio * alone, rtol=1e-3, atol=1e-4 * whole.abs().max().item())
    box = of_class(tiny_clouds, 1)
    assert abs(objective.loss(box, 0).item()) < 1e-4 * objective.loss(guess(), 0).item()


def test_losses_of_a_step_repeat_and_follow_the_seed(make: Make) -> None:
    def losses(seed: int) -> list[float]:
        objective = make({"quantile": {"channels": 8}}, seed, networks=4)
        return [objective.loss(guess(), step).item() for step in (5, 0, 1, 2, 3, 4, 5)]

    before = torch.get_rng_state()
    found = losses(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[-1]
    assert len(set(found)) > 2
    assert losses(0) == found
    assert losses(1) != found


def test_every_network_gets_its_turn(name: str, make: Make) -> None:
    if name in ("dc", "dsa"):
        pytest.skip("a fresh network every few steps: tests/matching/test_dc.py")
    objective: Any = make(PURE, networks=4)
    used: set[int] = set()
    for k, member in enumerate(objective.experts if name == "tm" else objective.bank.members):
        member.network.register_forward_hook(lambda *_, k=k: used.add(k))
        for way in ("point_features", "pooled"):
            see = getattr(member.network, way)
            setattr(member.network, way, lambda points, see=see, k=k: (used.add(k), see(points))[1])
    for step in range(40):
        objective.loss(guess(), step)
    assert used == {0, 1, 2, 3}


def test_what_is_prepared_says_so(name: str, make: Make, own_cache: Path, tiny_clouds: PointClouds) -> None:
    """True exactly if preparing would write nothing to the cache, each of its files included."""
    objective = make({}, networks=2) if name not in ("dc", "dsa") else make({})
    files = list(own_cache.rglob("*.safetensors"))
    assert objective.prepared(tiny_clouds)
    for path in files:
        content = path.read_bytes()
        path.unlink()
        assert not objective.prepared(tiny_clouds)
        path.write_bytes(content)
    assert objective.prepared(tiny_clouds.with_points(-tiny_clouds.points)) is not bool(files)


def test_seconds_are_those_of_the_first_preparation(name: str, make: Make, own_cache: Path) -> None:
    first, again = make({}), make({})
    if name in ("dc", "dsa"):  # nothing is prepared that would be worth keeping
        assert (first.seconds, list(own_cache.iterdir())) == (0, [])
        return
    assert first.seconds == again.seconds > 0
    assert list(own_cache.iterdir())

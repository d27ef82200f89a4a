"""What every registered objective promises."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.augment import Augmentation
from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.matching import BankConfig, Objective, kernels, objectives

Configure = Callable[..., BankConfig]

# Without the terms whose minimum is elsewhere than at the real set ...
PLAIN = {"augmentation": Augmentation(), "ridge": 1e-9}
PURE: dict[str, dict[str, Any]] = {
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
def objective(name: str, tiny_clouds: PointClouds, configure: Configure) -> Objective:
    return prepared(name, tiny_clouds, configure(), PURE)


def prepared(
    name: str, real: PointClouds, bank: BankConfig, settings: dict[str, dict[str, Any]], seed: int = 0
) -> Objective:
    made = objectives[name](bank, seed=seed, **settings.get(name, {}))
    made.prepare(real)
    return made


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
    assert isinstance(made.options.bank, BankConfig)
    assert made.describe()["bank"] == made.options.bank.model_dump(mode="json")


def test_unknown_objective_is_one_line() -> None:
    with pytest.raises(InputError, match=r"^objective: 'quantil' \(did you mean 'quantile'\?\), expected one of "):
        objectives["quantil"]


def test_description_tells_settings_apart_and_is_plain(name: str, configure: Configure) -> None:
    make = objectives[name]
    described = [make(configure(), seed=0), make(configure(), seed=1), make(configure(quantiles=3), seed=0)]
    assert len({json.dumps(each.describe(), sort_keys=True) for each in described}) == 3


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


def test_certain_soft_labels_are_hard_labels(name: str, tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = prepared(name, tiny_clouds, configure(), {})
    hard = guess()[[0, 1, 3, 5, 4]]  # of two classes
    soft = PointClouds(hard.points, torch.nn.functional.one_hot(hard.labels, 3).float(), hard.class_names)
    torch.testing.assert_close(objective.loss(soft, 0), objective.loss(hard, 0))
    torch.testing.assert_close(gradient(objective, soft), gradient(objective, hard))


@pytest.mark.parametrize("points", [1, 7, 64, 100])
def test_any_number_of_points(objective: Objective, points: int) -> None:
    found = gradient(objective, guess(points=points))
    assert found.isfinite().all()
    assert found.any()


def test_number_of_points_counts_only_for_what_is_seen(objective: Objective, tiny_clouds: PointClouds) -> None:
    """A cloud in which every point stands twice is the same surface."""
    twice = tiny_clouds.with_points(tiny_clouds.points.repeat(1, 2, 1))
    assert abs(objective.loss(twice, 0).item()) < 1e-4 * objective.loss(guess(), 0).item()


def test_downhill_lowers_the_loss(objective: Objective) -> None:
    clouds = guess()
    for step in range(3):
        slope = gradient(objective, clouds, step)
        before, after = (objective.loss(clouds.with_points(clouds.points - move * slope / slope.norm()), step)
                         for move in (0.0, 0.01))  # fmt: skip
        assert after < before
        assert (before - after).item() == pytest.approx(0.01 * slope.norm().item(), rel=0.3)


def test_gradcheck(
    name: str, tiny_clouds: PointClouds, configure: Configure, as_double: Callable[[Objective], Objective],
    decoded: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(kernels, "bandwidth", lambda distance: distance.new_tensor(20.0))  # counts as a constant
    objective = as_double(prepared(name, tiny_clouds, configure(), SMOOTH))
    clouds = guess(per_class=1, points=5)
    points = clouds.points.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda given: objective.loss(decoded(given, clouds.labels), 0), points, atol=1e-4)


def test_absent_classes_count_for_nothing(objective: Objective, tiny_clouds: PointClouds) -> None:
    """The clouds of a class are pulled the same way whether or not others are in the minibatch."""
    if objective.minibatch != "classes":
        pytest.skip("compares classes with one another")
    clouds = guess()
    whole, alone = gradient(objective, clouds)[3:6], gradient(objective, clouds[3:6])
    ratio = whole.norm() / alone.norm()
    torch.testing.assert_close(whole, ratio * alone, rtol=1e-3, atol=1e-4 * whole.abs().max().item())
    box = tiny_clouds.of_class(1)
    assert abs(objective.loss(box, 0).item()) < 1e-4 * objective.loss(guess(), 0).item()


def test_losses_of_a_step_repeat_and_follow_the_seed(name: str, tiny_clouds: PointClouds, configure: Configure) -> None:
    settings = {"quantile": {"channels": 8}}

    def losses(seed: int) -> list[float]:
        objective = prepared(name, tiny_clouds, configure(networks=4), settings, seed)
        return [objective.loss(guess(), step).item() for step in (5, 0, 1, 2, 3, 4, 5)]

    before = torch.get_rng_state()
    found = losses(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[-1]
    assert len(set(found)) > 2
    assert losses(0) == found
    assert losses(1) != found


def test_every_network_of_the_bank_gets_its_turn(name: str, tiny_clouds: PointClouds, configure: Configure) -> None:
    objective: Any = prepared(name, tiny_clouds, configure(networks=4), PURE)
    used: set[int] = set()
    for k, member in enumerate(objective.bank.members):
        member.network.register_forward_hook(lambda *_, k=k: used.add(k))
        see = member.network.point_features
        member.network.point_features = lambda points, see=see, k=k: (used.add(k), see(points))[1]
    for step in range(40):
        objective.loss(guess(), step)
    assert used == {0, 1, 2, 3}


def test_seconds_are_those_of_the_first_preparation(
    name: str, tiny_clouds: PointClouds, configure: Configure, own_cache: Any
) -> None:
    first = prepared(name, tiny_clouds, configure(), {})
    again = prepared(name, tiny_clouds, configure(), {})
    assert first.seconds == again.seconds > 0
    assert own_cache.is_dir()

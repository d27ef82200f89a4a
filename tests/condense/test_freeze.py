"""Sets of which a part stays real: it stays bit for bit, whatever moves the rest."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import pcdistill as pcd
from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import DistillSettings, distill, frozen
from pcdistill.condense.plan import resolve
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.errors import InputError
from pcdistill.matching import BankConfig, Objective, objectives
from pcdistill.matching.krr import KernelRidgeRegression
from pcdistill.storage import Budget, Storage, storages

ALONE = [name for name in storages if storages[name].kept is not Storage.kept]
BANK = BankConfig(
    networks=1, network="pointnet-small", points=32, pooled_points=32, quantiles=4, trained_steps=(0, 0),
    trained_clouds=4, pooled_samples=4,
)  # fmt: skip
STAY = torch.tensor([True, True, False] * 3)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0, 0.999))
def test_the_first_of_every_class_stay_and_one_of_each_moves(counts: list[int], share: float) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    found = frozen(labels, share)
    for label, count in enumerate(counts):
        own = found[labels == label].tolist()
        stays = sum(own)
        assert own == [True] * stays + [False] * (count - stays)
        assert share * count - 1 < stays <= share * count + 1e-6
        assert stays < count


def test_shares_that_are_whole_numbers_of_clouds_are_not_rounded_down() -> None:
    labels = torch.zeros(100, dtype=torch.int64)
    assert [int(frozen(labels, share).sum()) for share in (0.29, 0.57, 0.58, 0.7)] == [29, 57, 58, 70]


def stored(kind: str, clouds: PointClouds) -> Storage:
    side = 8 if storages[kind].dense else 0
    chosen = clouds[torch.tensor([0, 1, 2, 8, 9, 10, 16, 17, 18])]
    return storages[kind].from_clouds(chosen, Budget(3, 64, 4 if side else 8, side=side))


def moved(before: PointClouds, after: PointClouds) -> list[bool]:
    return (before.points != after.points).flatten(1).any(1).tolist()


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("targets", ["some", "all"])  # shown with the others, or held by the objective
def test_frozen_clouds_keep_their_bits_in_every_storage_of_single_clouds(
    kind: str, targets: str, tiny_clouds: PointClouds
) -> None:
    storage, fresh = stored(kind, tiny_clouds), stored(kind, tiny_clouds)
    objective = KernelRidgeRegression(BANK, targets=targets)
    distill(tiny_clouds, storage, objective, DistillSettings(steps=4, lr=0.2, freeze=0.7, ema=0.5))
    for value, first in zip(storage.learned().values(), fresh.learned().values(), strict=True):
        assert torch.equal(value[STAY], first[STAY])
    with torch.no_grad():
        assert moved(fresh.decode(), storage.decode()) == (~STAY).tolist()


@pytest.mark.parametrize("name", list(objectives))
def test_every_objective_moves_the_rest_only(name: str, tiny_clouds: PointClouds) -> None:
    banks: dict[str, Any] = {"dc": {"network": "pointnet-small-layernorm"}, "dsa": {}, "tm": {
        "network": "pointnet-small-layernorm", "networks": 1, "points": 16, "steps": 4, "interval": 2, "batch": 8,
    }}  # fmt: skip
    more: dict[str, Any] = {"tm": {"start": (0, 1), "length": 1, "student_steps": 2}}
    objective = objectives[name](bank=banks.get(name, BANK), **more.get(name, {}))
    storage, fresh = stored("points", tiny_clouds), stored("points", tiny_clouds)
    distill(tiny_clouds, storage, objective, DistillSettings(steps=2, lr=0.2, freeze=0.7))
    assert moved(fresh.decode(), storage.decode()) == (~STAY).tolist()


def test_learned_labels_of_frozen_clouds_stay_too(tiny_clouds: PointClouds) -> None:
    storage = stored("points", tiny_clouds)
    storage.soften(torch.full((9, 3), 0.1) + 0.7 * torch.eye(3).repeat_interleave(3, 0), learn=True)
    before = storage.learned()["labels"].detach().clone()
    for targets in ("some", "all"):
        objective = KernelRidgeRegression(BANK, targets=targets)
        distill(tiny_clouds, storage, objective, DistillSettings(steps=2, lr=0.1, freeze=0.7))
        changed = (storage.learned()["labels"] != before).any(1)
        assert torch.equal(changed, ~STAY)


class Shown(Objective):
    """Remembers what it is shown, and whether it was told."""

    name = "shown"

    def __init__(self, holds: bool) -> None:
        super().__init__()
        self.holds = holds
        self.told: Tensor | None = None
        self.seen: list[Tensor] = []

    def prepare(self, real: Any) -> None:
        pass

    def hold(self, frozen: PointClouds) -> bool:
        self.told = frozen.points
        return self.holds

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        self.seen.append(decoded.points.detach().clone())
        return decoded.points.square().sum()


@pytest.mark.parametrize(
    ("holds", "batch", "sizes"), [(True, 3, {3}), (True, 2, {2}), (False, 9, {9}), (False, 3, {3})]
)
def test_who_holds_frozen_clouds_is_shown_the_others(
    holds: bool, batch: int, sizes: set[int], tiny_clouds: PointClouds
) -> None:
    storage, objective = stored("points", tiny_clouds), Shown(holds)
    real = storage.decode().points.detach()[STAY]
    distill(tiny_clouds, storage, objective, DistillSettings(steps=3, lr=0.1, freeze=0.7, batch=batch))
    assert objective.told is not None
    assert torch.equal(objective.told, real)
    assert {len(points) for points in objective.seen} == sizes
    for points in objective.seen if holds else []:
        assert not any(torch.equal(one, other) for one in points for other in real)


def spec(**changes: Any) -> DistillSpec:
    given: dict[str, Any] = {"clouds_per_class": 4, "points": 16, "freeze": 0.5, "steps": 2, "members": 1}
    return DistillSpec.checked({**given, **changes})


def test_most_important_clouds_of_the_selection_stay(tiny_clouds: PointClouds, own_cache: Path) -> None:
    fast = {"bank": {"trained_steps": (0, 0), "pooled_samples": 4}}
    made = pcd.distill(tiny_clouds, **spec(options=fast, bits=8).model_dump(by_alias=True, exclude_defaults=True))
    chosen = pcd.select(tiny_clouds, clouds_per_class=4, points=16, bits=8)
    assert moved(chosen.clouds, made.clouds) == [False, False, True, True] * 3
    settings, objective = made.metadata.settings, made.metadata.objective
    assert settings is not None
    assert objective is not None
    assert (settings["freeze"], objective["targets"]) == (0.5, "all")


def test_targets_are_all_real_clouds_unless_others_are_asked_for() -> None:
    assert resolve(spec()).objective.options.targets == "all"
    assert resolve(spec(options={"targets": "some"})).objective.options.targets == "some"
    assert resolve(spec(freeze=0.0)).objective.options.targets == "some"


def test_what_cannot_stay_alone_is_refused(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"^freeze: in storage morphed, whose clouds share numbers, expected one that"):
        resolve(spec(storage="morphed"))
    with pytest.raises(InputError, match=r"^freeze: 0.2 of at most 4 clouds of a class, expected a share that is one"):
        pcd.distill(tiny_clouds, **spec(freeze=0.2).model_dump(by_alias=True, exclude_defaults=True))
    with pytest.raises(InputError, match="freeze"):
        spec(freeze=1.0)


def test_where_all_move_that_is_not_said() -> None:
    assert "freeze" not in DistillSettings(steps=1, lr=0.1).model_dump()
    assert DistillSettings(steps=1, lr=0.1, freeze=0.5).model_dump()["freeze"] == 0.5

"""Distilling on a device: every objective and every storage, with the processor's numbers and few waits."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, Weighted, device_of, placed
from pcdistill.condense.loop import Distilled, DistillSettings, Follower, Interrupted, distill
from pcdistill.data.procedural import shapes
from pcdistill.matching import Bank, Objective, objectives, shards
from pcdistill.matching.bank import _to_tensors
from pcdistill.matching.base import BankObjective
from pcdistill.matching.gathering import BankRequest, Member
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.implicit import ImplicitClouds
from tests.devices.accelerator import AVAILABLE, DEVICE, accelerator

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this torch lets no device be simulated")

STEPS = 3
LAYERS = {"network": "pointnet-small-layernorm"}
BANK = {"networks": 2, "points": 32, "pooled_points": 64, "quantiles": 8, "trained_steps": (1, 2),
        "trained_clouds": 4, "pooled_samples": 4}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "dc": {"bank": LAYERS, "outer": 2, "inner": 1, "real_clouds": 4, "real_points": 32},
    "dsa": {"bank": LAYERS, "outer": 2, "inner": 1, "real_clouds": 4, "real_points": 32},
    "tm": {
        "bank": {**LAYERS, "networks": 1, "points": 32, "steps": 4, "interval": 2, "batch": 8, "lr": 0.02},
        "start": (0, 1), "length": 1, "student_steps": 2, "on_policy": 0.5, "visits": 2,
    },
    "gm": {"bank": {**BANK, "network": "pointnet-linear", "quantiles": 0}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 5)


def objective(name: str) -> Objective:
    return objectives[name](**OPTIONS.get(name, {"bank": BANK}))


def filled(name: str, clouds: PointClouds, learn: bool = False) -> Storage:
    """Two clouds of every class, of 16 points or in grids of 8 cells a side; with learned labels if wanted."""
    kind, first = storages[name], clouds[torch.tensor([0, 1, 8, 9, 16, 17])]
    budget = Budget(2, 16, 3, side=8) if kind.dense else Budget(2, 16)
    storage = kind.from_clouds(first if kind.dense else first.with_points(first.points[:, :16]), budget)
    if learn:
        storage.soften(0.1 + 0.7 * torch.eye(3)[first.labels], learn=True)
    return storage


class Counted(Follower):
    """Notes the waits of every step."""

    def __init__(self, waits: Counter[str]) -> None:
        self.waits, self.before = waits, Counter[str]()
        self.of_steps: list[Counter[str]] = []

    def step(self, step: int, loss: float) -> None:
        self.of_steps.append(self.waits - self.before)
        self.before = Counter(self.waits)


def distilled(
    clouds: CloudSource, name: str, storage: Storage, device: str, *followers: Follower, **changes: Any
) -> Distilled:
    settings = DistillSettings(steps=STEPS, lr=0.02, batch=4, ema=0.5, **changes)
    return distill(clouds, storage, objective(name), settings, followers=followers, device=device)


def same_on_the_device(clouds: PointClouds, name: str, kind: str, **changes: Any) -> Counter[str]:
    """Distil here and there, hold the results against one another, and give the waits of the last step there."""
    learn = objectives[name].learns_labels
    ours, theirs = filled(kind, clouds, learn), filled(kind, clouds, learn)
    done = distilled(clouds, name, ours, "cpu", **changes)
    with accelerator() as waits:
        counted = Counted(waits)
        there = distilled(clouds, name, theirs, DEVICE, counted, **changes)
    assert there.losses == done.losses
    for found, expected in zip(theirs.arrays().values(), ours.arrays().values(), strict=True):
        assert found.tobytes() == expected.tobytes()
    assert {value.device.type for value in theirs.learned().values()} == {"cpu"}
    return counted.of_steps[-1]


# Waits of a step: for loss and gradients together; of `idm` for an accuracy; of objectives on gradients for the number
# of critical points, at every gradient; of `tm` for the way of its expert besides.
WAITS = {"idm": 2, "gm": 2, "dc": 3, "dsa": 3, "tm": 6}


@pytest.mark.parametrize("name", objectives)
def test_every_objective_gives_the_processors_numbers(name: str, tiny_clouds: PointClouds) -> None:
    waits = same_on_the_device(tiny_clouds, name, "points")
    assert waits.total() == WAITS.get(name, 1), waits


@pytest.mark.parametrize("kind", storages)
def test_every_storage_gives_the_processors_numbers(kind: str, tiny_clouds: PointClouds) -> None:
    waits = same_on_the_device(tiny_clouds, "krr", kind, rate=0.01 if kind == "coded" else 0)
    # A coded one counts points in boxes for its rate; voxels draw noise that follows from where points are.
    assert waits.total() == {"coded": 2, "voxels": 2}.get(kind, 1), waits


def test_frozen_clouds_stay_as_they_are_there_too(tiny_clouds: PointClouds) -> None:
    settings = DistillSettings(steps=STEPS, lr=0.02, freeze=0.5)
    found = []
    for kind in ("points", "voxels"):
        for device in ("cpu", DEVICE):
            storage, krr = filled(kind, tiny_clouds, learn=True), objectives["krr"](bank=BANK, targets="all")
            with accelerator():
                found.append(distill(tiny_clouds, storage, krr, settings, device=device).losses)
    assert found[0] == found[1]
    assert found[2] == found[3]


@pytest.mark.parametrize("name", [name for name in objectives if objectives[name].sees_parts])
def test_parts_of_points_are_matched_there_too(name: str) -> None:
    real, losses = shapes.generate("train", 2, 48, parts=True), []
    bank = {"networks": 1, "trained_steps": (1, 1), "trained_clouds": 2, "pooled_samples": 2}
    for device in ("cpu", DEVICE):
        first = real[torch.arange(0, 20, 2)].at_points(slice(16))
        storage = storages["points"].from_clouds(first, Budget(1, 16))
        with accelerator():
            done = distill(real, storage, objectives[name](bank=bank), DistillSettings(steps=1, lr=0.02), device=device)
        losses.append(done.losses)
    assert losses[0] == losses[1]


def test_weights_of_clouds_travel_along(tiny_clouds: PointClouds) -> None:
    weights = 0.5 + torch.rand(len(tiny_clouds), generator=torch.Generator().manual_seed(0))
    ours, theirs = filled("points", tiny_clouds), filled("points", tiny_clouds)
    done = distilled(Weighted(tiny_clouds, weights), "dm", ours, "cpu")
    with accelerator():
        assert device_of(placed(Weighted(tiny_clouds, weights), DEVICE)).type == DEVICE
        assert distilled(Weighted(tiny_clouds, weights), "dm", theirs, DEVICE).losses == done.losses


@pytest.mark.parametrize(("first", "second"), [("cpu", DEVICE), (DEVICE, "cpu")])
def test_checkpoints_move_between_devices(first: str, second: str, tiny_clouds: PointClouds, tmp_path: Path) -> None:
    """A run that is stopped on one device goes on, on another, as if nothing had been."""
    file, settings = tmp_path / "run.checkpoint", DistillSettings(steps=4, lr=0.02, ema=0.5, snapshots=1)

    class Stop(Follower):
        def step(self, step: int, loss: float) -> None:
            if step == 2:
                raise KeyboardInterrupt

    whole, parted = filled("rotated", tiny_clouds), filled("rotated", tiny_clouds)
    expected = distill(tiny_clouds, whole, objective("dc"), settings)
    with accelerator():
        with pytest.raises(Interrupted):
            distill(tiny_clouds, parted, objective("dc"), settings, checkpoint=file, followers=[Stop()], device=first)
        parted = filled("rotated", tiny_clouds)
        found = distill(tiny_clouds, parted, objective("dc"), settings, checkpoint=file, resume=True, device=second)
    assert found.losses == expected.losses
    torch.testing.assert_close(found.snapshots, expected.snapshots, rtol=0, atol=0)
    torch.testing.assert_close(parted.decode().points, whole.decode().points, rtol=0, atol=0)


def test_a_storage_that_is_elsewhere_says_what_it_holds(tiny_clouds: PointClouds) -> None:
    """As the page of a run that goes on asks for it."""
    for kind in storages:
        storage = filled(kind, tiny_clouds)
        storage.learned()
        expected, names = storage.nbytes, list(storage.learned())
        with accelerator(), torch.no_grad():
            storage.to(DEVICE)
            assert {value.device.type for value in storage.learned().values()} == {DEVICE}
            assert storage.nbytes == expected
            assert len(storage.decode().points.cpu()) == 6
            storage.to("cpu")
        assert list(storage.learned()) == names
        assert all(value.requires_grad and value.is_leaf for value in storage.learned().values())


class Broken(BankObjective):
    """Makes a tensor on the processor at every step, and puts it to what is on the device."""

    name = "broken"

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        noise = torch.randn(points.shape, generator=generator)
        return (points + noise).square().sum()


def test_a_part_that_mixes_devices_fails(tiny_clouds: PointClouds) -> None:
    settings = DistillSettings(steps=1, lr=0.02)
    distill(tiny_clouds, filled("points", tiny_clouds), Broken(bank=BANK), settings)  # type: ignore[arg-type]
    with accelerator(), pytest.raises(RuntimeError, match="expected all tensors on one device"):
        distill(tiny_clouds, filled("points", tiny_clouds), Broken(bank=BANK), settings, device=DEVICE)  # type: ignore[arg-type]


class Chatty(Broken):
    """Looks at a value of every cloud at every step."""

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        return points.square().sum() * sum(cloud.abs().max().item() for cloud in points)


def test_a_part_that_waits_is_counted(tiny_clouds: PointClouds) -> None:
    with accelerator() as waits:
        objective = Chatty(bank=BANK)  # type: ignore[arg-type]
        objective.prepare(placed(tiny_clouds, DEVICE))
        decoded, before = tiny_clouds.with_points(tiny_clouds.points.to(DEVICE)), waits.total()
        objective.loss(decoded, 0)
    assert waits.total() - before == len(tiny_clouds)


def test_shards_of_a_device_have_the_processors_sums(
    tiny_clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept on the processor, added where the networks are."""
    monkeypatch.setattr(shards, "SHARD", 8)
    monkeypatch.setattr(shards, "BATCH", 8)
    config = BankRequest(**BANK, moments=True, map_samples=2, attention=1.0)
    found = []
    for device in ("cpu", DEVICE):
        monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / device))
        with accelerator():
            members = Bank.of(placed(tiny_clouds, device), config).members
            found.append({name: value.cpu() for name, value in _to_tensors(members).items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5)

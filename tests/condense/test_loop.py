"""The outer loop: that it goes down, what it draws, and that an interrupted run is an uninterrupted one."""

import importlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.condense.loop import Distilled, DistillSettings, Follower, Interrupted, distill
from pcdistill.core.errors import InputError
from pcdistill.core.sealed import sealed, unsealed
from pcdistill.matching import BankConfig, Objective
from pcdistill.matching.quantile import QuantileMatching
from pcdistill.storage import Budget
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.points import StoredPoints
from pcdistill.storage.voxels import VoxelClouds

module = importlib.import_module("pcdistill.condense.loop")  # the package offers its function under this name
CLASSES = ("ball", "box", "ring")


class Pull(Objective):
    """Pulls every cloud to a point of its class; noise of the step makes the order of steps count."""

    name = "pull"

    def __init__(self, strength: float = 1.0, before: Callable[[int], None] = lambda step: None) -> None:
        super().__init__(seed=0)
        self.strength = strength
        self.before = before
        self.prepared = 0
        self.seen: list[tuple[int, list[int]]] = []

    def describe(self) -> dict[str, Any]:
        return {"strength": self.strength}

    def prepare(self, real: CloudSource) -> None:
        self.prepared += 1
        self.seconds = 1.5
        self.centres = torch.stack(
            [real.batch((real.labels == label).nonzero()[:, 0]).mean((0, 1)) for label in range(3)]
        )
        self.centres += torch.arange(3.0)[:, None] / 10

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        self.before(step)
        self.seen.append((step, decoded.labels.tolist()))
        noise = torch.randn(3, generator=torch.Generator().manual_seed(step)) / 10
        return self.strength * (decoded.points - self.centres[decoded.labels][:, None] - noise).square().mean()


class Weighted(Pull):
    """Learns a weight of its own, and remembers where the clouds have been."""

    name = "weighted"
    pace: ClassVar[dict[str, float]] = {"weight": 3.0}

    def __init__(self, touches: bool = True) -> None:
        super().__init__()
        self.touches = touches
        self.weight = torch.ones(1, 1, requires_grad=True)
        self.memory = torch.zeros(())

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        self.memory = 0.5 * self.memory + decoded.points.detach().mean()
        own = (self.weight.exp() - self.memory).square().sum()
        return own + self.weight[0, 0] * super().loss(decoded, step) if self.touches else own

    def learned(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def state(self) -> dict[str, Tensor]:
        return {"memory": self.memory}

    def restore(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"]


def stored(per_class: int = 4, bits: int = 32) -> StoredPoints:
    points = torch.rand(3 * per_class, 5, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return StoredPoints(
        points, torch.arange(len(CLASSES)).repeat_interleave(len(points) // len(CLASSES)), bits, CLASSES
    )


def settings(**changes: Any) -> DistillSettings:
    return DistillSettings(**{"steps": 12, "lr": 0.02, "batch": 100, "snapshots": 0, "seed": 0, **changes})


class Following(Follower):
    """Calls a function after every step."""

    def __init__(self, call: Callable[[int, float], None]) -> None:
        self.call = call

    def step(self, step: int, loss: float) -> None:
        self.call(step, loss)


def stop_after(last: int, reason: type[BaseException] = KeyboardInterrupt) -> list[Follower]:
    def stop(step: int, loss: float) -> None:
        if step == last:
            raise reason

    return [Following(stop)]


# Going down


def test_toy_problem_is_solved(tiny_clouds: PointClouds) -> None:
    storage, objective = stored(), Pull()
    done = distill(tiny_clouds, storage, objective, settings(steps=150))
    assert len(done.losses) == 150
    assert done.losses[-1] < 0.3 * done.losses[0]
    distance = (storage.decode().points.detach() - objective.centres.repeat_interleave(4, 0)[:, None]).abs().mean()
    assert distance < 0.1
    assert (done.prepare_seconds, objective.prepared) == (1.5, 1)
    assert done.seconds > 0


@pytest.mark.parametrize("bits", [8, 32])
def test_quantile_matching_falls(bits: int, tiny_clouds: PointClouds) -> None:
    objective = QuantileMatching(
        BankConfig(networks=2, points=32, pooled_points=32, quantiles=4, trained_steps=(0, 0), trained_clouds=8), seed=0
    )
    storage = stored(bits=bits)
    done = distill(tiny_clouds, storage, objective, settings(steps=40, lr=0.05))
    assert sum(done.losses[-5:]) < 0.65 * sum(done.losses[:5])  # five points come no nearer to 64 than 0.4


def test_updates_are_those_of_adam_with_a_cosine(tiny_clouds: PointClouds) -> None:
    """torch's own, where every cloud is seen at every step."""
    storage, objective, steps = stored(), Pull(), 9
    theirs = storage.points.detach().clone().requires_grad_()
    distill(tiny_clouds, storage, objective, settings(steps=steps, lr=0.03))
    adam = torch.optim.Adam([theirs], lr=0.03, betas=(0.9, 0.99), eps=1e-12)
    for step in range(steps):
        adam.param_groups[0]["lr"] = 0.03 * (1 + math.cos(math.pi * step / steps)) / 2
        adam.zero_grad()
        objective.loss(PointClouds(theirs, storage.labels, CLASSES), step).backward()
        adam.step()
    torch.testing.assert_close(storage.points, theirs, rtol=1e-4, atol=1e-6)


def test_steps_are_reported_from_one(tiny_clouds: PointClouds) -> None:
    calls: list[tuple[int, float]] = []
    done = distill(
        tiny_clouds,
        stored(),
        Pull(),
        settings(steps=4),
        followers=[Following(lambda step, loss: calls.append((step, loss)))],
    )
    assert calls == list(enumerate(done.losses, start=1))


def test_no_steps_change_nothing(tiny_clouds: PointClouds) -> None:
    storage = stored()
    done = distill(tiny_clouds, storage, Pull(), settings(steps=0))
    assert done.losses == []
    assert torch.equal(storage.points, stored().points)


@pytest.mark.parametrize(
    "fields", [{"steps": -1}, {"lr": 0}, {"batch": 0}, {"snapshots": -1}, {"ema": 1.0}, {"ema": -0.1}, {"step": 3}]
)
def test_impossible_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        settings(**fields)


# Averages, and what an objective learns


@pytest.mark.parametrize("ema", [0.2, 0.9])
@pytest.mark.parametrize("bits", [8, 32])
def test_result_is_the_average(ema: float, bits: int, tiny_clouds: PointClouds) -> None:
    storage, plain = stored(bits=bits), stored(bits=bits)
    average = stored(bits=bits).points.detach()
    last: list[Tensor] = []

    def follow(step: int, loss: float) -> None:
        nonlocal average
        decay = min(ema, step / (9 + step))
        last.append(storage.points.detach().clone())
        average = decay * average + (1 - decay) * last[-1]

    done = distill(tiny_clouds, storage, Pull(), settings(ema=ema, batch=4, snapshots=1), followers=[Following(follow)])
    torch.testing.assert_close(storage.points.detach(), average)
    torch.testing.assert_close(done.snapshots[-1], storage.decode().points.detach())  # the result's
    expected = distill(tiny_clouds, plain, Pull(), settings(batch=4))
    assert done.losses == expected.losses  # the way is that of the last values
    assert torch.equal(last[-1], plain.points)
    assert not torch.equal(storage.points, plain.points)


@pytest.mark.parametrize("last", [1, 5, 12])
def test_resumed_average_is_uninterrupted(last: int, tiny_clouds: PointClouds, tmp_path: Path) -> None:
    how, path = settings(ema=0.8, batch=4, snapshots=2), tmp_path / "checkpoint"
    reference, storage, again = stored(), stored(), stored()
    expected = distill(tiny_clouds, reference, Pull(), how)
    with pytest.raises(Interrupted):
        distill(tiny_clouds, stored(), Pull(), how, checkpoint=path, followers=stop_after(last))
    for found in (storage, again):  # and of a finished run
        done = distill(tiny_clouds, found, Pull(), how, checkpoint=path, resume=True)
        assert_same(done, found, expected, reference)


def test_objective_learns_at_its_own_pace(tiny_clouds: PointClouds) -> None:
    objective = Weighted()
    distill(tiny_clouds, stored(), objective, settings(steps=1, lr=0.02))
    assert objective.weight.item() == pytest.approx(1 - 3 * 0.02)  # the first step of Adam is as long as its rate
    distill(tiny_clouds, stored(), objective, settings(steps=50, ema=0.9))
    assert objective.weight.item() < 0.5


def test_objective_resumes_with_its_state(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    reference, storage, one, two = stored(), stored(), Weighted(), Weighted()
    expected = distill(tiny_clouds, reference, one, settings(batch=4))
    with pytest.raises(Interrupted):
        distill(tiny_clouds, stored(), Weighted(), settings(batch=4), checkpoint=path, followers=stop_after(7))
    done = distill(tiny_clouds, storage, two, settings(batch=4), checkpoint=path, resume=True)
    assert_same(done, storage, expected, reference)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.memory, two.memory)


def test_objective_need_not_touch_the_points(tiny_clouds: PointClouds) -> None:
    storage, objective = stored(), Weighted(touches=False)
    distill(tiny_clouds, storage, objective, settings())
    assert torch.equal(storage.points, stored().points)
    assert objective.weight.item() < 1


# Minibatches


def drawn(per_class: int, batch: int, steps: int, seed: int = 0, kind: str = "classes") -> list[list[int]]:
    run = module._Run(stored(per_class), Pull(), settings(batch=batch, seed=seed), "")
    found = []
    for step in range(steps):
        index = run._clouds(kind, step)
        assert index is not None
        found.append(index.tolist())
    return found


@pytest.mark.parametrize(
    ("per_class", "batch", "size"), [(4, 4, 4), (4, 7, 4), (4, 8, 8), (4, 11, 8), (6, 4, 4), (5, 1, 1)]
)
def test_minibatches_are_full_classes_or_part_of_one(per_class: int, batch: int, size: int) -> None:
    times = [0] * (3 * per_class)
    for index in drawn(per_class, batch, 400):
        assert len(index) == size <= batch
        assert index == sorted(set(index))
        classes = {cloud // per_class for cloud in index}
        assert len(classes) == max(1, size // per_class)
        for cloud in index:
            times[cloud] += 1
    expected = 400 * size / (3 * per_class)
    assert all(abs(count - expected) < 5 * expected**0.5 for count in times)  # every cloud gets its turn


@pytest.mark.parametrize(("per_class", "batch", "each"), [(4, 4, 1), (4, 7, 2), (4, 11, 3), (5, 1, 1)])
def test_minibatches_of_some_clouds_of_every_class(per_class: int, batch: int, each: int) -> None:
    times = [0] * (3 * per_class)
    for index in drawn(per_class, batch, 400, kind="clouds"):
        assert [cloud // per_class for cloud in index] == [label for label in range(3) for _ in range(each)]
        assert index == sorted(set(index))
        for cloud in index:
            times[cloud] += 1
    expected = 400 * each / per_class
    assert all(abs(count - expected) < 5 * expected**0.5 for count in times)


@pytest.mark.parametrize("kind", ["classes", "clouds"])
def test_objective_says_which_minibatches_it_wants(
    kind: str, tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pull, "minibatch", kind)
    objective = Pull()
    distill(tiny_clouds, stored(), objective, settings(batch=4, steps=3))
    labels = stored().labels
    *seen, judged = objective.seen
    assert judged == seen[0]
    assert seen == [(k, labels[index].tolist()) for k, index in enumerate(drawn(4, 4, 3, kind=kind))]


def test_minibatches_follow_their_seed() -> None:
    assert drawn(4, 4, 20) == drawn(4, 4, 20)
    assert drawn(4, 4, 20) != drawn(4, 4, 20, seed=1)


def test_small_sets_are_seen_whole(tiny_clouds: PointClouds) -> None:
    objective = Pull()
    distill(tiny_clouds, stored(), objective, settings(batch=12, steps=2))
    assert objective.seen == [(step, stored().labels.tolist()) for step in (0, 1, 0)]


def test_clouds_outside_the_minibatch_stay_where_they_are(tiny_clouds: PointClouds) -> None:
    storage = stored()
    before = storage.points.detach().clone()
    for step, index in enumerate(drawn(4, 4, 6)):
        objective = Pull()
        run = module._Run(storage, objective, settings(batch=4), "")
        objective.prepare(tiny_clouds)
        run.step = step
        run.advance()
        moved = (storage.points != before).flatten(1).any(1).nonzero()[:, 0]
        assert moved.tolist() == index
        before = storage.points.detach().clone()


def test_momentum_does_not_move_clouds_that_are_not_seen(tiny_clouds: PointClouds) -> None:
    storage, steps = stored(), 8
    history: list[Tensor] = []
    distill(tiny_clouds, storage, Pull(), settings(batch=4, steps=steps),
            followers=[Following(lambda step, loss: history.append(storage.points.detach().clone()))])  # fmt: skip
    for earlier, later, index in zip(history, history[1:], drawn(4, 4, steps)[1:], strict=False):
        assert (earlier != later).flatten(1).any(1).nonzero()[:, 0].tolist() == index


def test_classes_meet_every_network_of_the_bank(tiny_clouds: PointClouds) -> None:
    """With the same seed on both sides: their draws have nothing to do with one another."""
    config = BankConfig(networks=3, points=8, pooled_points=8, quantiles=2, trained_steps=(0, 0), trained_clouds=2)
    objective = QuantileMatching(config, channels=2, seed=0)
    objective.prepare(tiny_clouds)
    met: set[tuple[int, int]] = set()
    for k, member in enumerate(objective.bank.members):
        member.network.point_features = lambda points, k=k, see=member.network.point_features: (
            met.add((k, current[0])), see(points)
        )[1]  # fmt: skip
    current = [0]
    storage = stored()
    run = module._Run(storage, objective, settings(batch=4, steps=60), "")
    for step in range(60):
        index = run._clouds("classes", step)
        assert index is not None
        current[0] = int(storage.labels[index[0]])
        objective.loss(storage.decode(index), step)
    assert len(met) == 9


# Seeds


def outcome(tiny: PointClouds, **changes: Any) -> Tensor:
    storage = stored()
    distill(tiny, storage, Pull(), settings(batch=4, **changes))
    return storage.points.detach()


def test_same_seed_same_bits(tiny_clouds: PointClouds) -> None:
    before = torch.get_rng_state()
    known = outcome(tiny_clouds)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(outcome(tiny_clouds), known)
    assert not torch.equal(outcome(tiny_clouds, seed=1), known)


# Interruption


def assert_same(
    done: Distilled, storage: StoredPoints | VoxelClouds, expected: Distilled, reference: StoredPoints | VoxelClouds
) -> None:
    assert done.losses == expected.losses
    assert torch.equal(storage.points, reference.points)
    assert len(done.snapshots) == len(expected.snapshots)
    assert all(torch.equal(one, two) for one, two in zip(done.snapshots, expected.snapshots, strict=True))


def test_resumed_voxels_are_uninterrupted(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    """Their noise hangs on nothing but where points are."""

    def voxels() -> VoxelClouds:
        return VoxelClouds.from_clouds(tiny_clouds, Budget(8, 16, side=6))

    how = settings(batch=6, snapshots=2)
    reference, storage, path = voxels(), voxels(), tmp_path / "run.checkpoint"
    expected = distill(tiny_clouds, reference, Pull(), how)
    for last in (2, 7):
        with pytest.raises(Interrupted):
            distill(tiny_clouds, voxels(), Pull(), how, checkpoint=path, resume=True, followers=stop_after(last))
        torch.rand(last)  # whatever else draws
    done = distill(tiny_clouds, storage, Pull(), how, checkpoint=path, resume=True)
    assert_same(done, storage, expected, reference)
    assert not torch.equal(storage.points, voxels().points)


@pytest.mark.parametrize(("batch", "bits", "snapshots"), [(100, 32, 0), (4, 32, 3), (4, 8, 2)])
@pytest.mark.parametrize("stops", [(1,), (4, 8), (3, 6, 11), (12,)])
def test_resumed_is_uninterrupted(
    stops: tuple[int, ...], batch: int, bits: int, snapshots: int, tiny_clouds: PointClouds, tmp_path: Path
) -> None:
    how = settings(batch=batch, snapshots=snapshots)
    reference = stored(bits=bits)
    expected = distill(tiny_clouds, reference, Pull(), how)
    path = tmp_path / "run.checkpoint"
    for last in stops:
        with pytest.raises(Interrupted, match=rf"^stopped after step {last} of 12; saved to .*run\.checkpoint$"):
            distill(
                tiny_clouds, stored(bits=bits), Pull(), how, checkpoint=path, resume=True, followers=stop_after(last)
            )
        assert path.exists()
    storage = stored(bits=bits)
    done = distill(tiny_clouds, storage, Pull(), how, checkpoint=path, resume=True)
    assert_same(done, storage, expected, reference)
    again = stored(bits=bits)  # the checkpoint of a finished run holds its result, until that is safe elsewhere
    assert_same(distill(tiny_clouds, again, Pull(), how, checkpoint=path, resume=True), again, expected, reference)
    assert list(tmp_path.iterdir()) == [path]


def test_resumed_quantile_matching_is_uninterrupted(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    config = BankConfig(networks=3, points=16, pooled_points=16, quantiles=4, trained_steps=(1, 2), trained_clouds=4)
    how = settings(batch=4, steps=6)

    def run(storage: StoredPoints, **more: Any) -> Distilled:
        return distill(tiny_clouds, storage, QuantileMatching(config, channels=8, seed=0), how, **more)

    reference, storage, path = stored(bits=8), stored(bits=8), tmp_path / "checkpoint"
    expected = run(reference)
    with pytest.raises(Interrupted):
        run(stored(bits=8), checkpoint=path, followers=stop_after(3))
    assert_same(run(storage, checkpoint=path, resume=True), storage, expected, reference)


@pytest.mark.parametrize("within", [0, 3, 4])
def test_interrupted_within_a_step_that_is_then_repeated(within: int, tiny_clouds: PointClouds, tmp_path: Path) -> None:
    """Also within one that took a snapshot: it is not taken twice."""

    def interrupt(step: int) -> None:
        if step == within:
            raise KeyboardInterrupt

    how = settings(snapshots=2)  # at steps 0, 4 and 8, and at the end
    reference, storage, path = stored(), stored(), tmp_path / "checkpoint"
    expected = distill(tiny_clouds, reference, Pull(), how)
    with pytest.raises(Interrupted, match=f"stopped after step {within} of 12"):
        distill(tiny_clouds, stored(), Pull(before=interrupt), how, checkpoint=path)
    done = distill(tiny_clouds, storage, Pull(), how, checkpoint=path, resume=True)
    assert_same(done, storage, expected, reference)


def test_ctrl_c_in_the_middle_of_an_update_waits_for_its_end(
    tiny_clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, storage, path = stored(), stored(), tmp_path / "checkpoint"
    expected = distill(tiny_clouds, reference, Pull(), settings())
    adam, handler = module._Run._adam, signal.getsignal(signal.SIGINT)

    def interrupted(run: Any, *given: Any) -> None:
        if run.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # time for the signal to be noticed
                pass
        adam(run, *given)

    with monkeypatch.context() as patch:
        patch.setattr(module._Run, "_adam", interrupted)
        with pytest.raises(Interrupted, match="stopped after step 5 of 12"):
            distill(tiny_clouds, stored(), Pull(), settings(), checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is handler
    assert_same(
        distill(tiny_clouds, storage, Pull(), settings(), checkpoint=path, resume=True), storage, expected, reference
    )


def test_runs_in_another_thread(tiny_clouds: PointClouds) -> None:
    lengths: list[int] = []
    thread = threading.Thread(
        target=lambda: lengths.append(len(distill(tiny_clouds, stored(), Pull(), settings()).losses))
    )
    thread.start()
    thread.join()
    assert lengths == [12]


def test_interrupted_without_checkpoint(tiny_clouds: PointClouds) -> None:
    with pytest.raises(Interrupted, match=r"^stopped after step 2 of 12$"):
        distill(tiny_clouds, stored(), Pull(), settings(), followers=stop_after(2))


def test_seconds_add_up_over_the_parts(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        distill(
            tiny_clouds,
            stored(),
            Pull(before=lambda step: time.sleep(0.02)),
            settings(),
            checkpoint=path,
            followers=stop_after(10),
        )
    done = distill(tiny_clouds, stored(), Pull(), settings(), checkpoint=path, resume=True)
    assert done.seconds > 0.2


def test_state_is_saved_now_and_then(tiny_clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash loses what came after the last of these."""
    minutes = iter(range(0, 10_000, 61))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(minutes)))
    reference, storage, path = stored(), stored(), tmp_path / "checkpoint"
    expected = distill(tiny_clouds, reference, Pull(), settings())
    with pytest.raises(RuntimeError):
        distill(tiny_clouds, stored(), Pull(), settings(), checkpoint=path, followers=stop_after(8, RuntimeError))
    assert 4 <= len(load_file(path)["losses"]) < 8
    resumed = distill(tiny_clouds, storage, Pull(), settings(), checkpoint=path, resume=True)
    assert_same(resumed, storage, expected, reference)


def test_nothing_to_resume_is_a_fresh_start(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    reference, storage = stored(), stored()
    expected = distill(tiny_clouds, reference, Pull(), settings())
    done = distill(tiny_clouds, storage, Pull(), settings(), checkpoint=tmp_path / "none", resume=True)
    assert_same(done, storage, expected, reference)


def test_without_resume_an_old_checkpoint_is_not_looked_at(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_text("something else")
    storage, reference = stored(), stored()
    expected = distill(tiny_clouds, reference, Pull(), settings())
    assert_same(distill(tiny_clouds, storage, Pull(), settings(), checkpoint=path), storage, expected, reference)


@pytest.fixture
def checkpoint(tiny_clouds: PointClouds, tmp_path: Path) -> Path:
    """Of a run stopped after step 3."""
    path = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        distill(tiny_clouds, stored(), Pull(), settings(), checkpoint=path, followers=stop_after(3))
    return path


@pytest.mark.parametrize(
    "other",
    [{"how": settings(lr=0.03)}, {"how": settings(steps=13)}, {"how": settings(seed=1)}, {"how": settings(batch=4)},
     {"objective": Pull(2.0)}, {"storage": stored(bits=16)}, {"storage": stored(per_class=2)}, {"turned": True}],
    ids=["lr", "steps", "seed", "batch", "objective", "bits", "clouds", "data"],
)  # fmt: skip
def test_checkpoint_of_another_run_is_refused(
    other: dict[str, Any], tiny_clouds: PointClouds, checkpoint: Path
) -> None:
    real = tiny_clouds.with_points(-tiny_clouds.points) if "turned" in other else tiny_clouds
    storage = other.get("storage", stored())
    before = storage.points.detach().clone()
    with pytest.raises(
        InputError, match="checkpoint: checkpoint of a run with other data or settings, expected one of the"
    ):
        distill(
            real,
            storage,
            other.get("objective", Pull()),
            other.get("how", settings()),
            checkpoint=checkpoint,
            resume=True,
        )
    assert torch.equal(storage.points, before)
    assert len(load_file(checkpoint)["losses"]) == 3  # it is still there for the run that it belongs to


def test_checkpoint_of_another_first_guess_is_refused(tiny_clouds: PointClouds, checkpoint: Path) -> None:
    storage = stored()
    with torch.no_grad():
        storage.learned()["points"].mul_(0.9)
    with pytest.raises(InputError, match="checkpoint of a run with other data or settings"):
        distill(tiny_clouds, storage, Pull(), settings(), checkpoint=checkpoint, resume=True)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_damaged_checkpoint_is_one_line(damage: str, tiny_clouds: PointClouds, checkpoint: Path) -> None:
    content = {"truncated": checkpoint.read_bytes()[:-40], "empty": b"", "text": b"not\na\ncheckpoint" * 99}[damage]
    checkpoint.write_bytes(content)
    objective = Pull()
    with pytest.raises(InputError, match="checkpoint: not a readable checkpoint") as caught:
        distill(tiny_clouds, stored(), objective, settings(), checkpoint=checkpoint, resume=True)
    assert "\n" not in str(caught.value)
    assert objective.prepared == 0


def resumes(clouds: PointClouds, checkpoint: Path, found: str) -> None:
    """Resuming fails in one line that says `found`."""
    with pytest.raises(InputError, match=rf"checkpoint: not a readable checkpoint \(.*{found}"):
        distill(clouds, stored(), Pull(), settings(), checkpoint=checkpoint, resume=True)


def test_a_bit_of_a_checkpoint_counts(tiny_clouds: PointClouds, checkpoint: Path) -> None:
    content = checkpoint.read_bytes()
    for at in range(0, len(content), 97):
        checkpoint.write_bytes(content[:at] + bytes([content[at] ^ 2]) + content[at + 1 :])
        resumes(tiny_clouds, checkpoint, "")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensors, facts: facts.update(step="4"), "3 losses of 4 steps"),
        (lambda tensors, facts: facts.update(step="x"), "invalid literal"),
        (lambda tensors, facts: facts.update(stap=facts.pop("step")), "facts"),
        (lambda tensors, facts: tensors.pop("learned/points"), "learned/points"),
        (lambda tensors, facts: tensors.update({"learned/points": torch.zeros(2, 3)}), "learned/points of shape"),
        (lambda tensors, facts: tensors.update({"moments/points": tensors["moments/points"].half()}), "float16"),
        (lambda tensors, facts: tensors.update({"snapshots/x": torch.zeros(2)}), "invalid literal"),
        (lambda tensors, facts: tensors.update(losses=torch.tensor(1.0)), "losses"),
    ],
)
def test_a_checkpoint_that_no_run_writes_is_one_line(
    change: Callable[[dict[str, Tensor], dict[str, str]], None], found: str, tiny_clouds: PointClouds, checkpoint: Path
) -> None:
    """Its digest is right, or, as in release 0.1, there is none."""
    tensors, facts = unsealed(checkpoint.read_bytes(), checkpoint, "one")
    facts.pop("sha256")
    change(tensors, facts)
    for content in (sealed(tensors, facts), save(tensors, facts)):
        checkpoint.write_bytes(content)
        resumes(tiny_clouds, checkpoint, found)


def test_unwritable_checkpoint_is_found_before_the_work(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for path in (tmp_path, tmp_path / "file" / "checkpoint"):
        objective = Pull()
        with pytest.raises(OSError, match=r"directory|exists"):
            distill(tiny_clouds, stored(), objective, settings(), checkpoint=path)
        assert objective.prepared == 0


# What is not finite


class Breaks(Pull):
    """From step 5 on the loss, or only its gradient, is not finite."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        found = super().loss(decoded, step)
        if step < 5:
            return found
        if self.what == "loss":
            return found * math.inf
        return found + (decoded.points - decoded.points.detach()).square().sum().sqrt()  # slope 0 / 0 at zero


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_not_finite_stops_with_the_last_good_state(what: str, tiny_clouds: PointClouds, tmp_path: Path) -> None:
    good: list[Tensor] = []
    storage, path = stored(), tmp_path / "checkpoint"
    with pytest.raises(InputError, match=rf"^distilling, step 6: .*{what}.*, expected a finite one"):
        distill(tiny_clouds, storage, Breaks(what), settings(), checkpoint=path,
                followers=[Following(lambda step, loss: good.append(storage.points.detach().clone()))])  # fmt: skip
    assert len(good) == 5
    assert torch.equal(storage.points, good[-1])
    assert torch.equal(load_file(path)["learned/points"], good[-1])
    assert len(load_file(path)["losses"]) == 5


# Snapshots


@pytest.mark.parametrize("count", [0, 1, 3, 11])
def test_snapshots_are_evenly_spread_from_start_to_end(count: int, tiny_clouds: PointClouds) -> None:
    storage = stored()
    history = [storage.decode().points.detach().clone()]
    keep = Following(lambda step, loss: history.append(storage.decode().points.detach().clone()))
    done = distill(tiny_clouds, storage, Pull(), settings(snapshots=count), followers=[keep])
    expected = [history[12 * k // (count + 1)] for k in range(count + 2)] if count else []
    assert len(done.snapshots) == len(expected)
    assert all(torch.equal(one, two) for one, two in zip(done.snapshots, expected, strict=True))
    assert not any(snapshot.requires_grad for snapshot in done.snapshots)


def test_as_many_snapshots_as_anybody_asks_for_are_those_of_all_steps(tiny_clouds: PointClouds) -> None:
    found = [
        distill(tiny_clouds, stored(), Pull(), settings(steps=5, snapshots=count)).snapshots
        for count in (11, 40, 10**9)
    ]
    assert [len(snapshots) for snapshots in found] == [6, 6, 6]


def test_snapshots_keep_the_order_of_points(tiny_clouds: PointClouds) -> None:
    """A coded cloud is a set, which a reader gets sorted; on the way its points are followed one by one."""
    storage = CodedPoints.from_clouds(tiny_clouds, Budget(8, 64, 12))
    start = storage.learned()["points"].detach().clone()
    done = distill(tiny_clouds, storage, Pull(), settings(snapshots=1, lr=0.001, steps=4))
    for snapshot in done.snapshots:
        assert (snapshot - start).abs().max() < 0.01
    with torch.no_grad():
        stored = storage.decode().points
    assert not torch.equal(done.snapshots[-1], stored)
    torch.testing.assert_close(done.snapshots[-1].sum(1), stored.sum(1), atol=1e-4, rtol=0)  # the same set

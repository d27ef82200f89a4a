"""Trajectory matching: the student by torch's own SGD, its gradient by the plain graph, and TESLA's by its formula."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import DistillSettings, Follower, Interrupted, distill
from pcdistill.core.errors import InputError
from pcdistill.matching import tm
from pcdistill.matching.base import with_gradients
from pcdistill.matching.draws import step_generator
from pcdistill.matching.experts import ExpertConfig, expert_steps
from pcdistill.matching.gradients import Weights, parameters
from pcdistill.matching.surrogates import untrained_network
from pcdistill.matching.tm import Batch, Segment, TrajectoryMatching
from pcdistill.models import Network, seeded
from pcdistill.models.pointnet import PointNet
from pcdistill.storage.points import StoredPoints
from pcdistill.training.augment import Augmentation, apply

CLASSES = ("ball", "box", "ring")
CHANGED = Augmentation(stretch=1.3, tilt=8, jitter=0.01)


def made(real: PointClouds, bank: dict[str, Any] | None = None, **options: Any) -> TrajectoryMatching:
    experts = {
        "networks": 2, "network": "pointnet-small-layernorm", "points": 16, "steps": 8, "interval": 2, "batch": 12,
        "lr": 0.05,
    }  # fmt: skip
    small = {"start": (0, 2), "length": 1, "student_steps": 3}
    objective = TrajectoryMatching(ExpertConfig(**{**experts, **(bank or {})}), **{**small, **options})  # type: ignore[arg-type]
    objective.prepare(real)
    return objective


def guess() -> PointClouds:
    cubes = torch.rand(6, 20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return PointClouds(cubes, torch.arange(3).repeat_interleave(2), CLASSES)


class Problem:
    """A segment of a tiny network in float64, and inputs that require gradients."""

    def __init__(self, norm: Any, steps: int, clouds: int = 6) -> None:
        random = torch.Generator().manual_seed(0)
        with seeded(0):
            network: Network = PointNet(3, widths=(8, 16), head=(8,), tnet=False, norm=norm, dropout=0.0)
        self.network = network.double().eval().requires_grad_(False)
        start = {name: value + 0.1 * torch.randn(value.shape, generator=random, dtype=value.dtype)
                 for name, value in parameters(self.network).items()}  # fmt: skip
        target = {name: value + 0.1 * torch.randn(value.shape, generator=random, dtype=value.dtype)
                  for name, value in start.items()}  # fmt: skip
        self.segment = Segment(self.network, start, target)
        self.batches = [
            Batch(places, CHANGED.draw(4, 10, random))
            for places in (torch.randperm(clouds, generator=random)[:4].sort().values for _ in range(steps))
        ]
        points = torch.rand(clouds, 10, 3, generator=random, dtype=torch.float64) - 0.5
        targets = torch.rand(clouds, 3, generator=random, dtype=torch.float64).softmax(1)
        self.inputs = [points.requires_grad_(), targets.requires_grad_(),
                       torch.tensor([[-1.0]], dtype=torch.float64, requires_grad=True)]  # fmt: skip

    def slope(self, state: Weights, batch: Batch) -> Weights:
        """Gradient of the mean cross-entropy of whole clouds, with a graph."""
        points = apply(self.inputs[0][batch.places], batch.draw)
        logits = functional_call(self.network, state, (points,)).logits
        loss = nn.functional.cross_entropy(logits, self.inputs[1][batch.places])
        return dict(zip(state, torch.autograd.grad(loss, list(state.values()), create_graph=True), strict=True))

    def expected(self, cut: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients by one graph; with `cut` (TESLA) a step sees the weights before it as constants.

        TESLA (Cui et al., 2023, eqs. 6 to 9): w_N = w_0 - a sum_i g_i with g_i = g(S_i; w_i), w_i constant.
        """
        state = {name: value.clone().requires_grad_() for name, value in self.segment.start.items()}
        end = dict(state)
        for batch in self.batches:
            slope = self.slope(state, batch)
            end = {name: value - self.inputs[2].exp()[0, 0] * slope[name] for name, value in end.items()}
            state = {name: value.detach().requires_grad_() for name, value in end.items()} if cut else end
        start, target = self.segment.start, self.segment.target
        off = torch.stack([(end[name] - target[name]).square().sum() for name in target])
        far = torch.stack([(start[name] - target[name]).square().sum() for name in target])
        loss = off.sum() / far.sum()
        return loss.detach(), torch.autograd.grad(loss, self.inputs)


@pytest.mark.parametrize("norm", ["layer", "batch", "instance", "none"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("method", ["adjoint", "tesla", "unroll"])
def test_gradient_is_that_of_the_plain_graph(norm: str, steps: int, method: str) -> None:
    problem = Problem(norm, steps)
    walk = tm._unrolled if method == "unroll" else tm._backwards
    value, found = walk(problem.segment, problem.batches, problem.inputs, method == "adjoint")
    expected_value, expected = problem.expected(cut=method == "tesla")
    torch.testing.assert_close(value, expected_value, rtol=1e-10, atol=0)
    assert all(part.any() for part in expected)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-10 * float(two.abs().max()))
    if method == "tesla" and steps > 1:  # it is another gradient
        exact = problem.expected(cut=False)[1]
        assert not any(torch.allclose(one, two, rtol=1e-3) for one, two in zip(found, exact, strict=True))


def test_gradients_are_finite_differences_of_the_loss() -> None:
    problem = Problem("layer", 3)

    def loss(*inputs: Tensor) -> Tensor:
        value, found = tm._backwards(problem.segment, problem.batches, list(inputs), True)
        return with_gradients(value, list(zip(inputs, found, strict=True)))

    assert torch.autograd.gradcheck(loss, problem.inputs, fast_mode=True)


def test_memory_does_not_grow_with_the_steps() -> None:
    """Bytes held at a time for a backward pass; a tensor that several nodes keep counts once."""

    def held(walk: Any, steps: int) -> int:
        problem = Problem("layer", steps)
        alive: dict[int, list[int]] = {}  # by address: how often kept, bytes
        peak = 0

        class Kept:
            def __init__(self, value: Tensor) -> None:
                nonlocal peak
                self.value = value
                entry = alive.setdefault(value.untyped_storage().data_ptr(), [0, value.untyped_storage().nbytes()])
                entry[0] += 1
                peak = max(peak, sum(size for _, size in alive.values()))

            def __del__(self) -> None:
                entry = alive[self.value.untyped_storage().data_ptr()]
                entry[0] -= 1
                if not entry[0]:
                    del alive[self.value.untyped_storage().data_ptr()]

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.value):
            walk(problem.segment, problem.batches, problem.inputs, True)
        return peak

    assert held(tm._backwards, 8) < 1.2 * held(tm._backwards, 2)
    assert held(tm._unrolled, 8) > 3 * held(tm._unrolled, 2)


# The loss of an objective


def segment_of(objective: TrajectoryMatching, clouds: PointClouds, step: int) -> tuple[Segment, list[Batch]]:
    """What `loss` draws."""
    generator = step_generator("objective", objective.seed, step)
    segment = objective._segment(clouds, step, generator)
    return segment, objective._batches(clouds, objective.options.student_steps, generator)


def end_of(objective: TrajectoryMatching, segment: Segment, batches: list[Batch], clouds: PointClouds) -> Weights:
    """The student's last weights by torch's own SGD on whole clouds."""
    student = untrained_network(objective.real, "pointnet-small-layernorm", 16, 0, 0).requires_grad_()
    student.load_state_dict(segment.start, strict=False)
    optimizer = torch.optim.SGD(student.parameters(), lr=objective.log_step_size.exp().item())
    for batch in batches:
        optimizer.zero_grad()
        points = apply(clouds.points[batch.places], batch.draw)
        nn.functional.cross_entropy(student(points).logits, clouds.labels[batch.places]).backward()
        optimizer.step()
    return parameters(student)


@pytest.mark.parametrize("gradient", ["adjoint", "tesla", "unroll"])
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_loss_is_that_of_a_student_by_sgd(gradient: str, kind: str, tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, gradient=gradient, student_batch=3, augmentation=CHANGED, step_size=0.2)
    clouds = guess()
    if kind == "soft":
        clouds = PointClouds(clouds.points, torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1),
                             CLASSES)  # fmt: skip
    for step in range(3):
        segment, batches = segment_of(objective, clouds, step)
        end = end_of(objective, segment, batches, clouds)
        gap, way = (sum(float((start[name] - value).square().sum()) for name, value in segment.target.items())
                    for start in (end, segment.start))  # fmt: skip
        assert objective.loss(clouds, step).item() == pytest.approx(gap / way, rel=1e-3)


def test_no_loss_where_the_student_ends(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = made(tiny_clouds)
    segment, batches = segment_of(objective, guess(), 0)
    reached = segment._replace(target=end_of(objective, segment, batches, guess()))
    before = objective.loss(guess(), 0)
    monkeypatch.setattr(objective, "_segment", lambda decoded, step, generator: (segments(generator), reached)[1])
    segments = lambda generator: TrajectoryMatching._segment(objective, guess(), 0, generator)  # noqa: E731  # its draws
    assert objective.loss(guess(), 0) < 1e-8 * before


def test_expert_that_does_not_move_is_one_line(tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, {"lr": 1e-30})
    with pytest.raises(InputError, match=r"^trajectory matching: an expert that does not move, .*start=.*raise bank"):
        objective.loss(guess(), 0)


# Where segments start


def starts(objective: TrajectoryMatching, step: int, tries: int = 60) -> set[int]:
    """States of the experts that segments of a step can start at; each is of one expert and as long as it should."""
    found = set()
    for seed in range(tries):
        segment = objective._segment(guess(), step, step_generator("try", seed, 0))
        name = "head.2.weight"
        (place,) = [(k, state) for k, expert in enumerate(objective.experts) for state in range(5)
                    if torch.equal(expert.at(state)[name], segment.start[name])]  # fmt: skip
        length = objective.options.length
        assert torch.equal(segment.target[name], objective.experts[place[0]].at(place[1] + length)[name])
        found.add(place[1])
    return found


@pytest.mark.parametrize(("start", "length"), [((0, 3), 1), ((1, 2), 2), ((0, 0), 4)])
def test_segments_start_within_the_window(start: tuple[int, int], length: int, tiny_clouds: PointClouds) -> None:
    assert starts(made(tiny_clouds, start=start, length=length), 0) == set(range(start[0], start[1] + 1))


def test_window_grows(tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, start=(1, 3), grow=10)
    assert [max(starts(objective, step)) for step in (0, 5, 10, 99)] == [1, 2, 3, 3]
    assert min(starts(objective, 99)) == 1


@pytest.mark.parametrize("options", [{"start": (0, 4)}, {"start": (3, 2)}, {"start": (-1, 2)}, {"length": 5}])
def test_window_beyond_the_experts_is_one_line(options: dict[str, Any], tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"^objective tm: start = .*, expected within 0 to -?\d") as caught:
        made(tiny_clouds, **options)
    assert len(str(caught.value)) < 200


def test_on_policy_segments_start_at_a_student(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was trained on the present synthetic set; the expert goes on from there on real clouds."""
    calls: list[tuple[Any, ...]] = []
    usual = expert_steps
    monkeypatch.setattr(tm, "expert_steps", lambda *given: (calls.append(given), usual(*given))[1])
    objective = made(tiny_clouds, on_policy=1.0, visits=2, student_batch=3, length=2, start=(1, 2))
    lengths = set()
    for step in range(8):
        generator = step_generator("objective", 0, step)
        segment = objective._segment(guess(), step, generator)
        network, start, real, _, steps, _ = calls[-1]
        assert (network is segment.network, start is segment.start, real is tiny_clouds) == (True, True, True)
        assert steps == 2 * 2
        generator = step_generator("objective", 0, step)
        expert = objective.experts[int(torch.randint(2, (), generator=generator))]
        torch.randint(1, 3, (), generator=generator), torch.rand((), generator=generator)
        visits = int(torch.randint(1, 3, (), generator=generator))
        batches = objective._batches(guess(), visits, generator)
        end = end_of(objective, Segment(network, expert.at(1), {}), batches, guess())
        for name, value in end.items():
            torch.testing.assert_close(segment.start[name], value, rtol=1e-3, atol=1e-5)
        lengths.add(visits)
    assert lengths == {1, 2}
    assert len(calls) == 8


def test_on_policy_is_a_share(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    students: list[int] = []
    monkeypatch.setattr(tm, "expert_steps", lambda network, start, *_: (students.append(1), start)[1])
    objective = made(tiny_clouds, on_policy=0.3, visits=1)
    for step in range(100):
        objective._segment(guess(), step, step_generator("objective", 0, step))
    assert 15 < len(students) < 45


def test_student_batches_take_every_class(tiny_clouds: PointClouds) -> None:
    def places(batch: int | None) -> list[list[int]]:
        objective = made(tiny_clouds, student_batch=batch)
        return [part.places.tolist() for part in objective._batches(guess(), 20, step_generator("try", 0, 0))]

    assert places(None) == places(6) == [[0, 1, 2, 3, 4, 5]] * 20
    for batch in (1, 3, 5):
        assert all([place // 2 for place in part] == [0, 1, 2] for part in places(batch))
    assert {place for part in places(3) for place in part} == set(range(6))


# The step size


def test_step_size_starts_as_the_experts_comes_to(tiny_clouds: PointClouds) -> None:
    for bank, size in (({}, 0.05), ({"momentum": 0.5}, 0.1)):
        assert made(tiny_clouds, bank).log_step_size.exp().item() == pytest.approx(size)  # type: ignore[arg-type]
    assert made(tiny_clouds, step_size=0.3).log_step_size.exp().item() == pytest.approx(0.3)
    fixed = made(tiny_clouds, learn_step_size=False)
    assert fixed.learned() == {}
    assert not fixed.log_step_size.requires_grad


def run(real: PointClouds, steps: int = 6, lr: float = 0.02, **more: Any) -> tuple[list[float], Tensor, Tensor]:
    options = more.pop("options", {})
    storage, objective = StoredPoints(guess().points.clone(), guess().hard_labels, 32, CLASSES), made(real, **options)
    settings = DistillSettings(steps=steps, lr=lr, batch=3)
    losses = distill(real, storage, objective, settings, **more).losses
    return losses, storage.points.detach(), objective.log_step_size.detach()


def test_step_size_is_learned_and_stays_positive(tiny_clouds: PointClouds) -> None:
    _, _, risen = run(tiny_clouds, 20, options={"step_size": 1e-3})
    assert risen.exp().item() > 1.2e-3  # a student that hardly moves wants to move more
    _, _, fallen = run(tiny_clouds, 4, 10.0, options={"step_size": 0.5})
    assert fallen.exp().item() > 0
    _, _, fixed = run(tiny_clouds, 3, options={"step_size": 0.5, "learn_step_size": False})
    assert fixed.exp().item() == pytest.approx(0.5)


@pytest.mark.parametrize("on_policy", [0.0, 0.5])
def test_resumed_is_uninterrupted(
    on_policy: float, tiny_clouds: PointClouds, stop_after: Callable[[int], Follower], tmp_path: Path
) -> None:
    how = {"options": {"on_policy": on_policy, "visits": 2}}
    losses, points, size = run(tiny_clouds, **how)
    with pytest.raises(Interrupted):
        run(tiny_clouds, checkpoint=tmp_path / "run", followers=[stop_after(3)], **how)
    found = run(tiny_clouds, checkpoint=tmp_path / "run", resume=True, **how)
    assert found[0] == losses
    assert torch.equal(found[1], points)
    assert torch.equal(found[2], size)
    assert size.item() != made(tiny_clouds).log_step_size.item()

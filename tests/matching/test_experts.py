"""Experts against `torch.optim.SGD`, and what of them is kept."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.matching import experts
from pcdistill.matching.draws import step_generator
from pcdistill.matching.experts import ExpertConfig, estimate, expert_network, expert_steps, record_experts
from pcdistill.matching.gradients import parameters
from pcdistill.training.augment import Augmentation, apply


def config(**changes: Any) -> ExpertConfig:
    small: dict[str, Any] = {
        "networks": 2, "network": "pointnet-small-layernorm", "points": 16, "steps": 4, "interval": 2, "batch": 10,
        "lr": 0.1,
    }  # fmt: skip
    return ExpertConfig(**{**small, **changes})


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the experts that are trained, as it happens."""
    numbers: list[int] = []
    record = experts._record
    monkeypatch.setattr(experts, "_record", lambda real, how, k: (numbers.append(k), record(real, how, k))[1])
    return numbers


def by_torch(real: PointClouds, how: ExpertConfig, k: int) -> list[list[Tensor]]:
    """Weights of expert k before and after every step, trained by the module's own ways on all its points."""
    network = expert_network(real, how, k)
    weights = [value.requires_grad_() for value in network.parameters()]
    optimizer = torch.optim.SGD(weights, lr=how.lr, momentum=how.momentum)
    generator = step_generator("expert", how.seed, k)
    found, order = [[value.detach().clone() for value in weights]], torch.empty(0, dtype=torch.int64)
    for _ in range(how.steps):
        while len(order) < how.batch:
            order = torch.cat([order, torch.randperm(len(real), generator=generator)])
        index, order = order[: how.batch].sort().values, order[how.batch :]
        points = real.points[index, : how.points]
        points = apply(points, how.augmentation.draw(len(index), points.shape[1], generator))

        def backward(network: nn.Module, points: Tensor = points, labels: Tensor = real.labels[index]) -> list[Any]:
            network.zero_grad()
            nn.functional.cross_entropy(network(points).logits, labels).backward()
            return [value.grad for value in network.parameters()]

        slope = backward(network)
        if how.sam:
            length = sum(float(part.square().sum()) for part in slope) ** 0.5
            risen = copy.deepcopy(network)
            with torch.no_grad():
                for value, part in zip(risen.parameters(), slope, strict=True):
                    value += how.sam * part / length
            for value, part in zip(weights, backward(risen), strict=True):
                value.grad = part
        optimizer.step()
        found.append([value.detach().clone() for value in weights])
    return found


@pytest.mark.parametrize(
    "changes",
    [{}, {"momentum": 0.9}, {"sam": 0.5}, {"sam": 0.1, "momentum": 0.5}, {"network": "pointnet-small", "lr": 0.005},
     {"network": "pointnet-small,pointnet-small-instancenorm", "lr": 0.02}, {"augmentation": Augmentation()}],
    ids=["plain", "momentum", "sam", "both", "batch-norm", "two", "bare"],
)  # fmt: skip
def test_states_are_those_of_torch(changes: dict[str, Any], tiny_clouds: PointClouds, own_cache: Path) -> None:
    how = config(**changes)
    found, _ = record_experts(tiny_clouds, how)
    for k, expert in enumerate(found):
        expected = by_torch(tiny_clouds, how, k)
        assert how.states == 3
        for state in range(3):
            for (name, value), other in zip(expert.at(state).items(), expected[2 * state], strict=True):
                torch.testing.assert_close(value, other, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: name + text)
        fresh = expert_network(tiny_clouds, how, k)
        assert all(torch.equal(value, dict(expert.network.named_buffers())[name])
                   for name, value in fresh.named_buffers())  # fmt: skip
        assert not expert.network.training
    assert not torch.equal(found[0].states["head.2.weight"], found[1].states["head.2.weight"])


def test_half_precision_is_what_is_kept(tiny_clouds: PointClouds, own_cache: Path) -> None:
    (full, *_), (half, *_) = (record_experts(tiny_clouds, config(bits=bits))[0] for bits in (32, 16))
    for name, value in full.states.items():
        assert half.states[name].dtype == torch.float16
        assert torch.equal(half.states[name], value.half())
        assert half.at(1)[name].dtype == torch.float32
    sizes = sorted(path.stat().st_size for path in own_cache.rglob("*.safetensors"))
    assert sizes[0] < 0.6 * sizes[-1]


def test_only_missing_experts_are_trained(tiny_clouds: PointClouds, own_cache: Path, trained: list[int]) -> None:
    first, seconds = record_experts(tiny_clouds, config(networks=1))
    assert trained == [0]
    found, more = record_experts(tiny_clouds, config(networks=3))
    assert trained == [0, 1, 2]
    assert more > seconds
    assert all(torch.equal(value, first[0].states[name]) for name, value in found[0].states.items())
    next(path for path in own_cache.rglob("*.safetensors")).unlink()
    again, _ = record_experts(tiny_clouds, config(networks=3))
    assert len(trained) == 4
    for one, two in zip(found, again, strict=True):
        assert all(torch.equal(value, two.states[name]) for name, value in one.states.items())
    record_experts(tiny_clouds, config(networks=1, seed=1))
    record_experts(tiny_clouds.with_points(-tiny_clouds.points), config(networks=1))
    assert len(trained) == 6


def test_interrupted_recording_keeps_what_is_done(
    tiny_clouds: PointClouds, own_cache: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = expert_steps

    def stopped(*given: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        return steps(*given)

    with monkeypatch.context() as patch:
        patch.setattr(experts, "expert_steps", stopped)
        with pytest.raises(KeyboardInterrupt):
            record_experts(tiny_clouds, config())
    record_experts(tiny_clouds, config())
    assert trained == [0, 1, 1]


def test_estimate_counts_what_is_missing(tiny_clouds: PointClouds, own_cache: Path, trained: list[int]) -> None:
    guess = estimate(tiny_clouds, config())
    assert (guess.missing, trained) == (2, [])
    assert guess.seconds > 0
    record_experts(tiny_clouds, config(networks=1))
    assert estimate(tiny_clouds, config()).missing == 1
    (path,) = own_cache.rglob("*.safetensors")
    assert estimate(tiny_clouds, config()).megabytes == pytest.approx(path.stat().st_size / 1e6, rel=0.01)
    record_experts(tiny_clouds, config())
    assert estimate(tiny_clouds, config()) == (0, 0, 0)


@pytest.mark.parametrize("bits", [16, 32])
def test_divergence_is_one_line(bits: int, tiny_clouds: PointClouds, own_cache: Path) -> None:
    with pytest.raises(
        InputError, match=r"^expert, step \d: weights that are not finite, .*lower bank\.lr, now .*=2e\+29\)$"
    ) as caught:
        record_experts(tiny_clouds, config(lr=1e30, bits=bits))
    assert "\n" not in str(caught.value)
    assert not list(own_cache.rglob("*.safetensors"))


@pytest.mark.parametrize(("changes", "message"), [({"bits": 8}, "16 or 32"), ({"steps": 1}, "at least one interval")])
def test_impossible_experts_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        config(**changes)


def test_steps_leave_their_start_and_the_network_alone(tiny_clouds: PointClouds) -> None:
    network = expert_network(tiny_clouds, config(), 0)
    start = parameters(network)
    before = {name: value.clone() for name, value in start.items()}
    seen: list[int] = []
    end = expert_steps(network, start, tiny_clouds, config(), 3, step_generator("expert", 0, 0),
                       lambda step, state: seen.append(step))  # fmt: skip
    assert seen == [1, 2, 3]
    assert all(torch.equal(value, before[name]) for name, value in start.items())
    assert all(torch.equal(value, before[name]) for name, value in parameters(network).items())
    assert not any(torch.equal(value, end[name]) for name, value in before.items())

"""A small bank configuration and the float64 twin of a prepared objective."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from pcdistill.condense.loop import Follower
from pcdistill.matching import Bank, BankConfig, Objective, dc
from pcdistill.matching.experts import Expert
from pcdistill.matching.gathering import Member
from pcdistill.matching.gradients import Weights
from pcdistill.matching.surrogates import untrained_network

Configure = Callable[..., BankConfig]


@pytest.fixture
def configure() -> Configure:
    """Makes configurations that look at all of `tiny_clouds` (3 classes × 8 clouds × 64 points)."""

    def make(**changes: Any) -> BankConfig:
        small: dict[str, Any] = {
            "networks": 2, "network": "pointnet-small", "points": 64, "pooled_points": 64, "quantiles": 8,
            "trained_steps": (0, 0), "trained_clouds": 8, "pooled_samples": 8, "seed": 0,
        }  # fmt: skip
        return BankConfig(**{**small, **changes})

    return make


class StopAfter(Follower):
    """As by Ctrl-C after a step."""

    def __init__(self, last: int) -> None:
        self.last = last

    def step(self, step: int, loss: float) -> None:
        if step == self.last:
            raise KeyboardInterrupt


@pytest.fixture
def stop_after() -> type[StopAfter]:
    return StopAfter


class DoubleExpert(Expert):
    """Whose states are not cast to float32."""

    def at(self, state: int) -> Weights:
        return {name: value[state].double() for name, value in self.states.items()}


@pytest.fixture
def as_double(monkeypatch: pytest.MonkeyPatch) -> Callable[[Objective], Objective]:
    """Turns all that a prepared objective computes with into float64, in place."""

    def doubled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: doubled(part) for key, part in value.items()}
        return [doubled(part) for part in value] if isinstance(value, list) else value.double()

    def cast(objective: Any) -> Objective:
        if hasattr(objective, "bank"):
            members = [Member(*(doubled(value) for value in member)) for member in objective.bank.members]
            objective.bank = Bank(members, objective.bank.seconds)
        if objective.name == "gm":
            objective.real = doubled(objective.real)
        if objective.name == "tm":
            objective.experts = [DoubleExpert(expert.network.double(), expert.states) for expert in objective.experts]
            objective.log_step_size = objective.log_step_size.detach().double().requires_grad_()
        if objective.name in ("dc", "dsa"):  # whose networks come and go
            monkeypatch.setattr(dc, "untrained_network", lambda *given: untrained_network(*given).double())
        return objective

    return cast


class Decoded:
    """Stands in for `PointClouds`, which are float32 always, where a gradient is checked in float64."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points, self.labels = points, labels
        self.hard_labels = labels if labels.ndim == 1 else labels.argmax(1)


@pytest.fixture
def decoded() -> type[Decoded]:
    return Decoded

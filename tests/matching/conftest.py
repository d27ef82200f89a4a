"""A small bank configuration and the float64 twin of a prepared objective."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from pcdistill.matching import Bank, BankConfig, Objective
from pcdistill.matching.bank import Member

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


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; returns the folder of banks, which need not exist yet."""
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path))
    return tmp_path / "banks"


@pytest.fixture
def as_double() -> Callable[[Objective], Objective]:
    """Turns the bank of a prepared objective into float64, in place."""

    def cast(objective: Any) -> Objective:
        def doubled(value: Any) -> Any:
            return [part.double() for part in value] if isinstance(value, list) else value.double()

        members = [Member(*(doubled(value) for value in member)) for member in objective.bank.members]
        objective.bank = Bank(members, objective.bank.seconds)
        return objective

    return cast


class Decoded:
    """Stands in for `PointClouds`, which are float32 always, where a gradient is checked in float64."""

    def __init__(self, points: Tensor, labels: Tensor) -> None:
        self.points, self.labels, self.hard_labels = points, labels, labels


@pytest.fixture
def decoded() -> type[Decoded]:
    return Decoded

"""What an objective is: a number that says how good decoded clouds are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.errors import InputError
from pcdistill.matching.bank import Bank, BankConfig, Member
from pcdistill.registry import Registry, nearest


class ObjectiveOptions(BaseModel):
    """Base of the settings of objectives: frozen, unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Objective(ABC):
    """A matching objective: `prepare` once on the real set, then `loss` of synthetic clouds, step by step.

    A subclass is one file and one `objectives.register(name)`; its settings are the fields of its `Options`. What it
    draws at a step follows from its seed and the step alone; whatever else it carries from step to step is in
    `state` and `learned`, so that a resumed run repeats an uninterrupted one.

    Args:
        bank: the option of that name, of those that have one.
        seed: of everything that it draws.
        options: fields of `Options`, those of nested models as mappings that change their defaults.

    Raises:
        InputError: an unknown option or a value out of range.
    """

    name: ClassVar[str]
    Options: ClassVar[type[BaseModel]] = ObjectiveOptions
    minibatch: ClassVar[Literal["classes", "clouds"]] = "classes"  # whole classes, or some clouds of every class
    pace: ClassVar[Mapping[str, float]] = {}  # of `learned`: factors of the learning rate of coordinates
    learns_labels: ClassVar[bool] = False  # whether the loss depends on soft labels beyond their class
    steps: ClassVar[int] = 400  # of the outer loop that serve it well
    seconds: float = 0.0  # that `prepare` took when its results were first computed

    def __init__(self, bank: Any = None, *, seed: int = 0, **options: Any) -> None:
        self.seed = seed
        self.options: Any = _checked(self.name, self.Options, options if bank is None else {**options, "bank": bank})

    def describe(self) -> dict[str, Any]:
        """Every setting that changes the loss, as JSON values; part of artefacts and checkpoints."""
        return {**self.options.model_dump(mode="json"), "seed": self.seed}

    @abstractmethod
    def prepare(self, real: CloudSource) -> None:
        """Do all that needs the real data, in a streaming pass; cached where it is costly."""

    def prepared(self, real: CloudSource) -> bool:
        """Whether `prepare` would find in the cache whatever is costly; True where there is nothing of the kind."""
        return True

    @abstractmethod
    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        """Scalar loss of synthetic clouds, all those of every class that occurs; differentiable in the points."""

    def learned(self) -> dict[str, Tensor]:
        """Leaf tensors of its own that fall with the loss, such as a step size; one row per element."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What it carries from one step to the next, besides `learned`."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Go on from a `state`; called after `prepare`."""


def _checked(name: str, kind: type[BaseModel], options: dict[str, Any]) -> BaseModel:
    try:
        return kind(**merged(kind().model_dump(), options))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = _names(kind().model_dump())
            raise InputError(f"objective {name}", f"unknown option {nearest(key, known)}") from None
        wanted = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        found = "values that do not fit together" if first["type"] == "value_error" else repr(first["input"])
        place = f"objective {name}, option {key}" if key else f"objective {name}"
        raise InputError(place, found, wanted) from None


def _names(values: Mapping[str, Any]) -> list[str]:
    """Those of `values` and of mappings among them, the latter with dots."""
    inner = [f"{key}.{name}" for key, value in values.items() if isinstance(value, Mapping) for name in _names(value)]
    return [*values, *inner]


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`; mappings and models change what they name and leave the rest."""
    for key, change in changes.items():
        old = values.get(key)
        change = change.model_dump() if isinstance(change, BaseModel) else change
        values[key] = merged(dict(old), change) if isinstance(old, dict) and isinstance(change, Mapping) else change
    return values


class BankOptions(ObjectiveOptions):
    """Settings that every objective over a bank has."""

    bank: BankConfig = BankConfig()


class BankObjective(Objective):
    """Base of objectives that know the real set through a bank of networks."""

    Options: ClassVar[type[BaseModel]] = BankOptions
    reads_profiles: ClassVar[bool] = False  # of point features; a bank without quantiles is refused
    bank: Bank

    def __init__(self, bank: BankConfig | None = None, *, seed: int = 0, **options: Any) -> None:
        super().__init__(bank, seed=seed, **options)
        if self.reads_profiles and not self.options.bank.quantiles:
            raise InputError(f"objective {self.name}, option bank.quantiles", "0", "at least 1")

    def bank_config(self) -> BankConfig:
        """The bank of the options, with those statistics that only this objective reads."""
        config: BankConfig = self.options.bank
        return config

    def prepare(self, real: CloudSource) -> None:
        self.bank = Bank.of(real, self.bank_config())
        self.seconds = self.bank.seconds

    def prepared(self, real: CloudSource) -> bool:
        return Bank.is_cached(real, self.bank_config())

    def member(self, generator: torch.Generator) -> Member:
        """The network of a step, with what it saw of the real set."""
        return self.bank.members[int(torch.randint(len(self.bank.members), (), generator=generator))]


objectives: Registry[type[Objective]] = Registry("objective", group="pcdistill.objectives")


def with_gradients(value: Tensor, gradients: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """`value` as a scalar whose gradient with respect to each first tensor of a pair is the second."""
    total = value.detach()
    for tensor, gradient in gradients:
        total = total + ((tensor - tensor.detach()) * gradient).sum()  # adds exactly zero
    return total


def class_means(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of `values (B, ...)` over the clouds of each class that occurs: classes `(K,)` and means `(K, ...)`."""
    classes, place = labels.unique(return_inverse=True)
    counts = torch.bincount(place).view(-1, *[1] * (values.ndim - 1))
    sums = values.new_zeros(len(classes), *values.shape[1:]).index_add(0, place, values)
    return classes, sums / counts

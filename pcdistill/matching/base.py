"""What an objective is: a number that says how good decoded clouds are."""

import hashlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.matching.bank import Bank, BankConfig, Member
from pcdistill.registry import Registry


class Objective(ABC):
    """A matching objective: `prepare` once on the real set, then `loss` of synthetic clouds, step by step.

    A subclass is one file and one `objectives.register(name)`. Apart from what `prepare` made it keeps no
    state, and what it draws at a step follows from its seed and the step alone: a resumed run repeats an
    uninterrupted one.
    """

    name: ClassVar[str]
    minibatch: ClassVar[Literal["classes", "clouds"]] = "classes"  # whole classes, or some clouds of every class
    steps: ClassVar[int] = 400  # of the outer loop that serve it well
    seconds: float = 0.0  # that `prepare` took when its results were first computed

    def __init__(self, bank: BankConfig, *, seed: int) -> None:
        self.config = bank
        self.seed = seed

    @classmethod
    def default_bank(cls) -> BankConfig:
        """The bank that serves this objective best."""
        return BankConfig()

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Every setting that changes the loss, as JSON values; part of artefacts and checkpoints."""

    @abstractmethod
    def prepare(self, real: CloudSource) -> None:
        """Do all that needs the real data, in a streaming pass; cached where it is costly."""

    @abstractmethod
    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        """Scalar loss of synthetic clouds, all those of every class that occurs; differentiable in the points."""


class BankObjective(Objective):
    """Base of objectives that know the real set through a bank of networks."""

    bank: Bank

    def prepare(self, real: CloudSource) -> None:
        self.bank = Bank.of(real, self.config)
        self.seconds = self.bank.seconds

    def member(self, generator: torch.Generator) -> Member:
        """The network of a step, with what it saw of the real set."""
        return self.bank.members[int(torch.randint(len(self.bank.members), (), generator=generator))]


objectives: Registry[type[Objective]] = Registry("objective")


def step_generator(purpose: str, seed: int, step: int) -> torch.Generator:
    """Random numbers for one step, the same whether or not the run was interrupted before it.

    Draws for different purposes are independent: from one stream, the first class of a minibatch and the
    network of the step would be the same number, so that a class would meet one network only.
    """
    digest = hashlib.sha256(f"{purpose} {seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))  # the generator keeps no more bits


def class_means(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of `values (B, ...)` over the clouds of each class that occurs: classes `(K,)` and means `(K, ...)`."""
    classes, place = labels.unique(return_inverse=True)
    counts = torch.bincount(place).view(-1, *[1] * (values.ndim - 1))
    sums = values.new_zeros(len(classes), *values.shape[1:]).index_add(0, place, values)
    return classes, sums / counts

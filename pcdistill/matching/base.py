"""What an objective is: a number that says how good decoded clouds are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, parts_of
from pcdistill.core.engine import ALONE, Team
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options, every, merged
from pcdistill.core.registry import Registry
from pcdistill.matching.bank import Bank
from pcdistill.matching.draws import augmented, step_generator
from pcdistill.matching.gathering import BankConfig, BankRequest, Member
from pcdistill.matching.segments import PartBank, PartMember
from pcdistill.training.augment import Augmentation, apply, labels_kept


class ObjectiveOptions(Options):
    """Base of the settings of objectives: frozen, unknown names are errors."""

    added: ClassVar[tuple[str, ...]] = ()
    """Fields that the objective had not in release 0.1: at their defaults its runs are those of that release."""


class Objective(ABC):
    """A matching objective: `prepare` once on the real set, then `loss` of synthetic clouds, step by step.

    A subclass is one file and one `objectives.register(name, cites=...)`; its settings are the fields of its `Options`.
    What it draws at a step follows from its seed and the step alone; whatever else it carries from step to step is in
    `state` and `learned`, so that a resumed run repeats an uninterrupted one.

    Args:
        bank: the option of that name, of those that have one.
        seed: of everything that it draws.
        options: fields of `Options`, those of nested models as mappings that change their defaults.

    Raises:
        InputError: an unknown option or a value out of range.
    """

    name: ClassVar[str]
    Options: ClassVar[type[ObjectiveOptions]] = ObjectiveOptions
    pace: ClassVar[Mapping[str, float]] = {}  # of `learned`: factors of the learning rate of coordinates
    sees_parts: ClassVar[bool] = False  # whether it knows what to do with points that have parts
    partial: ClassVar[Mapping[str, Any]] = {}  # options that serve where a part of the set is frozen
    learns_labels: ClassVar[bool] = False  # whether the loss depends on soft labels beyond their class
    steps: ClassVar[int] = 400  # of the outer loop that serve it well
    seconds: float = 0.0  # that `prepare` took when its results were first computed
    team: Team = ALONE  # who shares `prepare`, as far as it is a sum over the real set

    def __init__(self, bank: Any = None, *, seed: int = 0, **options: Any) -> None:
        self.seed = seed
        values = merged(every(self.Options()), options if bank is None else {**options, "bank": bank})
        self.options: Any = self.Options.checked(values, f"objective {self.name}")

    @property
    def minibatch(self) -> Literal["classes", "clouds"]:
        """What a step is to see where not all clouds fit in: whole classes, or some clouds of every class."""
        return "classes"

    def describe(self) -> dict[str, Any]:
        """Every setting that changes the loss, as JSON values; part of artefacts."""
        return {**self.options.model_dump(mode="json"), "seed": self.seed}

    def identity(self) -> dict[str, Any]:
        """What tells its runs apart: `describe` as release 0.1 had it, so that its checkpoints are resumed."""
        default = self.Options()
        same = {name for name in self.options.added if getattr(self.options, name) == getattr(default, name)}
        facts = {name: value for name, value in self.describe().items() if name not in same}
        if isinstance(self.options, BankOptions):
            facts["bank"] = BankRequest.of(self.options.bank).model_dump(mode="json")
        return facts

    @abstractmethod
    def prepare(self, real: CloudSource) -> None:
        """Do all that needs the real data, in a streaming pass; cached where it is costly."""

    def prepared(self, real: CloudSource) -> bool:
        """Whether `prepare` would find in the cache whatever is costly; True where there is nothing of the kind."""
        return True

    def hold(self, frozen: PointClouds) -> bool:
        """Told, before the first step, of clouds that belong to the set and do not change.

        Whether it keeps them in mind: then `loss` is shown the others only, else these as well, without gradient.
        """
        return False

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


class BankOptions(ObjectiveOptions):
    """Settings that every objective over a bank has.

    Attributes:
        bank: networks, and what they see of the real set.
        augmentation: of the synthetic clouds, drawn anew at every step.
    """

    bank: BankConfig = BankConfig()
    augmentation: Augmentation = Augmentation()


class BankObjective(Objective):
    """Base of objectives that know the real set through a bank of networks.

    A step draws a network, augments the synthetic clouds and takes their `distance` from what the network saw of the
    real set. A subclass says that distance, or has a `loss` of its own. One that `sees_parts` has a `part_distance` as
    well, which takes its place where points have parts; the bank is then a `PartBank`.
    """

    Options: ClassVar[type[ObjectiveOptions]] = BankOptions
    purpose: ClassVar[str] = "network"  # of the random numbers of a step
    reads_profiles: ClassVar[bool] = False  # of point features; a bank without quantiles is refused
    bank: Bank
    part_bank: PartBank | None = None  # of a real set with parts, in place of `bank`

    def __init__(self, bank: BankConfig | None = None, *, seed: int = 0, **options: Any) -> None:
        super().__init__(bank, seed=seed, **options)
        if self.reads_profiles and not self.options.bank.quantiles:
            raise InputError(f"objective {self.name}", "bank.quantiles = 0", "at least 1")

    def bank_config(self) -> BankRequest:
        """The bank of the options, with those statistics that only this objective reads."""
        return BankRequest.of(self.options.bank)

    def prepare(self, real: CloudSource) -> None:
        if parts_of(real) is not None:
            self.part_bank = PartBank.of(real, self.options.bank)
            self.seconds = self.part_bank.seconds
            return
        self.bank = Bank.of(real, self.bank_config(), self.team)
        self.seconds = self.bank.seconds

    def prepared(self, real: CloudSource) -> bool:
        if parts_of(real) is not None:
            return PartBank.is_cached(real, self.options.bank)
        return Bank.is_cached(real, self.bank_config())

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator(self.purpose, self.seed, step)
        if self.part_bank is not None:
            return self._part_loss(self.part_bank.members, decoded, generator)
        member = self.bank.members[int(torch.randint(len(self.bank.members), (), generator=generator))]
        points = augmented(decoded.points, self.options.augmentation, generator)
        return self.distance(member, points, decoded, generator)

    def _part_loss(self, members: Sequence[PartMember], decoded: PointClouds, generator: torch.Generator) -> Tensor:
        shape, parts = decoded.points.shape, decoded.parts
        assert parts is not None
        member = members[int(torch.randint(len(members), (), generator=generator))]
        draw = self.options.augmentation.draw(shape[0], shape[1], generator)
        features = member.features(apply(decoded.points, draw), decoded.hard_labels)
        unit = member.unit_of(decoded.hard_labels, labels_kept(parts, draw))
        return self.part_distance(member, features.flatten(0, 1), unit.flatten(), generator)

    def part_distance(self, member: PartMember, features: Tensor, unit: Tensor, generator: torch.Generator) -> Tensor:
        """As `distance`, of points with parts.

        Args:
            member: the network of the step, with what it saw of real points.
            features: `(M, F)` of all synthetic points, differentiable in them.
            unit: `(M,)`, of `member.units`.
            generator: for further draws of the step.
        """
        raise NotImplementedError

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        """Scalar loss under one network, differentiable in points.

        Args:
            member: the network of the step, with what it saw of the real set.
            points: `(B, P, 3)` synthetic points, augmented.
            decoded: their labels; its points are those before augmentation.
            generator: for further draws of the step.
        """
        raise NotImplementedError


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
    counts = torch.bincount(place).to(values.device).view(-1, *[1] * (values.ndim - 1))
    sums = values.new_zeros(len(classes), *values.shape[1:]).index_add(0, place.to(values.device), values)
    return classes, sums / counts

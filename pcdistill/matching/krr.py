"""Kernel ridge regression from synthetic to real clouds, on the features of a bank of networks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.matching.base import BankObjective, BankOptions, objectives
from pcdistill.matching.gathering import BankConfig, BankRequest, Member
from pcdistill.matching.gradients import one_hot
from pcdistill.matching.segments import PartMember
from pcdistill.matching.shards import BATCH
from pcdistill.models import Network
from pcdistill.training.augment import Augmentation


class KrrOptions(BankOptions):
    """Settings of `KernelRidgeRegression`.

    Attributes:
        bank: networks and real features.
        ridge: of the regression, relative to the kernel's diagonal.
        targets: real clouds that the error is measured on: `some`, those of `bank.pooled_samples`, or `all`, classes
            counting equally in both cases.
    """

    later: ClassVar[tuple[str, ...]] = ("targets",)

    bank: BankConfig = BankConfig(networks=10, quantiles=0, pooled_samples=128)
    ridge: float = Field(default=0.1, gt=0)
    targets: Literal["some", "all"] = "some"
    augmentation: Augmentation = Augmentation(stretch=1.3, tilt=8)


@dataclass(frozen=True)
class Sums:
    """What a regression knows of clouds with features `X (n, F)` and targets `Y (n, C)`, however many they are."""

    gram: Tensor  # (F, F): X'X
    cross: Tensor  # (F, C): X'Y
    clouds: int  # n

    @classmethod
    def of(cls, features: Tensor, targets: Tensor) -> "Sums":
        return cls(features.T @ features, features.T @ targets, len(features))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.gram + other.gram, self.cross + other.cross, self.clouds + other.clouds)

    def weights(self, ridge: float) -> Tensor:
        """`(F, C)` of the ridge regression, those of `ridge_predictions`: X'(XX' + a I)^-1 Y = (X'X + a I)^-1 X'Y."""
        strength = ridge * self.gram.diagonal().sum() / self.clouds  # the mean diagonal of XX'
        ridged = self.gram + strength * torch.eye(len(self.gram)).to(self.gram)
        weights: Tensor = torch.linalg.solve_ex(ridged, self.cross).result  # unchecked, as in `ridge_predictions`
        return weights


@objectives.register("krr", cites=("nguyen2021kip", "zhou2022frepo"))
class KernelRidgeRegression(BankObjective):
    """Squared error, on real clouds, of the ridge regression fitted to the synthetic ones.

    The inner loop of dataset distillation, training on the synthetic set, is replaced by its closed form for a
    linear classifier on fixed features: with synthetic features `X_s`, one-hot labels `Y_s` and real `X_r`,

        loss = mean || X_r X_s' (X_s X_s' + ridge * mean diag(X_s X_s') I)^-1 Y_s - Y_r ||^2

    (kernel inducing points, Nguyen et al. ICLR 2021; on network features FRePo, Zhou et al. NeurIPS 2022). Features
    are a network's max-pooled ones, standardised by the real clouds', with a constant. We differ from FRePo in
    that networks come from a fixed bank of semi-trained ones, so that real features are computed once; in that
    the synthetic clouds are augmented anew at every step, as they will be when a network is trained on them; and
    in that labels are not learned here; where the storage has soft ones, `Y_s` are the probabilities of the classes
    that occur. No sorting: a step costs a fifth of quantile matching's.

    With `targets = all` the error is that on all real clouds: of their features it takes first and second moments
    only, which one pass gathers. Clouds that are frozen then stand in the regression as they are, not augmented, by
    sums that are computed once for each network: a step costs what its moving clouds cost.

    Of points with parts, the regression is from synthetic points to real ones, on the features that a network labels
    points by, and `Y` says which part of which class; every one of these counts the same on both sides.
    """

    name = "krr"
    learns_labels = True
    sees_parts = True
    minibatch = "clouds"
    purpose = "objective"
    steps = 800
    partial: ClassVar[Mapping[str, Any]] = {"targets": "all"}
    Options = KrrOptions
    held: PointClouds | None = None  # clouds in the regression besides those of a step

    def bank_config(self) -> BankRequest:
        return BankRequest.of(self.options.bank, moments=self.options.targets == "all")

    def prepare(self, real: CloudSource) -> None:
        if len(real.class_names) < 2:
            raise InputError("real set", "1 class", "at least 2")
        super().prepare(real)

    def hold(self, frozen: PointClouds) -> bool:
        if self.options.targets == "some":
            return False
        self.held, self._sums = frozen, dict[Network, Sums]()
        return True

    def distance(self, member: Member, points: Tensor, decoded: PointClouds, generator: torch.Generator) -> Tensor:
        """The error over the classes that occur among the clouds given, or with `targets = all` over all classes."""
        if self.options.targets == "all":
            return self._distance_to_all(member, points, decoded)
        pooled = member.network.pooled(points)
        classes, place = decoded.hard_labels.unique(return_inverse=True)
        real = member.pooled[classes]
        rows = real.flatten(0, 1)
        spread, centre = torch.std_mean(rows, 0, correction=0)
        real_features = standardised(rows, centre, spread)
        features = standardised(pooled, centre, spread)
        targets = torch.eye(len(classes)).to(pooled) - 1 / len(classes)
        soft = decoded.labels.ndim == 2
        given = decoded.labels[:, classes].to(pooled) - 1 / len(classes) if soft else targets[place]
        guesses = ridge_predictions(features, given, real_features, self.options.ridge)
        return (guesses - targets.repeat_interleave(real.shape[1], 0)).square().sum(1).mean()

    def part_distance(self, member: PartMember, features: Tensor, unit: Tensor, generator: torch.Generator) -> Tensor:
        """The error over the parts of classes that occur among the points given."""
        units, place = unit.unique(return_inverse=True)
        real = member.samples[units]
        rows = real.flatten(0, 1)
        spread, centre = torch.std_mean(rows, 0, correction=0)
        targets = torch.eye(len(units)).to(features) - 1 / len(units)
        weights = 1 / torch.bincount(place).to(features)[place]
        guesses = weighted_ridge_predictions(
            standardised(features, centre, spread), targets[place], weights, standardised(rows, centre, spread),
            self.options.ridge,
        )  # fmt: skip
        return (guesses - targets.repeat_interleave(real.shape[1], 0)).square().sum(1).mean()

    def _distance_to_all(self, member: Member, points: Tensor, decoded: PointClouds) -> Tensor:
        centre, spread = _frame(member)
        given = Sums.of(standardised(member.network.pooled(points), centre, spread), _centred_labels(decoded))
        if self.held is not None:
            given = given + self._held_sums(member)
        weights = given.weights(self.options.ridge)
        classes = len(member.pooled_mean)
        scale = 1 / (spread + 1e-3)
        variance = member.covariance * torch.outer(scale, scale) / len(scale)  # of standardised features
        # Their means are zero, but for that of the constant.
        spent = ((variance @ weights[:-1]) * weights[:-1]).sum() + weights[-1].square().sum() / len(scale)
        truth = torch.eye(classes).to(points) - 1 / classes
        right = (standardised(member.pooled_mean, centre, spread) @ weights * truth).sum() / classes
        return spent - 2 * right + (1 - 1 / classes)

    @torch.no_grad()
    def _held_sums(self, member: Member) -> Sums:
        assert self.held is not None
        if member.network not in self._sums:
            points = self.held.points.to(member.pooled_mean.device)
            pooled = torch.cat([member.network.pooled(part) for part in points.split(BATCH)])
            features = standardised(pooled, *_frame(member))
            self._sums[member.network] = Sums.of(features, _centred_labels(self.held).to(features))
        return self._sums[member.network]


def weighted_ridge_predictions(
    features: Tensor, targets: Tensor, weights: Tensor, queries: Tensor, ridge: float
) -> Tensor:
    """As `ridge_predictions`, of many points `(n, F)` that count by `weights (n,)`; solved in F x F."""
    weighted = features * weights[:, None]
    kernel = features.T @ weighted
    kernel = kernel + ridge * kernel.diagonal().mean() * torch.eye(len(kernel)).to(kernel)
    solved: Tensor = torch.linalg.solve(kernel, weighted.T @ targets)
    return queries @ solved


def _frame(member: Member) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the global features of all real clouds, classes counting equally."""
    return member.pooled_mean.mean(0), member.covariance.diagonal().clamp_min(0).sqrt()


def _centred_labels(clouds: PointClouds) -> Tensor:
    """`(n, C)` probabilities less 1 / C."""
    return one_hot(clouds.labels, clouds.num_classes, clouds.points) - 1 / clouds.num_classes


def standardised(features: Tensor, centre: Tensor, spread: Tensor) -> Tensor:
    """`(n, G)` features to `(n, G + 1)`: in units of the spread, with a constant, of mean square about 1."""
    scaled = (features - centre) / (spread + 1e-3)
    columns: Tensor = torch.cat([scaled, torch.ones_like(scaled[:, :1])], 1) / scaled.shape[1] ** 0.5
    return columns


def ridge_predictions(features: Tensor, targets: Tensor, queries: Tensor, ridge: float) -> Tensor:
    """Values `(m, C)` at `queries (m, F)` of the ridge regression of `targets (n, C)` on `features (n, F)`, n small."""
    kernel = features @ features.T
    kernel = kernel + ridge * kernel.diagonal().mean() * torch.eye(len(kernel)).to(kernel)
    # Unchecked: a check waits for a device, and a kernel with a ridge has an inverse.
    weights: Tensor = features.T @ torch.linalg.solve_ex(kernel, targets).result
    return queries @ weights

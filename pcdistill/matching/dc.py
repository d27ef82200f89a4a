"""Dataset condensation with gradient matching (DC), and with siamese augmentation (DSA)."""

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, device_of
from pcdistill.core.options import Options
from pcdistill.matching.base import Objective, ObjectiveOptions, objectives
from pcdistill.matching.draws import checked_real, random_clouds, step_generator
from pcdistill.matching.gradients import (
    Distance,
    Groups,
    Weights,
    critical,
    gradient_distance,
    group_gradients,
    mean_gradient,
    one_hot,
    parameters,
)
from pcdistill.matching.surrogates import architecture, untrained_network
from pcdistill.models import Network
from pcdistill.training.augment import Augmentation, Draw, apply


class SurrogateConfig(Options):
    """The networks that gradients are compared on.

    Attributes:
        network: registered name; several, separated by commas, take turns. Batch norm is calibrated on real clouds and
            frozen.
        seed: of weights.
    """

    network: str = "pointnet-small-layernorm"
    seed: int = 0


class DcOptions(ObjectiveOptions):
    """Settings of `DatasetCondensation`.

    Attributes:
        bank: the networks.
        distance: `layer`, `cosine` or `mse`; see `gradient_distance`.
        joint: compare the gradient of all classes together instead of class by class.
        outer: steps on one network before a fresh one takes its place.
        inner: SGD steps that it is trained on the synthetic set between two of them.
        network_lr: of that training.
        real_clouds: of each class and step.
        real_points: of each of them.
        augmentation: drawn once a step, for real and synthetic clouds alike (without jitter and dropped points, which
            clouds of unequal size cannot share).
    """

    bank: SurrogateConfig = SurrogateConfig()
    distance: Distance = "layer"
    joint: bool = False
    outer: int = Field(default=10, ge=1)
    inner: int = Field(default=5, ge=0)
    network_lr: float = Field(default=0.01, gt=0)
    real_clouds: int = Field(default=32, ge=1)
    real_points: int = Field(default=256, ge=1)
    augmentation: Augmentation = Augmentation()


class DsaOptions(DcOptions):
    """Settings of `SiameseAugmentation`."""

    augmentation: Augmentation = Augmentation(scale=1.25, stretch=1.3, shift=0.1, tilt=8)


@objectives.register("dc", cites=("zhao2021dc",))
class DatasetCondensation(Objective):
    """Gradient matching along the training of networks on the synthetic set.

        loss = mean over classes c of D( grad_w l(S_c; w), grad_w l(T_c; w) ),   w trained on S

    (Zhao, Mopuri & Bilen, ICLR 2021, eq. 9 and algorithm 1.) Where a step sees a minibatch of S, `w` is trained on it.
    We differ in that all classes are compared in one step, in that surrogates are taken without running statistics
    (layer norm by default), and in that of every cloud only the critical points are passed, which changes nothing but
    the time.
    """

    name = "dc"
    learns_labels = True
    minibatch = "clouds"
    Options: ClassVar[type[ObjectiveOptions]] = DcOptions

    def __init__(self, bank: SurrogateConfig | None = None, *, seed: int = 0, **options: Any) -> None:
        super().__init__(bank, seed=seed, **options)
        self.network: Network | None = None
        self.trained: tuple[int, Weights] = (-1, {})  # a step and the weights that it compares gradients at

    def prepare(self, real: CloudSource) -> None:
        checked_real(real)
        self.real = real
        self.classes = len(real.class_names)

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        generator = step_generator("objective", self.seed, step)
        targets = one_hot(decoded.labels, self.classes, decoded.points)
        network = self._surrogate(step)
        weights = self._weights(network, decoded.points.detach(), targets.detach(), step)
        draw = self._siamese().draw(1, 1, generator)
        classes = decoded.hard_labels.unique().tolist()
        real, labels = random_clouds(self.real, classes, self.options.real_clouds, generator)
        real = apply(real[:, : self.options.real_points].to(decoded.points), _shared(draw, len(real)))
        real = critical(network, weights, real)
        groups = Groups.of(labels, self.options.joint)
        theirs = group_gradients(network, weights, real, one_hot(labels, self.classes, real), groups)
        points = critical(network, weights, apply(decoded.points, _shared(draw, len(decoded.points))))
        groups = Groups.of(decoded.hard_labels, self.options.joint)
        ours = group_gradients(network, weights, points, targets, groups)
        return gradient_distance(ours, theirs, self.options.distance)

    def state(self) -> dict[str, Tensor]:
        step, weights = self.trained
        return {**weights, "step": torch.tensor(step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        weights = dict(state)
        step = int(weights.pop("step"))
        self.trained = step, {name: value.to(device_of(self.real)) for name, value in weights.items()}

    def _surrogate(self, step: int) -> Network:
        """The network of a step, in whose own values the training on synthetic clouds leaves no trace."""
        episode, place = divmod(step, self.options.outer)
        if self.network is None or place == 0:
            name, seed = self.options.bank.network, self.options.bank.seed * 1000 + self.seed
            self.network = untrained_network(
                self.real, architecture(name, episode), self.options.real_points, seed, episode
            )
        return self.network

    def _weights(self, network: Network, points: Tensor, targets: Tensor, step: int) -> Weights:
        """A fresh network's, or the last step's after training on the synthetic clouds; once for a repeated step."""
        at, weights = self.trained
        start = parameters(network)
        weights = {name: weights[name] for name in start if weights}  # a file has them in another order of summation
        if not weights or step % self.options.outer == 0:
            weights = start
        elif at != step:
            generator = step_generator("inner", self.seed, step)
            for _ in range(self.options.inner):
                draw = self.options.augmentation.draw(len(points), points.shape[1], generator)
                slope = mean_gradient(network, weights, apply(points, draw), targets)
                weights = {name: part - self.options.network_lr * slope[name] for name, part in weights.items()}
        self.trained = step, weights  # at once: Ctrl-C may come at any time
        return weights

    def _siamese(self) -> Augmentation:
        changed: Augmentation = self.options.augmentation.model_copy(update={"jitter": 0.0, "drop": 0.0})
        return changed


@objectives.register("dsa", cites=("zhao2021dsa",))
class SiameseAugmentation(DatasetCondensation):
    """`dc` under augmentation, the same draw for real and synthetic clouds (Zhao & Bilen, ICML 2021, eq. 5)."""

    name = "dsa"
    Options = DsaOptions


def _shared(draw: Draw, clouds: int) -> Draw:
    """One cloud's draw for many."""
    sides = None if draw.sides is None else draw.sides.expand(clouds, *draw.sides.shape[1:])
    return Draw(draw.matrix.expand(clouds, -1, -1), draw.shift.expand(clouds, -1, -1), None, None, sides)

"""Expert trajectories: the weights that networks pass through while they are trained on the real set."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, device_of, uniform, weights_of
from pcdistill.core.cache import Tensors, cached, is_cached
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.core.progress import progress
from pcdistill.matching.bank import FORMAT as BANK_FORMAT
from pcdistill.matching.draws import checked_real, random_clouds, step_generator
from pcdistill.matching.gathering import SEMI_TRAINED, StepRange
from pcdistill.matching.gradients import Weights, mean_gradient, one_hot, parameters
from pcdistill.matching.surrogates import architecture, frozen_network, give_fresh_head, own_facts, untrained_network
from pcdistill.models import Network, build
from pcdistill.training.augment import Augmentation, Poses, apply

GOLDEN = 0.618034  # multiples of it, modulo one, are spread evenly however many there are
FORMAT = 3  # raise when what is computed changes, so that old caches are not read


class ExpertConfig(Options):
    """How experts are trained and which of their states are kept.

    Attributes:
        networks: how many experts.
        network: registered name; several, separated by commas, take turns. Batch norm is calibrated on real clouds
            before training and then frozen: its statistics are constants, no part of the trajectory.
        trained_steps: experts begin as networks trained on real clouds for a number of batches between these two, with
            an untrained classifier on those point features; (0, 0): as random networks.
        points: of every real cloud (its first ones: a cloud is a sample without order).
        steps: of SGD; only as many as segments will use.
        interval: steps between two states that are kept; an epoch of ModelNet10 is 125 steps of 32 clouds.
        batch, lr, momentum: of SGD; momentum is that of the heavy ball.
        augmentation: of the real clouds.
        sam: radius of sharpness-aware steps (Foret et al. 2021), whose flat trajectories a student can follow
            (FTD, Du et al., CVPR 2023); 0 leaves them out.
        bits: 32, or 16 to keep states as float16.
        seed: of weights and batches.
    """

    networks: int = Field(default=10, ge=1)
    network: str = "pointnet-linear"
    trained_steps: StepRange = (0, 0)
    points: int = Field(default=256, ge=1)
    steps: int = Field(default=200, ge=1)
    interval: int = Field(default=5, ge=1)
    batch: int = Field(default=32, ge=1)
    lr: float = Field(default=0.005, gt=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Augmentation = Augmentation(stretch=1.3, tilt=8)
    sam: float = Field(default=0.0, ge=0)
    bits: Literal[16, 32] = 32
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> "ExpertConfig":
        if self.steps < self.interval:
            raise ValueError(f"steps = {self.steps}, expected at least one interval of {self.interval}")
        return self

    @property
    def states(self) -> int:
        """States kept of an expert, the first one included."""
        return self.steps // self.interval + 1


class Expert(NamedTuple):
    """A network and the weights that it passed through."""

    network: Network  # in evaluation mode; of its own values only the statistics of norms mean something
    states: Weights  # each (states, *shape), float32 or float16

    def at(self, state: int) -> Weights:
        """The weights at a state, as float32."""
        return {name: value[state].float() for name, value in self.states.items()}


class Estimate(NamedTuple):
    """What recording will cost."""

    seconds: float
    megabytes: float
    missing: int  # experts that are not in the cache yet


def expert_network(real: CloudSource, config: ExpertConfig, k: int) -> Network:
    """Network k before training, in evaluation mode."""
    name = architecture(config.network, k)
    low, high = config.trained_steps
    if not high:
        return untrained_network(real, name, config.points, config.seed, k)
    steps = round(low + (high - low) * (GOLDEN * k % 1))
    points, labels = random_clouds(
        uniform(real), range(len(real.class_names)), 64, step_generator("semi-trained", config.seed, k)
    )
    mixed = torch.randperm(len(labels), generator=step_generator("order", config.seed, k))
    sample = PointClouds(points[mixed, : config.points], labels[mixed], real.class_names)
    turned = SEMI_TRAINED.model_copy(update=config.augmentation.model_dump(include=set(Poses.model_fields)))
    network = frozen_network(name, sample, steps, config.seed * 1000 + k, turned)
    give_fresh_head(network, real, name, config.points, config.seed, k)
    return network


def expert_steps(
    network: Network,
    start: Weights,
    real: CloudSource,
    config: ExpertConfig,
    steps: int,
    generator: torch.Generator,
    keep: Callable[[int, Weights], None] = lambda step, state: None,
) -> Weights:
    """The weights after `steps` steps of the experts' training from `start`; `keep` sees them after every step.

    Raises:
        InputError: the loss is no longer finite.
    """
    state = {name: value.clone() for name, value in start.items()}
    velocity = {name: torch.zeros_like(value) for name, value in state.items()}
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        while len(order) < config.batch:
            order = torch.cat([order, _pass(real, generator)])
        index, order = order[: config.batch].sort().values, order[config.batch :]
        points = real.batch(index)[:, : config.points]
        points = apply(points, config.augmentation.draw(len(points), points.shape[1], generator))
        targets = one_hot(real.labels[index], len(real.class_names), points)
        slope = mean_gradient(network, state, points, targets)
        if config.sam:
            size = torch.cat([part.flatten() for part in slope.values()]).norm().clamp_min(1e-12)
            risen = {name: value + config.sam / size * slope[name] for name, value in state.items()}
            slope = mean_gradient(network, risen, points, targets)
        for name, value in state.items():
            velocity[name] = config.momentum * velocity[name] + slope[name]
            state[name] = value - config.lr * velocity[name]
        if not torch.stack([value.isfinite().all() for value in state.values()]).all():  # one wait for a device
            raise InputError(
                f"expert, step {step + 1}",
                "weights that are not finite",
                f"finite ones (lower bank.lr, now {config.lr:g}: --options bank.lr={config.lr / 5:g})",
            )
        keep(step + 1, state)
    return state


def _pass(real: CloudSource, generator: torch.Generator) -> Tensor:
    """As many places as there are clouds: each once, in random order, or drawn by weight, of all classes together."""
    weights = weights_of(real)
    if weights is None or bool((weights == weights[0]).all()):
        return torch.randperm(len(real.labels), generator=generator)
    edges = weights.cumsum(0)
    drawn = torch.rand(len(weights), generator=generator, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, drawn, right=True).clamp_max(len(weights) - 1)


def record_experts(real: CloudSource, config: ExpertConfig) -> tuple[list[Expert], float]:
    """All experts, those in the cache read and the others trained and kept there, and the seconds that all took.

    Raises:
        InputError: soft labels, an empty class, or a loss that is not finite.
    """
    checked_real(real)
    experts, total = [], 0.0
    with progress("training experts", config.networks) as report:
        for k in range(config.networks):
            expert, seconds = record_expert(real, config, k)
            experts.append(expert)
            total += seconds
            report(k + 1, "")
    return experts, total


def record_expert(real: CloudSource, config: ExpertConfig, k: int) -> tuple[Expert, float]:
    """Expert k, read from the cache or trained and kept there, and the seconds that it took.

    Raises:
        InputError: as `record_experts`.
    """

    def from_tensors(tensors: Tensors) -> Expert:
        device = device_of(real)
        network = build(architecture(config.network, k), len(real.class_names), 0).eval().requires_grad_(False)
        network.load_state_dict({name: value[0].float() for name, value in tensors.items()})
        return Expert(network.to(device), {name: tensors[name].to(device) for name, _ in network.named_parameters()})

    return cached("experts", _facts(real, config, k), lambda: _record(real, config, k), from_tensors)


def missing_experts(real: CloudSource, config: ExpertConfig) -> list[int]:
    """Numbers of the experts that are not in the cache."""
    return [k for k in range(config.networks) if not is_cached("experts", _facts(real, config, k))]


def estimate(real: CloudSource, config: ExpertConfig) -> Estimate:
    """What `record_experts` will cost, from a timed trial of three steps; nothing is kept.

    Raises:
        InputError: as `record_experts`.
    """
    checked_real(real)
    network = expert_network(real, config, 0)
    missing = len(missing_experts(real, config))
    size = sum(value.numel() for value in parameters(network).values()) * config.states * config.bits / 8e6
    if not missing:
        return Estimate(0.0, 0.0, 0)
    generator = torch.Generator().manual_seed(0)
    expert_steps(network, parameters(network), real, config, 1, generator)  # the first step is slower than all others
    start = time.perf_counter()
    expert_steps(network, parameters(network), real, config, 3, generator)
    each = (time.perf_counter() - start) / 3
    return Estimate(missing * config.steps * each, missing * size, missing)


def _facts(real: CloudSource, config: ExpertConfig, k: int) -> str:
    """All that expert k depends on: not the number of experts, so that more can be added later."""
    asked = config.model_dump_json(exclude={"networks"})
    return f"{FORMAT} {BANK_FORMAT} {k} {asked} {real.fingerprint()}{own_facts(config.network, real)}"


def _record(real: CloudSource, config: ExpertConfig, k: int) -> Tensors:
    network = expert_network(real, config, k)
    dtype = torch.float16 if config.bits == 16 else torch.float32
    kept = [{name: value.to(dtype) for name, value in parameters(network).items()}]

    def keep(step: int, state: Weights) -> None:
        if step % config.interval == 0:
            kept.append({name: value.to(dtype) for name, value in state.items()})

    generator = step_generator("expert", config.seed, k)
    expert_steps(network, parameters(network), real, config, config.steps, generator, keep)
    learned = dict(network.named_parameters())
    statistics = {name: value[None] for name, value in network.state_dict().items() if name not in learned}
    return {name: torch.stack([state[name] for state in kept]) for name in kept[0]} | statistics

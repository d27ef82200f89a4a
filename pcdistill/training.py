"""The one loop that trains a classifier on clouds; a `Recipe` says how."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple
from typing import Protocol as Interface

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pcdistill.augment import Augmentation, apply
from pcdistill.clouds import PointClouds
from pcdistill.environment import memory
from pcdistill.errors import InputError
from pcdistill.geometry import normalise
from pcdistill.losses import SoftLoss, label_losses
from pcdistill.models import Network, Stack, build, seeded
from pcdistill.registry import nearest

OnStep = Callable[[int, float], None]
OnProgress = Callable[[int, str], None]  # steps done, of all networks together, and a word on them


class Recipe(BaseModel):
    """How a network is trained; stored whole in every artefact and result.

    Attributes:
        name, version: a change of any other field of a published recipe raises the version.
        steps: optimiser steps; `None` counts `epochs` instead.
        epochs: passes over the training set, but at least `least_steps` and at most `most_steps` steps.
        batch: clouds per step. A set is passed through in a fresh random order each time; with `fill`
            the passes are joined so that every batch is full (small sets repeat within a batch), else
            the last batch of a pass may be smaller (one left-over cloud joins the batch before).
        optimizer, lr, momentum, weight_decay: AdamW or SGD.
        schedule: `onecycle` (Smith & Topin 2018: rises from lr / 25 to lr over 30 % of the steps, then
            falls to zero, cosine) or `halfway` (one tenth of lr from the middle on).
        label_smoothing: as in Szegedy et al. 2016; applied to hard labels only.
        temperature: that soft labels are given at, and the student's logits divided by.
        soft_loss: under soft labels: `kl`, or `mse` between logits (`losses`).
        hard: weight of the hard label's loss where labels are soft; that of the soft label's is the rest.
        normalise: centre every training cloud and scale it to the unit sphere first.
        ema: decay per step of the averaged weights that are returned (at step s at most s / (9 + s));
            0 returns the last weights.
        bf16: multiply the widest layers in bfloat16 on a processor that can; not on other devices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = 1
    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    least_steps: int = Field(default=1, ge=1)
    most_steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=32, ge=2)
    fill: bool = True
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: float = Field(default=2e-3, gt=0)
    momentum: float = 0.9
    weight_decay: float = 0.01
    schedule: Literal["onecycle", "halfway"] = "onecycle"
    augmentation: Augmentation = Augmentation()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    soft_loss: SoftLoss = "kl"
    hard: float = Field(default=0.0, ge=0, le=1)
    normalise: bool = False
    ema: float = Field(default=0.0, ge=0, lt=1)
    bf16: bool = False

    def total_steps(self, clouds: int) -> int:
        """Optimiser steps on a set of `clouds` clouds."""
        if self.steps is not None:
            return self.steps
        if self.epochs is None:
            raise InputError(f"recipe {self.name}", "neither steps nor epochs", "one of them")
        steps = max(self.least_steps, self.epochs * len(_bounds(clouds, self.batch)))
        return steps if self.most_steps is None else min(self.most_steps, steps)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        # SADM's evaluation (literature: official code and paper): 500 epochs, batch 8, no augmentation.
        Recipe(
            name="published", epochs=500, batch=8, fill=False, optimizer="sgd", lr=0.01, weight_decay=5e-4,
            schedule="halfway", normalise=True,
        ),
        Recipe(
            name="tuned", version=2, epochs=100, least_steps=500, most_steps=4000, bf16=True, label_smoothing=0.1,
            augmentation=Augmentation(scale=1.25, stretch=1.3, shift=0.1, jitter=0.01, tilt=8),
        ),
        # `tuned`, but for what the grid of its protocol changes.
        Recipe(
            name="sweep", epochs=100, least_steps=500, most_steps=4000, bf16=True, label_smoothing=0.1,
            augmentation=Augmentation(scale=1.25, stretch=1.3, shift=0.1, jitter=0.01, tilt=8),
        ),
    )
}  # fmt: skip


def recipe(name: str, **changes: object) -> Recipe:
    """A named recipe, with fields changed; a changed one is called `name*`.

    Raises:
        InputError: unknown name.
    """
    if name not in RECIPES:
        raise InputError("recipe", nearest(name, RECIPES), "one of " + ", ".join(sorted(RECIPES)))
    found = RECIPES[name]
    return found if not changes else Recipe(**{**found.model_dump(), "name": f"{name}*", **changes})


class Grid(BaseModel):
    """Recipes that a protocol chooses from, for every training set on its own; see `evaluation.sweep`.

    Attributes:
        lr: learning rates.
        length: steps, as multiples of the number that the recipe makes on the set.
        held_out: of every class of the real training set, the share that recipes are tried on: the last ones
            (`data.last_split`). Sets are made of the others, the whole set too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    length: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(default=(1.0,), min_length=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)


# By the name of the protocol.
GRIDS = {"sweep": Grid(lr=(5e-4, 2e-3, 8e-3), length=(1.0, 2.0))}


class Protocol(BaseModel):
    """What an accuracy means: recipe, network and how the test set is read; stored with every result.

    Attributes:
        name, version: as for recipes.
        recipe: trains a fresh network on the set under test, once per seed.
        network: registered name.
        test_points: points of every test cloud that are looked at (the first ones stored).
        thin: of these the network sees as many as the clouds that it was trained on have, by farthest point sampling.
            Networks that look at neighbourhoods need it: those of 1024 points are much smaller than those of 128.
        grid: learning rates and lengths of which every training set gets those that serve it best on held-out training
            clouds, so that no arm suffers from a recipe made for another; None trains all by `recipe` as it is.

    Accuracy is that of the last step (or of the recipe's averaged weights), never the best along the way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = 1
    recipe: Recipe
    network: str = "pointnet"
    test_points: int = Field(default=1024, ge=1)
    thin: bool = False
    grid: Grid | None = None

    def changed(self, **changes: object) -> "Protocol":
        """The protocol with fields of its recipe changed; both are then called `name*`. Itself if nothing changes."""
        recipe = self.recipe
        if all(getattr(recipe, field) == value for field, value in changes.items()):
            return self
        renamed = {**recipe.model_dump(), **changes, "name": recipe.name.removesuffix("*") + "*"}
        return self.model_copy(update={"recipe": Recipe(**renamed), "name": self.name.removesuffix("*") + "*"})


def protocol(name: str, network: str = "pointnet", test_points: int = 1024) -> Protocol:
    """The protocol around the recipe called `name`.

    Raises:
        InputError: unknown name.
    """
    found = recipe(name)
    return Protocol(
        name=name, version=found.version, recipe=found, network=network, test_points=test_points, grid=GRIDS.get(name)
    )


class Batch(NamedTuple):
    """What networks are shown at a step, and told of it."""

    points: Tensor  # (B, N, 3), augmented
    labels: Tensor  # (B,) class indices, or (B, C) probabilities
    classes: Tensor  # (B,) class that each cloud stands for
    step: int  # from 0
    total: int  # steps of the training
    told: Tensor | None = None  # (B,) bool: whose probabilities hold; the others have their class only. None: all


# The batch that is trained on, given the one that was drawn and the networks in training, each with its share of it.
Teach = Callable[[Batch, Sequence[Network]], Batch]


class Lesson(Interface):
    """Who changes what networks are shown or told while they are trained; see `teaching`."""

    @property
    def follows(self) -> bool:
        """Whether it looks at the network in training: then networks are trained one by one."""
        ...

    def begin(self, seeds: Sequence[int]) -> Teach:
        """What is called at every step of one training of the networks with these seeds."""
        ...


def train(
    network: Network,
    clouds: PointClouds,
    recipe: Recipe,
    seed: int,
    on_step: OnStep | None = None,
    lesson: Lesson | None = None,
) -> list[float]:
    """Train `network` in place and leave it in evaluation mode.

    Args:
        network: any network whose logits match the classes of `clouds`.
        clouds: `(N, P, 3)`, hard or soft labels.
        recipe: how.
        seed: of order, augmentation and dropout.
        on_step: called after each step with its number, from 1, and the loss.
        lesson: a teacher's; without one labels are those of `clouds`.

    Returns:
        The training loss of every step.

    Raises:
        InputError: a single cloud (batch norm needs two), or a loss that is not finite.
    """
    report = None if on_step is None else lambda step, losses: on_step(step, losses[0])
    return [losses[0] for losses in _fit([network], clouds, recipe, [seed], report, lesson)]


def _fit(
    networks: Sequence[Network],
    clouds: PointClouds,
    recipe: Recipe,
    seeds: Sequence[int],
    on_step: Callable[[int, list[float]], None] | None,
    lesson: Lesson | None = None,
) -> list[list[float]]:
    """Train networks at once, each as its seed says; the losses of every step. See `train`."""
    if len(clouds) < 2:
        raise InputError("training set", "1 cloud", "at least 2")
    device = next(networks[0].parameters()).device
    points = (normalise(clouds.points) if recipe.normalise else clouds.points).to(device)
    labels, classes = clouds.labels.to(device), clouds.hard_labels.to(device)
    total, size = recipe.total_steps(len(clouds)), points.shape[1]
    teach = None if lesson is None else lesson.begin(seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    batches = [_batches(len(clouds), recipe, generator) for generator in generators]
    for network in networks:
        network.bf16 = recipe.bf16 and device.type == "cpu"  # whether the processor can says nothing of others
    stack = Stack(networks)
    optimizer = _optimizer(stack.parameters(), recipe)
    averaged = [value.detach().clone() for value in stack.state()] if recipe.ema else []
    history: list[list[float]] = []
    with seeded(seeds[0]):  # networks that are not stacked may draw from the global generator
        for step in range(total):
            index = torch.stack([next(own) for own in batches]).to(device)
            draw = recipe.augmentation.draw(index.shape[1], size, *generators)
            flat = index.flatten()
            batch = Batch(apply(points[flat], draw), labels[flat], classes[flat], step, total)
            if teach is not None:
                batch = teach(batch, stack.networks)
            seen = batch.points.view(*index.shape, *batch.points.shape[1:])
            each = label_losses(
                stack.logits(seen, generators).flatten(0, 1), batch.labels, batch.classes,
                smoothing=recipe.label_smoothing, soft=recipe.soft_loss, temperature=recipe.temperature,
                hard=recipe.hard, told=batch.told,
            )  # fmt: skip
            losses = each.view(index.shape).mean(1)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * _lr_factor(recipe.schedule, step, total)
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            _average(averaged, list(stack.state()) if averaged else [], min(recipe.ema, (1 + step) / (10 + step)))
            history.append(losses.tolist())
            bad = [loss for loss in history[-1] if not math.isfinite(loss)]
            if bad:
                raise InputError(f"training, step {step + 1}", f"loss {bad[0]}", "a finite one (lower the lr)")
            if on_step is not None:
                on_step(step + 1, history[-1])
    for mean, value in zip(averaged, stack.state(), strict=bool(averaged)):
        value.copy_(mean)
    stack.unstack()
    return history


def train_networks(
    name: str,
    clouds: PointClouds,
    recipe: Recipe,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    lesson: Lesson | None = None,
) -> list[Network]:
    """Fresh networks, one per seed, trained on the same clouds; in evaluation mode.

    As many as fit into memory are trained at once (`stack_size`, `models.Stack`).

    Args:
        name: registered network.
        clouds: `(N, P, 3)`, hard or soft labels.
        recipe: how.
        seeds: of weights, order, augmentation and dropout.
        on_progress: called along the way.
        device: where the networks, and with them clouds and labels, are kept; random numbers are drawn on the
            processor everywhere, so that they are the same.
        lesson: as in `train`.

    Raises:
        InputError: as `train`.
    """
    fresh = [build(name, clouds.num_classes, seed).to(device) for seed in seeds]
    total = recipe.total_steps(len(clouds))
    follows = lesson is not None and lesson.follows
    at_once = 1 if follows else stack_size(fresh[0], clouds, recipe, len(seeds))
    for first in range(0, len(seeds), at_once):
        part = slice(first, first + at_once)

        def report(step: int, losses: list[float], first: int = first) -> None:
            if on_progress is not None:
                named = f"{first + 1} to {first + len(losses)}" if len(losses) > 1 else f"{first + 1}"
                note = f"network {named} of {len(seeds)}, loss {sum(losses) / len(losses):.4g}"
                on_progress(first * total + step * len(losses), note)

        _fit(fresh[part], clouds, recipe, seeds[part], report, lesson)
    return fresh


def stack_size(network: Network, clouds: PointClouds, recipe: Recipe, wanted: int) -> int:
    """How many networks like this one are trained at once: as many as fit into a quarter of the memory, up to `wanted`.

    What a step of one takes is measured on a copy: its weights with gradients and the optimiser's moments, and twice
    what is kept for the backward pass. It is the machine's memory that counts, not what is free of it at the moment:
    the last bits of results depend on how many networks are trained together, and should not depend on the hour.
    """
    if wanted < 2 or not network.stackable:
        return 1
    batch = min(recipe.batch, len(clouds)) if not recipe.fill else recipe.batch
    device = next(network.parameters()).device
    kept: dict[int, int] = {}

    def measured(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    probe = copy.deepcopy(network).train()
    with torch.autograd.graph.saved_tensors_hooks(measured, lambda value: value), seeded(0):
        probe(clouds.points[torch.arange(batch) % len(clouds)].to(device))
    weights = sum(value.nbytes for value in network.state_dict().values())
    each: int = 4 * weights + 2 * sum(kept.values())
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory()
    return max(1, min(wanted, total // 4 // each))


@torch.no_grad()
def predict(network: Network, points: Tensor, batch: int = 64) -> Tensor:
    """Logits `(N, C)` of `(N, P, 3)` clouds, in evaluation mode; where the clouds are, wherever the network is."""
    network.eval()
    device = next((value.device for value in network.parameters()), points.device)
    return torch.cat([network(part.to(device)).logits.to(points.device) for part in points.split(batch)])


def _batches(clouds: int, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    if not recipe.fill:
        while True:
            order = torch.randperm(clouds, generator=generator)
            yield from (order[start:stop] for start, stop in _bounds(clouds, recipe.batch))
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < recipe.batch:
            order = torch.cat([order, torch.randperm(clouds, generator=generator)])
        yield order[: recipe.batch]
        order = order[recipe.batch :]


def _bounds(clouds: int, batch: int) -> list[tuple[int, int]]:
    starts = list(range(0, clouds, batch))
    if len(starts) > 1 and clouds - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], clouds], strict=True))


def _optimizer(parameters: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def _lr_factor(schedule: str, step: int, total: int) -> float:
    if schedule == "halfway":
        return 1.0 if step < total // 2 else 0.1
    rise = 0.3 * total
    if step < rise:
        return 0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * step / rise))
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (total - rise))


def _average(averaged: list[Tensor], values: list[Tensor], decay: float) -> None:
    for mean, value in zip(averaged, values, strict=True):
        if value.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)  # a count of batches

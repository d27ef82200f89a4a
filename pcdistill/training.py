"""The one loop that trains a classifier on clouds; a `Recipe` says how."""

import math
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from pcdistill.augment import Augmentation, apply
from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.geometry import normalise
from pcdistill.models import Network, seeded
from pcdistill.registry import nearest

OnStep = Callable[[int, float], None]


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
        normalise: centre every training cloud and scale it to the unit sphere first.
        ema: decay per step of the averaged weights that are returned (at step s at most s / (9 + s));
            0 returns the last weights.
        bf16: multiply the widest layers in bfloat16 where the processor can.
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


class Protocol(BaseModel):
    """What an accuracy means: recipe, network and how the test set is read; stored with every result.

    Attributes:
        name, version: as for recipes.
        recipe: trains a fresh network on the set under test, once per seed.
        network: registered name.
        test_points: points of every test cloud that the network sees (the first ones stored).

    Accuracy is that of the last step (or of the recipe's averaged weights), never the best along the way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: int = 1
    recipe: Recipe
    network: str = "pointnet"
    test_points: int = Field(default=1024, ge=1)


def protocol(name: str, network: str = "pointnet", test_points: int = 1024) -> Protocol:
    """The protocol around the recipe called `name`.

    Raises:
        InputError: unknown name.
    """
    found = recipe(name)
    return Protocol(name=name, version=found.version, recipe=found, network=network, test_points=test_points)


def train(
    network: Network, clouds: PointClouds, recipe: Recipe, seed: int, on_step: OnStep | None = None
) -> list[float]:
    """Train `network` in place and leave it in evaluation mode.

    Args:
        network: any network whose logits match the classes of `clouds`.
        clouds: `(N, P, 3)`, hard or soft labels.
        recipe: how.
        seed: of order, augmentation and dropout.
        on_step: called after each step with its number, from 1, and the loss.

    Returns:
        The training loss of every step.

    Raises:
        InputError: a single cloud (batch norm needs two), or a loss that is not finite.
    """
    if len(clouds) < 2:
        raise InputError("training set", "1 cloud", "at least 2")
    points = normalise(clouds.points) if recipe.normalise else clouds.points
    total = recipe.total_steps(len(clouds))
    optimizer = _optimizer(network, recipe)
    generator = torch.Generator().manual_seed(seed)
    averaged = [value.detach().clone() for value in network.state_dict().values()] if recipe.ema else []
    smoothing = recipe.label_smoothing if clouds.labels.ndim == 1 else 0.0
    network.bf16 = recipe.bf16
    losses: list[float] = []
    network.train()
    batches = _batches(len(clouds), recipe, generator)
    with seeded(seed):
        for step in range(total):
            index = next(batches)
            draw = recipe.augmentation.draw(len(index), points.shape[1], generator)
            logits = network(apply(points[index], draw)).logits
            loss = nn.functional.cross_entropy(logits, clouds.labels[index], label_smoothing=smoothing)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * _lr_factor(recipe.schedule, step, total)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            _average(averaged, network, min(recipe.ema, (1 + step) / (10 + step)))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise InputError(f"training, step {step + 1}", f"loss {losses[-1]}", "a finite one (lower the lr)")
            if on_step is not None:
                on_step(step + 1, losses[-1])
    if averaged:
        network.load_state_dict(dict(zip(network.state_dict(), averaged, strict=True)))
    network.eval()
    return losses


@torch.no_grad()
def predict(network: Network, points: Tensor, batch: int = 64) -> Tensor:
    """Logits `(N, C)` of `(N, P, 3)` clouds, in evaluation mode."""
    network.eval()
    return torch.cat([network(part).logits for part in points.split(batch)])


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


def _optimizer(network: Network, recipe: Recipe) -> torch.optim.Optimizer:
    parameters = network.parameters()
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


def _average(averaged: list[Tensor], network: Network, decay: float) -> None:
    if averaged:
        for mean, value in zip(averaged, network.state_dict().values(), strict=True):
            if value.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)  # a count of batches

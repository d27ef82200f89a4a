"""Recipes and protocols: how networks are trained and tested."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.core.registry import nearest
from pcdistill.models import check_network, network_for
from pcdistill.training.augment import Augmentation
from pcdistill.training.losses import SoftLoss

MOST_POINTS = 2**20  # of a test cloud: what a file may ask for, which is not trusted


class Recipe(Options):
    """How a network is trained; stored whole in every artefact and result.

    Attributes:
        name, version: a change of any other field of a published recipe raises the version.
        steps: optimiser steps; `None` counts `epochs` instead.
        epochs: passes over the training set, but at least `least_steps` and at most `most_steps` steps.
        batch: clouds per step. A set is passed through in a fresh random order each time; with `fill`
            the passes are joined so that every batch is full (small sets repeat within a batch), else
            the last batch of a pass may be smaller (one left-over cloud joins the batch before).
        balanced: draw classes equally often, whatever their sizes: a pass is as many draws as there are clouds, in
            rounds of every class that has clouds once, of which each goes through its own in fresh random orders.
        points: of a training cloud that a step looks at, drawn anew at every step; all where there are no more.
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

    later: ClassVar[tuple[str, ...]] = ("balanced", "points")

    name: str
    version: int = 1
    steps: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    least_steps: int = Field(default=1, ge=1)
    most_steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=32, ge=2)
    fill: bool = True
    balanced: bool = False
    points: int | None = Field(default=None, ge=1)
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
        # `tuned` to its plateau, with other points of a cloud at every step (docs/notebook/15-converged.md).
        Recipe(
            name="converged", epochs=100, least_steps=500, most_steps=8000, points=256, bf16=True, label_smoothing=0.1,
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
    named = RECIPES[name]
    return named if not changes else Recipe(**{**named.model_dump(), "name": f"{name}*", **changes})


class Grid(Options):
    """Recipes that a protocol chooses from, for every training set on its own; see `evaluation.sweep`.

    Attributes:
        lr: learning rates.
        length: steps, as multiples of the number that the recipe makes on the set.
        held_out: of every class of the real training set, the share that recipes are tried on: the last ones
            (`data.last_split`). Sets are made of the others, the whole set too.
    """

    lr: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1)
    length: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(default=(1.0,), min_length=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)


# By the name of the protocol.
GRIDS = {"sweep": Grid(lr=(5e-4, 2e-3, 8e-3), length=(1.0, 2.0))}
# Keys in `references.bib` of what they stand on; `tuned` and `converged` are our own. Where DD-Ranking chooses a
# learning rate for every method, it does by test accuracies.
CITES: dict[str, tuple[str, ...]] = {
    "published": ("yim2025sadm",),
    "tuned": (),
    "converged": (),
    "sweep": ("li2025ddranking",),
}


class EvaluationProtocol(Options):
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

    name: str
    version: int = 1
    recipe: Recipe
    network: str = "pointnet"
    test_points: int = Field(default=1024, ge=1, le=MOST_POINTS)
    thin: bool = False
    grid: Grid | None = None

    def using(self, network: str) -> "EvaluationProtocol":
        """The protocol with another network.

        Raises:
            InputError: unknown name.
        """
        check_network(network)
        return self.model_copy(update={"network": network})

    def suiting(self, parts: bool) -> "EvaluationProtocol":
        """The protocol for a set with parts or without: networks that label points, or name objects.

        Raises:
            InputError: its network has no sibling that does.
        """
        network = network_for(self.network, parts)
        return self if network == self.network else self.model_copy(update={"network": network})

    def changed(self, **changes: object) -> "EvaluationProtocol":
        """The protocol with fields of its recipe changed; both are then called `name*`. Itself if nothing changes."""
        recipe = self.recipe
        if all(getattr(recipe, field) == value for field, value in changes.items()):
            return self
        renamed = {**recipe.model_dump(), **changes, "name": recipe.name.removesuffix("*") + "*"}
        return self.model_copy(update={"recipe": Recipe(**renamed), "name": self.name.removesuffix("*") + "*"})


def protocol(name: str, network: str = "pointnet", test_points: int = 1024) -> EvaluationProtocol:
    """The protocol around the recipe called `name`.

    Raises:
        InputError: unknown name.
    """
    named = recipe(name)
    return EvaluationProtocol(
        name=name, version=named.version, recipe=named, network=network, test_points=test_points, grid=GRIDS.get(name)
    )


def _bounds(clouds: int, batch: int) -> list[tuple[int, int]]:
    starts = list(range(0, clouds, batch))
    if len(starts) > 1 and clouds - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], clouds], strict=True))

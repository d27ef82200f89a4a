"""Points and bits of clouds for a budget of bytes: by a fitted frontier, or by trial."""

import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.progress import progress
from pcdistill.data import last_split
from pcdistill.evaluation import evaluate
from pcdistill.storage import Storage
from pcdistill.storage.budget import Choose, Shape, Share, Soften, fill
from pcdistill.training.recipe import EvaluationProtocol

POINTS = (32, 64, 128, 256, 512)
BITS = (4, 5, 6, 7, 8)


def cloud_bytes(shape: Shape, coded: bool) -> float:
    """Expected bytes of a cloud: raw, or as the coder was seen to do, two bits a point below the limit of a set."""
    bits = 3.0 * shape.bits
    if coded:
        bits = max(1.0, bits - math.lgamma(shape.points + 1) / math.log(2) / shape.points - 2)
    return shape.points * bits / 8


def ranked(
    bytes_per_class: float,
    sizes: Sequence[int],
    coded: bool,
    points: Sequence[int] = POINTS,
    bits: Sequence[int] = BITS,
) -> list[Shape]:
    """Shapes that a budget can be spent on, the most promising first by the fitted frontier.

    Args:
        bytes_per_class: of coordinates.
        sizes: of the classes of the real set: no more clouds than these can be stored.
        coded: whether codes are entropy-coded.
        points, bits: to choose from.
    """
    guesses = {
        shape: _predicted(bytes_per_class, sizes, shape, coded)
        for shape in (Shape(count, depth) for count in points for depth in bits)
    }
    return sorted(guesses, key=lambda shape: guesses[shape])


def distinct(shape: Shape) -> float:
    """Points of a cloud that codes can tell apart, about: a surface meets some 2 * 4^bits cells of the cube."""
    return shape.points / (1 + shape.points / 2.0 ** (2 * shape.bits + 1))


def _predicted(bytes_per_class: float, sizes: Sequence[int], shape: Shape, coded: bool) -> float:
    """Error, as a fraction, that the fitted frontier expects of a coreset; large where less than a cloud fits."""
    level = bytes_per_class / cloud_bytes(shape, coded)
    if level < 1:
        return 1 + 1 / level
    clouds = sum(min(size, level) for size in sizes) / len(sizes)
    fit, error = _frontier(), 0.0
    for name, size in (("clouds", clouds), ("points", distinct(shape)), ("cells", 2**shape.bits)):
        error += fit[name] * float(size) ** -fit[f"{name}_power"]
    return error


def sides(bytes_per_class: float) -> list[int]:
    """Cells a side of grids that a budget can be spent on, the most promising first, then ever smaller ones.

    A power law through what served best of a few sides in trials on a validation split of ModelNet10
    (docs/notebook/14-voxels.md), from 8 at 123 bytes per class to 12 at 1,229.
    """
    best = round(8 * (bytes_per_class / 123) ** 0.17)
    return list(range(min(24, max(4, best)), 3, -1))


@cache
def _frontier() -> dict[str, float]:
    found: dict[str, float] = json.loads(
        (Path(__file__).parent / "presets" / "frontier.json").read_text(encoding="utf-8")
    )["fit"]
    return found


class Trial(NamedTuple):
    """A shape tried on a validation split."""

    shape: Shape
    clouds: int
    accuracy: float


def measured(
    real: PointClouds,
    nbytes: int,
    shapes: Sequence[Shape],
    kind: type[Storage],
    choose: Callable[[PointClouds, Shape], Choose],
    plan: EvaluationProtocol,
    *,
    share: Callable[[PointClouds, Shape], Share | None] = lambda train, shape: None,
    soften: Soften | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[Trial]:
    """Shapes by the validation accuracy of a network trained on what they make of the budget, the best first.

    The last fifth of every class is held out (`last_split`); nothing else is read.

    Args:
        real: the training set.
        nbytes: of all classes together.
        shapes: to try; those that not even one cloud of fits are left out.
        kind: of storage.
        choose: makes a `Choose` of the clouds that are left to choose from, for a shape.
        plan: of the trials, one network each; its recipe as it is, whatever its grid.
        share: says how many clouds of every class are chosen, likewise; None: see `fill`.
        soften: see `fill`; the networks of the trials see the classes.
        seed: of the networks.
        device: where these are trained.

    Raises:
        InputError: no shape fits, or a class of a single cloud.
    """
    plan = plan.model_copy(update={"grid": None})
    train, held = last_split(real, 0.2)
    trials: list[Trial] = []
    for shape in shapes:
        try:
            filled = fill(train, nbytes, shape, kind, choose(train, shape), share=share(train, shape), soften=soften)
        except InputError:
            if shape == shapes[-1] and not trials:
                raise
            continue
        with torch.no_grad():
            clouds = kind.from_clouds(filled.clouds, filled.budget).decode()
        total = plan.recipe.total_steps(len(clouds))
        with progress(f"trying {shape}", total) as report:
            found = evaluate(clouds, held, plan, seeds=[seed], on_progress=report, device=device)
        trials.append(Trial(shape, len(clouds), found.runs[0].accuracy))
    return sorted(trials, key=lambda trial: -trial.accuracy)

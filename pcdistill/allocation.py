"""Spending a budget of bytes: how many clouds, of how many points, at how many bits, for which class."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.data import last_split
from pcdistill.errors import InputError
from pcdistill.evaluation import evaluate
from pcdistill.progress import progress
from pcdistill.storage import Budget, Storage
from pcdistill.training import Protocol

FLOAT32_CLOUD = 1024 * 3 * 4
"""Bytes of one cloud of the papers ("PPC 1" is one such cloud per class)."""

POWERS = {"even": 0.0, "root": 0.5, "proportional": 1.0}
Sharing = Literal["even", "root", "proportional"]

POINTS = (32, 64, 128, 256, 512)
BITS = (4, 5, 6, 7, 8)

# A budget that is used to this extent is taken for full.
FULL = 0.99

Choose = Callable[[tuple[int, ...], int], PointClouds]  # clouds per class, points -> clouds, class by class
Soften = Callable[[Storage], object]  # gives a storage the soft labels that it will have


class Shape(NamedTuple):
    """Of every cloud: points, and bits per coordinate."""

    points: int
    bits: int


class Filled(NamedTuple):
    """What a budget of bytes was filled with."""

    budget: Budget
    clouds: PointClouds


def counts_at(level: float, sizes: Sequence[int], sharing: Sharing = "even") -> tuple[int, ...]:
    """Clouds of every class: `level` on average, at least one and never more than a class has.

    Args:
        level: clouds of a class of mean size.
        sizes: of the classes of the real set.
        sharing: `even` gives every class the same, `proportional` in proportion to its size, `root` to the root of
            its size. Classes that are used up leave their share to the others, as the level can then rise.
    """
    mean = sum(sizes) / len(sizes)
    return tuple(min(size, max(1, int(level * (size / mean) ** POWERS[sharing] + 1e-9))) for size in sizes)


def fill(
    real: CloudSource,
    nbytes: int,
    shape: Shape,
    kind: type[Storage],
    choose: Choose,
    *,
    sharing: Sharing = "even",
    soften: Soften | None = None,
) -> Filled:
    """As many clouds as fit into `nbytes`, measured on the arrays that the artefact will hold.

    Args:
        real: the set that is chosen from; only its labels are looked at here.
        nbytes: of all classes together.
        shape: of every cloud.
        kind: of storage.
        choose: gives the clouds.
        sharing: see `counts_at`.
        soften: gives soft labels, if there are to be any: how many bytes they take is known only then.

    Raises:
        InputError: not even one cloud of every class fits.
    """
    sizes = torch.bincount(real.hard_labels, minlength=len(real.class_names)).tolist()
    if kind.kept is Storage.kept:  # clouds share numbers, and every class has equally many
        if sharing != "even":
            raise InputError("sharing", f"{sharing} in storage {kind.name}", "even")
        sizes = [min(sizes)] * len(sizes)
    extra = kind.side_bytes + (0 if soften is None else len(sizes))
    one = Budget(1, shape.points, shape.bits, extra)
    tried: dict[tuple[int, ...], int] = {}
    best: Filled | None = None
    level, fits, fails = max(1.0, nbytes / len(sizes) / one.cloud_bytes), 0.0, math.inf
    while True:
        counts = counts_at(level, sizes, sharing)
        if counts not in tried:
            budget = replace(one, clouds_per_class=counts[0] if len(set(counts)) == 1 else counts)
            clouds = choose(counts, shape.points)
            storage = kind.from_clouds(clouds, budget)
            if soften is not None:
                soften(storage)
            tried[counts] = storage.nbytes
            if tried[counts] <= nbytes and (best is None or len(clouds) > len(best.clouds)):
                best = Filled(budget, clouds)
        size = tried[counts]
        fits, fails = (max(fits, level), fails) if size <= nbytes else (fits, min(fails, level))
        if FULL * nbytes < size <= nbytes or (size <= nbytes and counts == tuple(sizes)) or fails <= 1:
            break
        guess = level * nbytes / size
        if fails == math.inf:
            level = max(guess, fits + 1)
        elif not fits:
            level = max(1.0, min(guess, level - 1))
        elif fails - fits < 0.5 * min(sizes) / max(sizes):
            break
        else:
            known = counts_at(guess, sizes, sharing) in tried or not fits < guess < fails
            level = (fits + fails) / 2 if known else guess
    if best is None:
        each = -(-min(tried.values()) // len(sizes))
        wanted = f"about {each:,}, the least for clouds of {shape.points} points at {shape.bits} bits"
        raise InputError("bytes per class", f"{nbytes // len(sizes):,}", wanted)
    return best


def trimmed(storage: Storage, nbytes: int) -> Tensor:
    """Indices of the clouds to keep so that `storage` fits into `nbytes`: the last of the largest classes go first.

    Distilling moves points, and a coded set may come out larger than its first guess.

    Raises:
        InputError: not even one cloud of every class fits, or a storage that cannot leave clouds out.
    """
    counts = torch.bincount(storage.labels)
    starts = counts.cumsum(0) - counts
    index = torch.arange(len(storage))
    while (size := storage.kept(index).nbytes) > nbytes:
        spare = len(index) - len(counts)
        if not spare:
            raise InputError("bytes", f"{nbytes:,} for one cloud of every class", f"{size:,}")
        for _ in range(max(1, min(spare, int(0.9 * len(index) * (1 - nbytes / size))))):
            counts[counts.argmax()] -= 1
        spans = zip(starts.tolist(), counts.tolist(), strict=True)
        index = torch.cat([torch.arange(start, start + count) for start, count in spans])
    return index


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


@cache
def _frontier() -> dict[str, float]:
    found: dict[str, float] = json.loads((Path(__file__).parent / "presets" / "frontier.json").read_text())["fit"]
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
    choose: Callable[[PointClouds], Choose],
    plan: Protocol,
    *,
    sharing: Sharing = "even",
    soften: Soften | None = None,
    seed: int = 0,
) -> list[Trial]:
    """Shapes by the validation accuracy of a network trained on what they make of the budget, the best first.

    The last fifth of every class is held out (`last_split`); nothing else is read.

    Args:
        real: the training set.
        nbytes: of all classes together.
        shapes: to try; those that not even one cloud of fits are left out.
        kind: of storage.
        choose: makes a `Choose` of the clouds that are left to choose from.
        plan: of the trials, one network each; its recipe as it is, whatever its grid.
        sharing, soften: see `fill`; the networks of the trials see the classes.
        seed: of the networks.

    Raises:
        InputError: no shape fits, or a class of a single cloud.
    """
    plan = plan.model_copy(update={"grid": None})
    train, held = last_split(real, 0.2)
    chosen = choose(train)
    trials: list[Trial] = []
    for shape in shapes:
        try:
            filled = fill(train, nbytes, shape, kind, chosen, sharing=sharing, soften=soften)
        except InputError:
            if shape == shapes[-1] and not trials:
                raise
            continue
        with torch.no_grad():
            clouds = kind.from_clouds(filled.clouds, filled.budget).decode()
        total = plan.recipe.total_steps(len(clouds))
        with progress(f"trying {shape.points} points at {shape.bits} bits", total) as report:
            found = evaluate(clouds, held, plan, [seed], report)
        trials.append(Trial(shape, len(clouds), found.runs[0].accuracy))
    return sorted(trials, key=lambda trial: -trial.accuracy)

"""Spending a budget of bytes: how many clouds, of how many points, at how many bits, for which class."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget, Storage

FLOAT32_CLOUD = 1024 * 3 * 4
"""Bytes of one cloud of the papers ("PPC 1" is one such cloud per class)."""

POWERS = {"even": 0.0, "root": 0.5, "proportional": 1.0}
BySize = Literal["even", "root", "proportional"]

# A budget that is used to this extent is taken for full.
FULL = 0.99

Choose = Callable[[tuple[int, ...], int], PointClouds]  # clouds per class, points -> clouds, class by class
Share = Callable[[float], tuple[int, ...]]  # level: clouds of a class on average -> clouds of every class
Soften = Callable[[Storage], object]  # gives a storage the soft labels that it will have


class Shape(NamedTuple):
    """Of every cloud: points, and bits per coordinate or, in a storage of grids, cells a side."""

    points: int
    bits: int
    side: int = 0

    def __str__(self) -> str:
        return f"{self.side} cells a side" if self.side else f"{self.points} points at {self.bits} bits"


class Filled(NamedTuple):
    """What a budget of bytes was filled with."""

    budget: Budget
    clouds: PointClouds
    nbytes: int  # that it takes, of all classes together


def counts_at(level: float, sizes: Sequence[int], quota: BySize = "even") -> tuple[int, ...]:
    """Clouds of every class: `level` on average, at least one and never more than a class has.

    Args:
        level: clouds of a class of mean size.
        sizes: of the classes of the real set.
        quota: `even` gives every class the same, `proportional` in proportion to its size, `root` to the root of
            its size. Classes that are used up leave their share to the others, as the level can then rise.
    """
    mean = sum(sizes) / len(sizes)
    return tuple(min(size, max(1, int(level * (size / mean) ** POWERS[quota] + 1e-9))) for size in sizes)


def counts_within(clouds: int, sizes: Sequence[int], share: Share) -> tuple[int, ...]:
    """Clouds of every class, together at most `clouds`: fewer by some where classes have equal claims to the last ones.

    Args:
        clouds: of all classes together, one of every class at least.
        sizes: of the classes of the real set.
        share: clouds of every class at a level.

    Raises:
        InputError: more clouds than there are.
    """
    if clouds > sum(sizes):
        raise InputError("clouds per class", f"{clouds / len(sizes):g}", f"at most {sum(sizes) / len(sizes):g}")
    low, high = 0.0, clouds + 1.0
    while high - low > 1e-7 * high:  # more than what `counts_at` takes for rounding
        middle = (low + high) / 2
        low, high = (middle, high) if sum(share(middle)) <= clouds else (low, middle)
    return share(low)


def fill(
    real: CloudSource,
    nbytes: int,
    shape: Shape,
    kind: type[Storage],
    choose: Choose,
    *,
    share: Share | None = None,
    soften: Soften | None = None,
) -> Filled:
    """As many clouds as fit into `nbytes`, measured on the arrays that the artefact will hold.

    Args:
        real: the set that is chosen from; only its labels are looked at here.
        nbytes: of all classes together.
        shape: of every cloud.
        kind: of storage.
        choose: gives the clouds.
        share: how many clouds of every class are chosen at a level; None: the same number.
        soften: gives soft labels, if there are to be any: how many bytes they take is known only then.

    Raises:
        InputError: not even one cloud of every class fits.
    """
    sizes = torch.bincount(real.hard_labels, minlength=len(real.class_names)).tolist()
    if kind.kept is Storage.kept:  # clouds share numbers, and every class has equally many
        sizes = [min(sizes)] * len(sizes)
    share = share or partial(counts_at, sizes=sizes)
    most = share(float(sum(sizes)))
    extra = kind.side_bytes + (0 if soften is None else len(sizes))
    one = Budget(1, shape.points, shape.bits, extra, shape.side)
    points = real.points_per_cloud if kind.dense else shape.points
    tried: dict[tuple[int, ...], int] = {}
    best: Filled | None = None
    level, fits, fails = max(1.0, nbytes / len(sizes) / one.cloud_bytes), 0.0, math.inf
    while True:
        counts = share(level)
        if counts not in tried:
            budget = replace(one, clouds_per_class=counts[0] if len(set(counts)) == 1 else counts)
            clouds = choose(counts, points)
            storage = kind.from_clouds(clouds, budget)
            if soften is not None:
                soften(storage)
            tried[counts] = storage.nbytes
            if tried[counts] <= nbytes and (best is None or len(clouds) > len(best.clouds)):
                best = Filled(budget, clouds, tried[counts])
        size = tried[counts]
        fits, fails = (max(fits, level), fails) if size <= nbytes else (fits, min(fails, level))
        if FULL * nbytes < size <= nbytes or (size <= nbytes and counts == most) or fails <= 1:
            break
        guess = level * nbytes / size
        if fails == math.inf:
            level = max(guess, fits + 1)
        elif not fits:
            level = max(1.0, min(guess, level - 1))
        elif fails - fits < 0.5 * min(sizes) / max(sizes):
            break
        else:
            known = share(guess) in tried or not fits < guess < fails
            level = (fits + fails) / 2 if known else guess
    if best is None:
        each = -(-min(tried.values()) // len(sizes))
        wanted = f"about {each:,}, the least for clouds of {shape}"
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

"""What families of procedural objects share: legs, backs, boards, and the names of parts."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from pcdistill.data.procedural.solids import SQUARE, Array, arc, box, cone, moved, ring, tube

Rng = np.random.Generator
Piece = tuple[str, Array]  # name of a part, and one of its solids


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def named(name: str, solids: Iterable[Array]) -> list[Piece]:
    """Solids of one part."""
    return [(name, solid) for solid in solids]


def legs(rng: Rng, width: float, depth: float, height: float) -> list[Array]:
    """Four legs, straight or splayed, square or round, with or without stretchers."""
    thick, sides = rng.uniform(0.015, 0.045), int(rng.choice([4, 8]))
    top, foot = rng.uniform(0.75, 0.95), rng.uniform(0.8, 1.1)
    corner = SQUARE * (width, depth)
    parts = [tube([(*top * c, height), (*foot * c, 0)], (thick, thick * 0.8), sides) for c in corner]
    if chance(rng, 0.35):
        low = rng.uniform(0.1, 0.5)
        ends = np.column_stack([corner * (foot + low * (top - foot)), np.full(4, low * height)])
        parts += [tube(ends[[i, i - 1]], thick * 0.7, sides) for i in range(4)]
    return parts


def pedestal(rng: Rng, height: float, spread: float) -> list[Array]:
    """One column on a plate or on a star of feet."""
    column = rng.uniform(0.02, 0.06)
    if chance(rng, 0.5):
        foot = [cone(spread, spread * rng.uniform(0.3, 1), rng.uniform(0.02, 0.06))]
    else:
        rise = rng.uniform(0.03, 0.2) * height
        star = spread * ring(int(rng.integers(3, 6)))
        foot = [tube([(0, 0, rise), (*tip, 0)], column * 0.6) for tip in star]
    return [cone(column, column * rng.uniform(0.7, 1.6), height), *foot]


def panels(rng: Rng, width: float, depth: float, height: float) -> list[Array]:
    """Two side walls, sometimes joined by a third."""
    thick, inset = rng.uniform(0.02, 0.06), rng.uniform(0.75, 1)
    side = inset * (width - thick) / 2
    parts = [box(thick, depth * inset, height, (x, 0, 0)) for x in (-side, side)]
    if chance(rng, 0.4):
        tall = rng.uniform(0.3, 1) * height
        parts.append(box(2 * side, thick, tall, (0, rng.uniform(0, 0.4) * depth, height - tall)))
    return parts


def support(rng: Rng, width: float, depth: float, height: float) -> list[Array]:
    """What carries a seat or a table top."""
    style = rng.random()
    if style < 0.55:
        return legs(rng, width, depth, height)
    if style < 0.8:
        return pedestal(rng, height, rng.uniform(0.3, 0.5) * min(width, depth))
    return panels(rng, width, depth, height)


def backrest(rng: Rng, width: float, height: float, at: ArrayLike) -> list[Array]:
    """An upright for chairs and beds along x: a panel, a bow, or bars between two posts."""
    thick = rng.uniform(0.015, 0.06)
    style = rng.choice(["panel", "bow", "rungs", "bars"])
    if style == "panel":
        parts = [box(width, thick, height)]
    elif style == "bow":
        half = width / 2
        bow = arc(0, 180) * (half, 0, height / 2) + (0, 0, height / 2)
        parts = [tube([(half, 0, 0), *bow, (-half, 0, 0)], thick / 2 + 0.005)]
        parts += [box(width, thick / 2, 0.4 * height, (0, 0, 0.4 * height))] if chance(rng, 0.5) else []
    else:
        count, post = int(rng.integers(2, 7)), rng.uniform(0.02, 0.06)
        parts = [box(post, thick, height, (x, 0, 0)) for x in (-(width - post) / 2, (width - post) / 2)]
        if style == "rungs":
            bar = rng.uniform(0.3, 0.8) * height / count
            parts += [box(width, thick, bar, (0, 0, (i + 1) * height / count - bar)) for i in range(count)]
        else:
            bar = rng.uniform(0.2, 0.7) * width / count
            places = np.linspace(-0.5, 0.5, count + 2)[1:-1] * width
            parts += [box(bar, thick / 2, height, (x, 0, 0)) for x in places]
            parts.append(box(width, thick, 0.12 * height, (0, 0, 0.88 * height)))
    return [moved(part, at) for part in parts]


def boards(rng: Rng, width: float, depth: float, height: float, levels: int) -> list[Piece]:
    """Boards between walls or posts, with back, divider, one door and books as the draw has it."""
    thick = rng.uniform(0.015, 0.05)
    floors = np.linspace(0, height, levels + 1)
    parts = named("board", (box(width, depth, thick, (0, 0, z)) for z in floors))
    if chance(rng, 0.7):
        parts += named("side", (box(thick, depth, height, (x, 0, 0)) for x in (-width / 2, width / 2)))
    else:
        parts += named("side", (box(thick, thick, height, (*c, 0)) for c in SQUARE * (width, depth)))
    if chance(rng, 0.6):
        parts.append(("back", box(width, thick / 2, height, (0, depth / 2, 0))))
    if chance(rng, 0.3):
        parts.append(("side", box(thick, depth, height, (rng.uniform(-0.3, 0.3) * width, 0, 0))))
    if chance(rng, 0.25):
        parts.append(("door", box(width, thick, height / levels, (0, -depth / 2, 0))))
    gap = height / levels
    for z in floors[:-1] if chance(rng, 0.5) else ():
        row = rng.uniform(0.2, 0.9) * width
        parts.append(("books", box(row, 0.7 * depth, rng.uniform(0.4, 0.9) * gap, ((row - width) / 2, 0, z))))
    return parts

"""`shapes`: the embedded data set, ten families of procedural objects that need no download.

A family is a function that draws proportions, part counts and styles from a generator and returns the
parts of one object with their names, z up, front towards -y, in metres or so. `cloud` poses it and samples its surface.
`shapes_parts` is the same set, whose points say which of the `PARTS` they belong to.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest
from pcdistill.data.procedural.furniture import (
    Piece,
    Rng,
    backrest,
    boards,
    chance,
    legs,
    named,
    panels,
    pedestal,
    support,
)
from pcdistill.data.procedural.solids import (
    ROUND,
    SQUARE,
    Array,
    arc,
    ball,
    box,
    cone,
    lathe,
    loft,
    moved,
    prism,
    ring,
    sample,
    tube,
)

TRAIN_PER_CLASS = 100
TEST_PER_CLASS = 40
_STREAMS = {"train": 0, "test": 1}


# --- families -------------------------------------------------------------------------------------


def wing(root: float, tip: float, span: float, sweep: float, rise: float) -> Array:
    """Both halves of a wing by its chords; `sweep` and `rise` say how far the tips lie aft and above."""
    section = np.array([(0, 0, 0), (0, 0.3, 0.06), (0, 1, 0), (0, 0.3, -0.06)])
    halves = [((-span, sweep, rise), tip), ((0, 0, 0), root), ((span, sweep, rise), tip)]
    return loft(np.array([chord * section + place for place, chord in halves]))


def airplane(rng: Rng) -> list[Piece]:
    """Fuselage along y, nose towards -y, with swept wings, tail, and engines."""
    girth, nose, tail = rng.uniform(0.04, 0.11), rng.uniform(0.05, 0.3), rng.uniform(0.5, 0.8)
    hull = [(0, 0), (0.5, nose * 0.3), (1, nose), (1, tail), (rng.uniform(0.1, 0.5), 1), (0, 1)]
    body = lathe(np.array(hull) * (girth, 1)) * (1, rng.uniform(0.8, 1.3), 1)
    root, span = rng.uniform(0.12, 0.4), rng.uniform(0.3, 0.65)
    tip, sweep = root * rng.uniform(0.25, 1), rng.uniform(-0.03, 0.35)
    at, lift = rng.uniform(0.25, 0.45), rng.uniform(-0.8, 0.8) * girth
    parts = [
        ("body", body[..., [0, 2, 1]]),
        ("wing", moved(wing(root, tip, span, sweep, rng.uniform(-0.02, 0.12)), (0, at, lift))),
    ]
    if chance(rng, 0.2):  # Biplane.
        parts.append(("wing", moved(wing(root, tip, span, sweep, 0), (0, at, lift + 2.2 * girth))))
    small, high = rng.uniform(0.3, 0.5) * span, rng.uniform(0.12, 0.28)
    parts.append(("tail", moved(wing(0.13, 0.08, small, 0.08, 0.02), (0, 0.84, high * chance(rng, 0.3)))))
    fin = wing(0.2, 0.1, high, 0.1, 0)[8:]  # The half towards +x, set upright.
    parts.append(("tail", moved(fin[..., [2, 1, 0]], (0, 0.8, 0))))
    engine = cone(0.4 * girth, 0.35 * girth, rng.uniform(0.1, 0.2))[..., [0, 2, 1]]
    for i in range(int(rng.integers(0, 3))):
        x = span * (0.3 + 0.3 * i)
        sides = ((s * x, at - 0.06 + sweep * x / span, lift - girth / 2) for s in (-1, 1))
        parts += named("engine", (moved(engine, side) for side in sides))
    return parts


def bed(rng: Rng) -> list[Piece]:
    """Mattress on legs or a block, head towards +y, with head- and footboard, pillows, canopy."""
    width, length, low = rng.uniform(0.8, 2), rng.uniform(1.8, 2.2), rng.uniform(0.1, 0.4)
    thick, head = rng.uniform(0.12, 0.35), rng.uniform(0.2, 0.9)
    parts = [("mattress", box(width, length, thick, (0, 0, low)))]
    feet = legs(rng, width, length, low) if chance(rng, 0.5) else [box(0.96 * width, 0.96 * length, low)]
    parts += named("leg", feet)
    if chance(rng, 0.95):
        parts += named("back", backrest(rng, width, low + thick + head, (0, length / 2, 0)))
    if chance(rng, 0.4):
        foot = backrest(rng, width, low + thick + head * rng.uniform(0.1, 0.8), (0, -length / 2, 0))
        parts += named("back", foot)
    pillows = int(rng.integers(0, 3)) if width > 1.2 else int(rng.integers(0, 2))
    for i in range(pillows):
        x = width * ((i + 0.5) / pillows - 0.5)
        pillow = ball((0.4 * width / pillows, 0.2, 0.1), (x, length / 2 - 0.3, low + thick + 0.05))
        parts.append(("cushion", pillow))
    if chance(rng, 0.15):
        tall = rng.uniform(1.6, 2.2)
        parts += named("canopy", (tube([(*c, 0), (*c, tall)], 0.03) for c in SQUARE * (width, length)))
        parts.append(("canopy", box(width, length, 0.05, (0, 0, tall))))
    return parts


def bottle(rng: Rng) -> list[Piece]:
    """Body, shoulder, neck and cap; round, square or flat; sometimes with a waist or a grip."""
    body, neck = rng.uniform(0.1, 0.3), rng.uniform(0.025, 0.07)
    base, shoulder = rng.uniform(0.3, 0.7), rng.uniform(0.03, 0.3)
    rise = base + shoulder + rng.uniform(0.05, 0.3)
    waist, foot = rng.uniform(0.75, 1.05), rng.uniform(0.7, 1)
    bulge = rng.uniform(0.2, 0.9)
    profile = [(0, 0), (foot * body, 0), (body, 0.12 * base), (waist * body, 0.55 * base), (body, base)]
    profile += [(neck + bulge * (body - neck), base + shoulder / 2), (neck, base + shoulder)]
    profile += [(neck, rise), (0, rise)]
    outline = ring(4) if chance(rng, 0.2) else ROUND * (1, rng.uniform(0.5, 1) if chance(rng, 0.4) else 1)
    parts = [("body", lathe(profile, outline))]
    if chance(rng, 0.5):
        cap = neck * rng.uniform(1.1, 1.6)
        parts.append(("cap", cone(cap, cap * rng.uniform(0.6, 1), rng.uniform(0.03, 0.1), (0, 0, rise - 0.02))))
    if chance(rng, 0.15):
        grip = arc(90, -90) * (0.5 * body, 0, 0.2) + (body * 0.8, 0, base)
        parts.append(("handle", tube(grip, 0.02)))
    return parts


def chair(rng: Rng) -> list[Piece]:
    """Seat, back towards +y, a base of any kind, sometimes arms."""
    width, depth = rng.uniform(0.36, 0.65, 2)
    seat, thick, back = rng.uniform(0.3, 0.6), rng.uniform(0.02, 0.14), rng.uniform(0.25, 0.8)
    outline = ROUND / 2 if chance(rng, 0.3) else SQUARE
    parts = [("seat", moved(prism(thick, outline * (width, depth)), (0, 0, seat)))]
    parts += named("leg", support(rng, width, depth, seat))
    panel = backrest(rng, width * rng.uniform(0.8, 1), back, (0, depth / 2 - 0.03, seat))
    slope = rng.uniform(-0.02, 0.35)
    parts += named("back", (part + slope * (part[..., 2:] - seat) * (0, 1, 0) for part in panel))
    if chance(rng, 0.4):
        high, reach = seat + thick + rng.uniform(0.12, 0.28), rng.uniform(0.5, 1) * depth
        for x in (-width / 2, width / 2):
            start, end = (x, depth / 2, high), (x, depth / 2 - reach, high)
            parts.append(("arm", tube([start, end, (*end[:2], seat)], rng.uniform(0.015, 0.035))))
    return parts


def desk(rng: Rng) -> list[Piece]:
    """A rectangular top with drawers or walls below, sometimes a return, a screen or a hutch above."""
    width, depth, height = rng.uniform(1, 2), rng.uniform(0.5, 0.9), rng.uniform(0.65, 0.85)
    parts = [("top", box(width, depth, rng.uniform(0.02, 0.07), (0, 0, height)))]
    sides = rng.permutation([-1, 1])[: int(rng.integers(1, 3))]
    for side in sides:
        block, low = rng.uniform(0.3, 0.5), rng.uniform(0, 0.45) * height
        x = side * (width - block) / 2
        parts.append(("drawer", box(block, depth * 0.95, height - low, (x, 0, low))))
        for z in np.linspace(low, height, int(rng.integers(2, 5)), endpoint=False):
            parts.append(("handle", box(0.4 * block, 0.04, 0.03, (x, -depth / 2, z + 0.1))))
    feet = panels(rng, width, depth, height) if chance(rng, 0.5) else legs(rng, width, depth, height)
    parts += named("leg", feet)
    if chance(rng, 0.3):
        wing, x = rng.uniform(0.4, 1), rng.choice([-1, 1]) * (width / 2 - 0.25)
        parts.append(("top", box(0.5, wing, 0.04, (x, -(depth + wing) / 2, height))))
        place = (x, 0.1 - depth / 2 - wing, 0)
        parts += named("leg", (moved(leg, place) for leg in legs(rng, 0.4, 0.1, height)))
    if chance(rng, 0.3):
        hutch = boards(rng, width, 0.25, rng.uniform(0.3, 0.7), levels=int(rng.integers(1, 4)))
        parts += [(name, moved(part, (0, depth / 2 - 0.13, height))) for name, part in hutch]
    elif chance(rng, 0.4):
        x, screen = rng.uniform(-0.2, 0.2) * width, rng.uniform(0.4, 0.7)
        parts.append(("screen", box(screen, 0.04, 0.6 * screen, (x, 0.1, height + 0.15))))
        parts.append(("screen", box(0.08, 0.08, 0.2, (x, 0.1, height))))
    return parts


def lamp(rng: Rng) -> list[Piece]:
    """Shade on a foot with a straight, bowed or jointed stem, on a vase, or hung from a ceiling."""
    tall, wide = rng.uniform(0.4, 1.6), rng.uniform(0.12, 0.35)
    deep, narrow = rng.uniform(0.12, 0.4), wide * rng.uniform(0.2, 1)
    style = rng.choice(["bowed", "jointed", "vase", "hung", "straight"])
    reach = rng.uniform(0.2, 0.6) if style in ("bowed", "jointed") else 0.0
    end = np.array([reach, 0, tall])
    stem: list[ArrayLike] = [(0, 0, 0), end]
    if style == "bowed":
        stem = [(0, 0, 0), *(arc(180, 0) * (reach / 2, 0, 0.3) + (reach / 2, 0, tall))]
    elif style == "jointed":
        stem = [(0, 0, 0), (-0.5 * reach, 0, 0.6 * tall), end]
    parts = [("stem", tube(np.array(stem), rng.uniform(0.01, 0.03)))]
    if style == "vase":
        belly = rng.uniform(0.06, 0.2)
        vase = lathe([(0, 0), (0.6 * belly, 0), (belly, 0.25), (0.5 * belly, 0.45), (0, 0.55)])
        parts.append(("base", vase))
    elif style == "hung":
        parts.append(("base", cone(0.1, 0.07, 0.04, end)))
        end = np.array([0, 0, rng.uniform(0, 0.1)])
    else:
        parts += named("base", pedestal(rng, 0.05, rng.uniform(0.1, 0.25)))
    if chance(rng, 0.7):
        shade = lathe([(wide, -deep), (narrow, 0)], ring(4) if chance(rng, 0.2) else ROUND)
    else:
        shade = ball((wide, wide, deep / 2), (0, 0, 0))
    return [*parts, ("shade", moved(shade, end))]


def mug(rng: Rng) -> list[Piece]:
    """Open vessel with inner wall and a handle, from espresso cup on a saucer to beer mug."""
    low, high, tall = rng.uniform(0.2, 0.5), rng.uniform(0.35, 0.55), rng.uniform(0.45, 1.2)
    belly, wall = rng.uniform(-0.06, 0.1), 0.04
    middle = (low + high) / 2 + belly
    outer = [(0, 0), (low, 0), (middle, tall / 2), (high, tall)]
    inner = [(high - wall, tall), (middle - wall, tall / 2), (low - wall, wall), (0, wall)]
    parts = [("body", lathe(outer + inner))]
    span, out, thick = rng.uniform(0.3, 0.7) * tall, rng.uniform(0.2, 0.45), rng.uniform(0.03, 0.07)
    angular = chance(rng, 0.3)
    bend = np.array([(0, 0, 1), (1, 0, 0.9), (1, 0, -0.9), (0, 0, -1)]) if angular else arc(90, -90)
    for side in (1, -1) if chance(rng, 0.1) else (1,):
        handle = tube(bend * (out, 0, span / 2) + ((low + high) / 2 * 0.95, 0, tall * 0.5), thick)
        parts.append(("handle", handle * (side, 1, 1)))
    if chance(rng, 0.25):
        plate = rng.uniform(0.6, 0.9)
        saucer = lathe([(0, -0.02), (plate * 0.5, -0.02), (plate, 0.06), (plate * 0.5, 0), (0, 0)])
        parts.append(("saucer", saucer))
    if chance(rng, 0.15):
        parts.append(("spoon", tube([(0, 0, wall), (rng.uniform(-0.5, 0), 0.2, tall * 1.3)], 0.03)))
    return parts


def shelf(rng: Rng) -> list[Piece]:
    """Bookshelves and cabinets."""
    size = rng.uniform(0.4, 1.6), rng.uniform(0.22, 0.5), rng.uniform(0.8, 2.2)
    return boards(rng, *size, levels=int(rng.integers(2, 7)))


def sofa(rng: Rng) -> list[Piece]:
    """Seat block with back and arms, one to four places, sometimes cushions or a chaise."""
    places = int(rng.integers(1, 5))
    width, depth = 0.25 + places * rng.uniform(0.5, 0.7), rng.uniform(0.7, 1)
    low, seat, back = rng.uniform(0.02, 0.18), rng.uniform(0.2, 0.35), rng.uniform(0.25, 0.6)
    arm, thick = rng.uniform(0.08, 0.25), rng.uniform(0.12, 0.28)
    top = low + seat
    parts = [("seat", box(width, depth, seat, (0, 0, low))), *named("leg", legs(rng, width, depth, low))]
    upright = box(width, thick, back, (0, (depth - thick) / 2, top))
    parts.append(("back", upright + rng.uniform(0, 0.3) * (upright[..., 2:] - top) * (0, 1, 0)))
    high = rng.uniform(0.08, min(0.35, back))
    for x in (-(width + arm) / 2, (width + arm) / 2) if chance(rng, 0.85) else ():
        parts.append(("arm", box(arm, depth, top + high - low, (x, 0, low))))
        if chance(rng, 0.4):
            roll = tube([(x, -depth / 2, top + high), (x, depth / 2, top + high)], 0.6 * arm, 12)
            parts.append(("arm", roll))
    for x in (np.arange(places) + 0.5) * width / places - width / 2 if chance(rng, 0.6) else ():
        parts.append(("cushion", box(0.9 * width / places, depth - thick, 0.1, (x, -thick / 2, top))))
        if chance(rng, 0.4):
            parts.append(("cushion", ball((0.2, 0.1, 0.18), (x, depth / 2 - thick - 0.08, top + 0.25))))
    if places > 1 and chance(rng, 0.25):
        side, reach = rng.choice([-1, 1]), rng.uniform(0.4, 0.9)
        parts.append(("seat", box(0.7, reach, seat, (side * (width / 2 - 0.35), -(depth + reach) / 2, low))))
    return parts


def table(rng: Rng) -> list[Piece]:
    """Dining, side and coffee tables: any top on any support, sometimes a lower shelf."""
    width, depth, height = rng.uniform(0.6, 1.8), rng.uniform(0.6, 1), rng.uniform(0.3, 1)
    outline = [SQUARE, SQUARE, ROUND / 2, ring(int(rng.integers(5, 9))) / 2][rng.integers(4)]
    size = (width, depth)
    parts = [
        ("top", moved(prism(rng.uniform(0.02, 0.1), outline * size), (0, 0, height))),
        *named("leg", support(rng, *size, height)),
    ]
    if chance(rng, 0.25):
        inset, low = rng.uniform(0.6, 0.9), rng.uniform(0.15, 0.5)
        parts.append(("board", moved(prism(0.03, outline * size * inset), (0, 0, low * height))))
    if chance(rng, 0.2):
        x, y = rng.uniform(-0.2, 0.2, 2)
        vase = lathe([(0, 0), (0.06, 0), (0.1, 0.12), (0.05, 0.2), (0.08, 0.26)])
        parts.append(("vase", moved(vase, (x, y, height))))
    return parts


Family = Callable[[Rng], list[Piece]]
FAMILIES: dict[str, Family] = {
    "airplane": airplane, "bed": bed, "bottle": bottle, "chair": chair, "desk": desk,
    "lamp": lamp, "mug": mug, "shelf": shelf, "sofa": sofa, "table": table,
}  # fmt: skip
CLASS_NAMES = tuple(FAMILIES)
# Of every family; some stand on the same legs.
PARTS = {
    "airplane": ("body", "wing", "tail", "engine"),
    "bed": ("mattress", "leg", "back", "cushion", "canopy"),
    "bottle": ("body", "cap", "handle"),
    "chair": ("seat", "leg", "back", "arm"),
    "desk": ("top", "leg", "drawer", "handle", "screen", "board", "side", "back", "door", "books"),
    "lamp": ("stem", "base", "shade"),
    "mug": ("body", "handle", "saucer", "spoon"),
    "shelf": ("board", "side", "back", "door", "books"),
    "sofa": ("seat", "leg", "back", "arm", "cushion"),
    "table": ("top", "leg", "board", "vase"),
}
_NAMES = tuple(dict.fromkeys(name for own in PARTS.values() for name in own))
PART_NAMES = PartNames(_NAMES, tuple(tuple(sorted(map(_NAMES.index, own))) for own in PARTS.values()))


# --- clouds ---------------------------------------------------------------------------------------


def pose(rng: Rng) -> Array:
    """`(3, 3)` stretch along the axes, tilt, and turn about z: slight, but any angle once in twenty."""
    turn = rng.uniform(-np.pi, np.pi) if chance(rng, 0.05) else rng.normal(0, 0.15)
    tilt_x, tilt_y = rng.normal(0, 0.05, 2)
    stretch = np.exp(rng.normal(0, 0.12, 3))
    posed: Array = rotation(2, turn) @ rotation(0, tilt_x) @ rotation(1, tilt_y) * stretch
    return posed


def rotation(axis: int, angle: float) -> Array:
    turned, (i, j) = np.eye(3), np.delete(np.arange(3), axis)
    turned[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return turned


def mesh(family: Family, key: Sequence[int]) -> list[Piece]:
    """The object that the integers `key` name: triangles `(T, 3, 3)` of its parts, in no particular size."""
    # A stream of its own: the object stays the same whatever the number of points sampled from it.
    shaping = np.random.default_rng([*key, 0])
    parts, turn = family(shaping), pose(shaping)
    return [(name, part @ turn.T) for name, part in parts]


def cloud(family: Family, points: int, key: Sequence[int]) -> tuple[Array, NDArray[np.int64]]:
    """`(points, 3)` of the object that the integers `key` name, centred, in the unit sphere, z up; and their parts."""
    pieces = mesh(family, key)
    xyz, owner = sample([solid for _, solid in pieces], points, np.random.default_rng([*key, 1]))
    xyz -= xyz.mean(axis=0)
    xyz /= max(np.linalg.norm(xyz, axis=1).max(), 1e-12)  # A single point stays at the origin.
    return xyz, np.array([_NAMES.index(name) for name, _ in pieces])[owner]


def generate(
    split: str, clouds_per_class: int | None = None, points: int = 1024, seed: int = 0, parts: bool = False
) -> PointClouds:
    """The `shapes` data set: ten classes of procedural objects, ordered by class.

    Cloud i of a class depends on `seed`, `split`, the class and i alone: asking for fewer clouds gives
    the first ones, and another number of points samples the same objects.

    Args:
        split: `train` or `test`, two streams without a common object.
        clouds_per_class: default `TRAIN_PER_CLASS` or `TEST_PER_CLASS`.
        points: points per cloud.
        seed: non-negative; another seed is another data set of the same kind.
        parts: whether points say what they are parts of, as those of `shapes_parts`; they are the same points.

    Returns:
        `(10 * clouds_per_class, points, 3)` float32, centred, in the unit sphere, z up.

    Raises:
        InputError: unknown split, a count below 1, a negative seed.
    """
    if split not in _STREAMS:
        raise InputError("shapes", f"split {nearest(split, _STREAMS)}", "one of " + ", ".join(_STREAMS))
    if clouds_per_class is None:
        clouds_per_class = TRAIN_PER_CLASS if split == "train" else TEST_PER_CLASS
    limits = {"clouds_per_class": (clouds_per_class, 1), "points": (points, 1), "seed": (seed, 0)}
    for name, (value, least) in limits.items():
        if value < least:
            raise InputError("shapes", f"{name} {value}", f"at least {least}")
    found = [
        cloud(family, points, (seed, _STREAMS[split], label, index))
        for label, family in enumerate(FAMILIES.values())
        for index in range(clouds_per_class)
    ]
    name = "shapes_parts" if parts else "shapes"
    clouds = PointClouds(
        torch.from_numpy(np.stack([xyz for xyz, _ in found]).astype(np.float32)),
        torch.arange(len(FAMILIES)).repeat_interleave(clouds_per_class),
        CLASS_NAMES,
        {"name": name, "split": split, "source": f"{name} (procedural)", "licence": "CC0-1.0",
         "up_axis": "z", "seed": seed},
    )  # fmt: skip
    if not parts:
        return clouds
    labels = torch.from_numpy(np.stack([own for _, own in found]))
    return replace(clouds, parts=labels, part_names=PART_NAMES)

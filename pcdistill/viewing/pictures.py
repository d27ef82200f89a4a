"""The gallery: a labelled sheet of point clouds, written as PNG."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.viewing import splat
from pcdistill.viewing.exhibit import Exhibit, Shades, chosen, real_shades, shades, upright
from pcdistill.viewing.open3d import offscreen
from pcdistill.viewing.scene import Floats, Tile, height_colours, make_tiles, shadow
from pcdistill.viewing.sheet import THEMES, Legend, Pixels, Row, lay_out, on_shadow

Background = Literal["white", "dark", "transparent"]
Renderer = Literal["auto", "open3d", "builtin"]
Render = Callable[[Sequence[Tile], float, int], Iterator[Pixels]]
Result = TypeVar("Result")

GREY = (0.62, 0.63, 0.66)  # of real clouds, where a colouring says nothing of them


@dataclass(frozen=True)
class Strip:
    """Clouds that are a row of every class.

    Args:
        note: small print beside the rows.
        points: `(T, N, P, 3)` float32, z up; T is 1 for clouds that stand still.
        colours: as many, sRGB in [0, 1].
    """

    note: str
    points: Floats
    colours: Floats


def gallery(
    clouds: PointClouds,
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
    background: Background = "white",
    renderer: Renderer = "auto",
    title: str | None = None,
    initial: PointClouds | None = None,
    tile: int = 220,
) -> str:
    """Write a PNG of the first clouds of every class and return the name of the renderer used.

    Classes are rows (those without clouds are left out), clouds are columns. Points are spheres coloured by
    height within their cloud; camera, light and scale are the same in every tile.

    Args:
        clouds: decoded clouds, in the frame their provenance names (`up_axis`, z by default).
        path: of the PNG, written atomically.
        columns: most clouds shown per class.
        background: colour of the paper; transparent for a page that is white, or nearly so.
        renderer: "open3d" (and "auto") draws in a process of its own; when that fails, for whatever
            reason, one line on stderr says why and the builtin renderer draws instead.
        title: a line of text on top.
        initial: what `clouds` were distilled from, cloud by cloud; shown as a row above each class's own.
        tile: side of one cloud's picture in pixels.

    Raises:
        InputError: for an unknown renderer or background, columns or tile out of range, or `initial` with
            other classes or other numbers of clouds.
        OSError: when `path` cannot be written; nothing is left behind then.
    """
    if columns < 1:
        raise InputError("columns", str(columns), "at least 1")
    check(background, renderer, tile)
    if initial is not None:
        _check_pair(clouds, initial)
    check_writable(path)
    sets = [("", clouds)] if initial is None else [("initial", initial), ("distilled", clouds)]
    shown = [whole[chosen(whole, (), columns)] for _, whole in sets]
    strips = []
    for (note, _), part in zip(sets, shown, strict=True):
        points = array(upright(part.points, str(part.provenance.get("up_axis", "z"))))[None]
        strips.append(Strip(note, points, np.stack([height_colours(cloud[:, 2]) for cloud in points[0]])[None]))
    return _write(shown[-1], strips, path, background, renderer, title, None, tile)


def picture(
    exhibit: Exhibit,
    path: str | os.PathLike[str],
    *,
    colouring: str = "height",
    initial: bool = False,
    background: Background = "white",
    renderer: Renderer = "auto",
    tile: int = 220,
) -> str:
    """Write a gallery of an exhibit, all its clouds, by any colouring, and return the name of the renderer used.

    Each class has a row of its clouds, one of the nearest real clouds below it if the exhibit has them, and one of the
    first guesses above it if `initial`.

    Raises:
        InputError: as `gallery` and `shades`.
        OSError: when `path` cannot be written; nothing is left behind then.
    """
    check(background, renderer, tile)
    check_writable(path)
    strips, legend = strips_of(exhibit, colouring, initial)
    return _write(exhibit.clouds, strips, path, background, renderer, exhibit.title, legend, tile)


def strips_of(
    exhibit: Exhibit, colouring: str, initial: bool = False, places: Sequence[float] | None = None
) -> tuple[list[Strip], Legend | None]:
    """The rows of a class, and what their colours say if it is not the height.

    Args:
        exhibit, colouring, initial: as in `picture`.
        places: T places on the way from the first of its frames (0) to the last (their number less 1) where the
            clouds are taken, straight between two frames; the last one if not given.

    Raises:
        InputError: as `shades`.
    """
    found = shades(exhibit, colouring)
    frames, shares = array(torch.stack(exhibit.frames)), array(found.shares)
    places = [len(frames) - 1] if places is None else places
    strips = []
    if initial:
        strips.append(Strip("initial", frames[:1], found.painted(shares[:1])))
    note = ("distilled" if len(frames) > 1 else "the set") if initial or exhibit.real else ""
    strips.append(Strip(note, between(frames, places), found.painted(between(shares, places))))
    if exhibit.real is not None:
        strips.append(_real_strip(exhibit, colouring, found))
    return strips, None if colouring == "height" else Legend(found.label, found.low, found.high, found.names)


def between(frames: Floats, places: Sequence[float]) -> Floats:
    """`(T, ...)`: what lies at these places on the straight ways between frames `(S, ...)`, which are 0 to S - 1."""
    where = np.asarray(places, dtype=np.float32)
    before = np.minimum(where.astype(np.int64), max(len(frames) - 2, 0))
    share = (where - before).reshape(-1, *(1,) * (frames.ndim - 1))
    after = np.minimum(before + 1, len(frames) - 1)
    return np.asarray(frames[before] * (1 - share) + frames[after] * share, dtype=np.float32)


def _real_strip(exhibit: Exhibit, colouring: str, told: Shades) -> Strip:
    """The nearest real clouds, thinned; grey where the colours compare with them or with the first guess."""
    assert exhibit.real is not None
    points = array(exhibit.real.nearest.points)[None]
    found = real_shades(exhibit, colouring)
    grey = np.broadcast_to(np.array(GREY, dtype=np.float32), points.shape)
    return Strip("nearest real", points, grey if found is None else told.painted(array(found)[None]))


def array(tensor: Tensor) -> Floats:
    """The values of a tensor, without its gradient."""
    found: Floats = tensor.detach().cpu().numpy()
    return found


def _write(
    clouds: PointClouds,
    strips: Sequence[Strip],
    path: str | os.PathLike[str],
    background: str,
    renderer: str,
    title: str | None,
    legend: Legend | None,
    tile: int,
) -> str:
    """The sheet of what stands still; labels are those of `clouds`, in the order of the strips' clouds."""
    theme = THEMES[background]
    rows, order = rows_of(clouds, strips)
    tiles, focal = make_tiles(
        [strips[strip].points[0, cloud] for strip, cloud in order], theme.paper,
        [strips[strip].colours[0, cloud] for strip, cloud in order],
    )  # fmt: skip
    sheet = lay_out(rows, tile, theme, title, legend)
    image, used = drawn_by(renderer, lambda render: sheet.filled(on_shadows(render, tiles, focal, tile)))
    with atomic(path) as temporary:
        image.save(temporary, format="PNG", optimize=False)
    return used


def rows_of(clouds: PointClouds, strips: Sequence[Strip]) -> tuple[list[Row], list[tuple[int, int]]]:
    """The rows of a sheet, and of every tile on it the strip and the cloud."""
    rows, order = [], []
    for label, name in enumerate(clouds.class_names):
        members = (clouds.hard_labels == label).nonzero()[:, 0].tolist()
        for number, strip in enumerate(strips if members else ()):
            rows.append(Row(name, strip.note, len(members)))
            order += [(number, cloud) for cloud in members]
    return rows, order


def on_shadows(render: Render, tiles: Sequence[Tile], focal: float, size: int) -> Iterator[Pixels]:
    """Pictures of the tiles, each over its shadow, as they are drawn."""
    for tile, drawn in zip(tiles, render(tiles, focal, size), strict=True):
        yield on_shadow(drawn, shadow(tile, focal, size))


def drawn_by(renderer: str, draw: Callable[[Render], Result]) -> tuple[Result, str]:
    """What `draw` makes with a renderer, and which: all is drawn anew by the builtin one if Open3D fails on the way."""
    if renderer != "builtin" and find_spec("open3d") is None:
        sys.stderr.write("pcdistill: drawing with the builtin renderer, Open3D is not installed\n")
    elif renderer != "builtin":
        try:
            return draw(offscreen.render), "open3d"
        except offscreen.RenderFailure as reason:
            sys.stderr.write(f"pcdistill: drawing with the builtin renderer, Open3D failed: {reason}\n")
    return draw(splat.render), "builtin"


def check(background: str, renderer: str, tile: int) -> None:
    """That these are what pictures can be made with.

    Raises:
        InputError: if not.
    """
    if not 32 <= tile <= 2048:
        raise InputError("tile", f"{tile} pixels", "32 to 2048")
    if background not in THEMES:
        raise InputError("background", f"'{background}'", "one of " + ", ".join(THEMES))
    if renderer not in ("auto", "open3d", "builtin"):
        raise InputError("renderer", f"'{renderer}'", "one of auto, open3d, builtin")


def _check_pair(clouds: PointClouds, initial: PointClouds) -> None:
    if initial.class_names != clouds.class_names:
        raise InputError("initial", f"classes {list(initial.class_names)}", f"{list(clouds.class_names)}")
    ours, theirs = clouds.class_counts.tolist(), initial.class_counts.tolist()
    if ours != theirs:
        raise InputError("initial", f"{theirs} clouds per class", f"{ours} as in the distilled set")

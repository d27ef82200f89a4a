"""The gallery: a labelled sheet of point clouds, written as PNG."""

import os
import sys
from typing import Literal

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.files import atomic, check_writable
from pcdistill.viewing import offscreen, splat
from pcdistill.viewing.scene import Floats, Tile, make_tiles, shadow
from pcdistill.viewing.sheet import THEMES, Pixels, Row, compose, on_shadow


def gallery(
    clouds: PointClouds,
    path: str | os.PathLike[str],
    *,
    columns: int = 8,
    background: Literal["white", "dark"] = "white",
    renderer: Literal["auto", "open3d", "builtin"] = "auto",
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
        background: colour of the paper.
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
    _check(columns, background, renderer, tile)
    if initial is not None:
        _check_pair(clouds, initial)
    check_writable(path)
    sets = [("", clouds)] if initial is None else [("initial", initial), ("distilled", clouds)]
    chosen = [first_of_class(shown, columns) for _, shown in sets]
    tiles, focal = make_tiles(
        [cloud for rows in chosen for row in rows.values() for cloud in row], THEMES[background].paper
    )
    pictures, used = _render(tiles, focal, tile, renderer)

    remaining = iter(
        on_shadow(picture, shadow(spheres, focal, tile)) for picture, spheres in zip(pictures, tiles, strict=True)
    )
    drawn = [{label: [next(remaining) for _ in row] for label, row in rows.items()} for rows in chosen]
    rows = [
        Row(clouds.class_names[label], note, pictures_of[label])
        for label in chosen[0]
        for (note, _), pictures_of in zip(sets, drawn, strict=True)
    ]
    widest = max(len(row.tiles) for row in rows)
    sheet = compose(rows, widest, tile, THEMES[background], title)
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=False)
    return used


def _check(columns: int, background: str, renderer: str, tile: int) -> None:
    if columns < 1:
        raise InputError("columns", str(columns), "at least 1")
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


def first_of_class(clouds: PointClouds, columns: int) -> dict[int, list[Floats]]:
    """Label to its first clouds `(P, 3)`, z up; classes without clouds are left out."""
    up = str(clouds.provenance.get("up_axis", "z"))
    labels = clouds.hard_labels.detach().cpu().numpy()
    shown: dict[int, list[Floats]] = {}
    for label in range(clouds.num_classes):
        members = np.flatnonzero(labels == label)[:columns]
        if len(members):
            shown[label] = [upright(clouds.points[int(i)].detach().cpu().numpy(), up) for i in members]
    return shown


def upright(points: Floats, up: str) -> Floats:
    """Turn clouds `(..., 3)` so that the named axis points along +z; a rotation, so nothing is mirrored."""
    if up in ("z", "unspecified"):  # nothing is known of a folder of one's own: as it stands
        return points
    if up == "y":
        return np.stack([points[..., 0], -points[..., 2], points[..., 1]], axis=-1)
    if up == "x":
        return np.stack([-points[..., 2], points[..., 1], points[..., 0]], axis=-1)
    raise InputError("up_axis", f"'{up}'", "x, y or z")


def _render(tiles: list[Tile], focal: float, size: int, renderer: str) -> tuple[Pixels, str]:
    if renderer != "builtin":
        try:
            return offscreen.render(tiles, focal, size), "open3d"
        except offscreen.RenderFailure as reason:
            sys.stderr.write(f"pcdistill: drawing with the builtin renderer, Open3D failed: {reason}\n")
    return splat.render(tiles, focal, size), "builtin"

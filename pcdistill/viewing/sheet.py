"""Lays rendered tiles out on one labelled sheet."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pcdistill.viewing.scene import Floats

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SMALLEST_FONT = 9


@dataclass(frozen=True)
class Theme:
    """Colours of a sheet, sRGB."""

    paper: tuple[int, int, int]
    ink: tuple[int, int, int]
    faint: tuple[int, int, int]
    rule: tuple[int, int, int]


THEMES = {
    "white": Theme((255, 255, 255), (28, 30, 36), (122, 126, 136), (228, 230, 234)),
    "dark": Theme((20, 21, 25), (236, 237, 240), (150, 154, 164), (52, 54, 61)),
}


@dataclass(frozen=True)
class Row:
    """One row of tiles `(S, S, 4)` (RGBA, premultiplied) with its labels.

    Args:
        name: of the class, written once for each run of rows that share it.
        note: small print beside the row, may be empty.
    """

    name: str
    note: str
    tiles: Sequence[Pixels]


def on_shadow(picture: Pixels, darkness: Floats) -> Pixels:
    """Put a cloud's picture (RGBA, premultiplied) over its shadow: black of opacity `darkness`."""
    covered = picture.astype(np.float32)
    covered[..., 3] += (255 - covered[..., 3]) * darkness
    return (covered + 0.5).astype(np.uint8)


def compose(rows: Sequence[Row], columns: int, tile: int, theme: Theme, title: str | None) -> Image.Image:
    """The sheet as an RGB picture: title on top, labels at the left, one row of tiles each."""
    groups, title = _groups(rows), " ".join((title or "").split())
    names = [_font_that_fits(group[0].name, tile) for group in groups]
    note_font = ImageFont.load_default(max(_SMALLEST_FONT, tile * 0.078))
    pad = max(6, round(tile * 0.09))
    notes = max(_width(row.note, note_font) for row in rows)
    labels = max(notes, *(_width(text, font) for text, font in names))
    left = pad + labels + pad // 2
    heading = _title_font(title, left + columns * tile, pad)
    top = pad // 2 if heading is None else pad + round(1.3 * _height(heading))
    gap = max(2, round(tile * 0.05))

    width = left + columns * tile + pad // 2
    height = top + len(rows) * tile + (len(groups) - 1) * gap + pad // 2
    sheet = Image.new("RGB", (width, height), theme.paper)
    draw = ImageDraw.Draw(sheet)
    if heading is not None:
        draw.text((pad, pad), title, fill=theme.ink, font=heading, anchor="lt")
    y = top
    for group, (text, font) in zip(groups, names, strict=True):
        if y > top:
            draw.line((pad, y - gap // 2, width - pad, y - gap // 2), fill=theme.rule)
        lift = round(tile * 0.1) if group[0].note else 0
        draw.text((pad, y + tile // 2 - lift), text, fill=theme.ink, font=font, anchor="lm")
        for row in group:
            draw.text((pad, y + tile // 2 + lift // 3), row.note, fill=theme.faint, font=note_font, anchor="lm")
            for column, picture in enumerate(row.tiles):
                _paste(sheet, picture, (left + column * tile, y))
            y += tile
        y += gap
    return sheet


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = []
    for row in rows:
        if groups and groups[-1][0].name == row.name:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _paste(sheet: Image.Image, picture: Pixels, corner: tuple[int, int]) -> None:
    box = (*corner, corner[0] + picture.shape[1], corner[1] + picture.shape[0])
    below = np.asarray(sheet.crop(box), dtype=np.float32)
    opaque = picture[..., 3:].astype(np.float32) / 255
    sheet.paste(Image.fromarray((picture[..., :3] + below * (1 - opaque) + 0.5).clip(0, 255).astype(np.uint8)), box)


def readable(name: str) -> str:
    """A class name as it is written on pictures: `night_stand` as "night stand", on one line."""
    return " ".join(name.replace("_", " ").split())


def _font_that_fits(name: str, tile: int) -> tuple[str, Font]:
    """A class name and a font that keep its label narrower than a tile, shortened if nothing else helps."""
    text = readable(name)
    size = tile * 0.098
    while size > _SMALLEST_FONT and _width(text, ImageFont.load_default(size)) > tile * 0.95:
        size *= 0.93
    font = ImageFont.load_default(max(size, _SMALLEST_FONT))
    return _shortened(text, font, tile * 0.95), font


def _title_font(title: str, room: int, pad: int) -> Font | None:
    if not title:
        return None
    size = 1.7 * pad
    while size > _SMALLEST_FONT and _width(title, ImageFont.load_default(size)) > room - pad:
        size *= 0.95
    return ImageFont.load_default(size)


def _shortened(text: str, font: Font, room: float) -> str:
    if _width(text, font) <= room:
        return text
    while len(text) > 1 and _width(text + "...", font) > room:
        text = text[:-1]
    return text + "..."


def _width(text: str, font: Font) -> int:
    return int(np.ceil(font.getlength(text)))


def _height(font: Font) -> int:
    box = font.getbbox("Ag")
    return int(np.ceil(box[3] - box[1]))

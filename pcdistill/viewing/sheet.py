"""Lays rendered tiles out on one labelled sheet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pcdistill.viewing.scene import PART_COLOURS, Floats, colour_map

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Colour = tuple[int, int, int]

_SMALLEST_FONT = 9


@dataclass(frozen=True)
class Theme:
    """Colours of a sheet, sRGB; without paper it is clear, and what lies on it is meant for a white page."""

    paper: Colour
    ink: Colour
    faint: Colour
    rule: Colour
    clear: bool = False


THEMES = {
    "white": Theme((255, 255, 255), (28, 30, 36), (122, 126, 136), (228, 230, 234)),
    "dark": Theme((20, 21, 25), (236, 237, 240), (150, 154, 164), (52, 54, 61)),
    "transparent": Theme((255, 255, 255), (28, 30, 36), (110, 114, 124), (200, 203, 209), clear=True),
}


@dataclass(frozen=True)
class Row:
    """One row of tiles with its labels.

    Args:
        name: of the class, written once for each run of rows that share it.
        note: small print beside the row, may be empty.
        tiles: how many.
    """

    name: str
    note: str
    tiles: int


@dataclass(frozen=True)
class Legend:
    """What the colours say: a quantity, and words for its lowest and its highest value; or names, each of one colour.

    Args:
        label: of the quantity.
        low, high: its ends.
        names: with the numbers of their colours in `PART_COLOURS`; where there are any, nothing else is written.
    """

    label: str
    low: str = ""
    high: str = ""
    names: tuple[tuple[str, int], ...] = ()

    def colours(self, count: int) -> Pixels:
        """Those of its names, or `count` colours of the scale: bytes `(N, 3)`."""
        return _part_colours()[sorted({hue for _, hue in self.names})] if self.names else scale(count)


class Entry(NamedTuple):
    """A name of a legend as it is written, the number of its colour, and its distance from the left."""

    text: str
    font: Font
    hue: int
    x: int


@dataclass(frozen=True)
class Sheet:
    """Paper with all that is written on it, and places for tiles.

    Args:
        page: RGBA.
        corners: the upper left one of every tile, row by row.
        theme: of the page.
        footer: left, top, right and bottom of the line below, kept free for `with_progress`; may be missing.
    """

    page: Image.Image
    corners: list[tuple[int, int]]
    theme: Theme
    footer: tuple[int, int, int, int] | None = None

    def filled(self, tiles: Iterable[Pixels]) -> Image.Image:
        """The picture with tiles `(S, S, 4)` (RGBA, premultiplied) in their places: RGB, or RGBA on clear paper."""
        image = self.page.copy()
        for corner, tile in zip(self.corners, tiles, strict=True):
            image.alpha_composite(Image.fromarray(_straight(tile)), corner)
        return image if self.theme.clear else image.convert("RGB")

    def with_progress(self, share: float, text: str, longest: str) -> "Sheet":
        """The same sheet with a bar in its footer, full at a share of 1, and a text in room for the longest one."""
        if self.footer is None:
            return self
        left, top, right, bottom = self.footer
        page, font = self.page.copy(), _font(0.56 * (bottom - top))
        end, thick = right - _width(longest, font) - (bottom - top) // 2, max(2, (bottom - top) // 5)
        above = (top + bottom - thick) // 2
        page.paste((*self.theme.rule, 255), (left, above, end, above + thick))
        page.paste((*self.theme.faint, 255), (left, above, left + round(share * (end - left)), above + thick))
        ImageDraw.Draw(page).text((right, (top + bottom) // 2), text, self.theme.faint, font, "rm")
        return replace(self, page=page)


def lay_out(
    rows: Sequence[Row],
    tile: int,
    theme: Theme,
    title: str | None = None,
    legend: Legend | None = None,
    footer: bool = False,
) -> Sheet:
    """A sheet with a title on top, labels at the left, one row of tiles each, and below what the colours say."""
    groups = _groups(rows)
    names = [_font_that_fits(group[0].name, tile) for group in groups]
    small, pad = _font(tile * 0.078), _pad(tile)
    labels = max(*(_width(row.note, small) for row in rows), *(_width(text, font) for text, font in names))
    left, gap, columns = pad + labels + pad // 2, max(2, round(tile * 0.05)), max(row.tiles for row in rows)
    width, height = left + columns * tile + pad // 2, len(rows) * tile + (len(groups) - 1) * gap
    paper = _Paper(width, height, pad, theme, title, legend, footer)

    corners, y = [], paper.top
    for group, (text, font) in zip(groups, names, strict=True):
        if y > paper.top:
            paper.page.paste((*theme.rule, 255), (pad, y - gap // 2, paper.width - pad, y - gap // 2 + 1))
        lift = max(8, round(tile * 0.1)) if group[0].note else 0
        paper.draw.text((pad, y + tile // 2 - lift), text, theme.ink, font, "lm")
        for row in group:
            paper.draw.text((pad, y + tile // 2 + lift // 3), row.note, theme.faint, small, "lm")
            corners += [(left + column * tile, y) for column in range(row.tiles)]
            y += tile
        y += gap
    return Sheet(paper.page, corners, theme, paper.footer)


def flow(
    names: Sequence[str],
    tile: int,
    theme: Theme,
    title: str | None = None,
    legend: Legend | None = None,
    footer: bool = False,
) -> Sheet:
    """A sheet for one tile of every class: in lines of equal length, about twice as wide as high, names below."""
    columns = -(-len(names) // max(1, round((len(names) / 2) ** 0.5)))
    labels = [_font_that_fits(name, tile) for name in names]
    pad, step = _pad(tile), tile + round(1.5 * max(_height(font) for _, font in labels))
    body = -(-len(names) // columns) * step
    paper = _Paper(columns * tile + 2 * (pad // 2), body, pad, theme, title, legend, footer)
    corners = []
    for number, (text, font) in enumerate(labels):
        x, y = pad // 2 + number % columns * tile, paper.top + number // columns * step
        paper.draw.text((x + tile // 2, y + (tile + step) // 2), text, theme.ink, font, "mm")
        corners.append((x, y))
    return Sheet(paper.page, corners, theme, paper.footer)


class _Paper:
    """A page with what is above and below the tiles, whose lines begin at `top`."""

    def __init__(
        self, width: int, body: int, pad: int, theme: Theme, title: str | None, legend: Legend | None, footer: bool
    ) -> None:
        line, lines = round(1.7 * pad), 0 if legend is None else 1
        key = _key(legend, width - 2 * pad, pad) if legend is not None and legend.names else []
        if key:
            lines = len(key)
        elif legend is not None:
            width = max(width, _legend_width(legend, _font(0), 2 * pad, pad) + 2 * pad)
        title, font = _title_that_fits(" ".join((title or "").split()), width - 2 * pad, pad)
        self.width, self.top = width, pad + round(1.3 * _height(font)) if title else pad // 2
        bottom = self.top + body + (pad // 3 if legend or footer else 0)
        foot = bottom + line * lines
        self.footer = (pad, foot, width - pad, foot + line) if footer else None
        size = (width, foot + (line if footer else 0) + pad // 2)
        self.page = Image.new("RGBA", size, (*theme.paper, 0 if theme.clear else 255))
        self.draw = ImageDraw.Draw(self.page)
        self.draw.text((pad, pad), title, theme.ink, font, "lt")
        for number, entries in enumerate(key):
            self._name(entries, theme, pad, bottom + line // 2 + number * line)
        if legend is not None and not key:
            self._explain(legend, theme, pad, bottom + line // 2)

    def _name(self, entries: Sequence[Entry], theme: Theme, pad: int, y: int) -> None:
        """A line of a legend of names, at the left: each behind a square of its colour."""
        side = max(5, round(0.7 * pad))
        for text, font, hue, x in entries:
            colour = tuple(_part_colours()[hue].tolist())
            self.page.paste((*colour, 255), (pad + x, y - side // 2, pad + x + side, y - side // 2 + side))
            self.draw.text((pad + x + pad, y), text, theme.ink, font, "lm")

    def _explain(self, legend: Legend, theme: Theme, pad: int, y: int) -> None:
        """The legend, at the right: what is shown, its lowest value, a bar of the colours, its highest."""
        room, size, bar = self.width - 2 * pad, 0.95 * pad, 6 * pad
        while _legend_width(legend, _font(size), bar, pad) > room and bar > 2 * pad:
            bar -= 1
        while _legend_width(legend, _font(size), bar, pad) > room and size > _SMALLEST_FONT:
            size *= 0.95
        font, thick, x = _font(size), max(5, round(0.7 * pad)), self.width - pad
        self.draw.text((x, y), legend.high, theme.faint, font, "rm")
        x -= _width(legend.high, font) + pad // 2
        colours = np.tile(scale(bar), (thick, 1, 1))
        self.page.paste(Image.fromarray(colours), (x - bar, y - thick // 2))
        x -= bar + pad // 2
        self.draw.text((x, y), legend.low, theme.faint, font, "rm")
        x -= _width(legend.low, font) + pad
        self.draw.text((x, y), legend.label, theme.ink, font, "rm")


def _key(legend: Legend, room: int, pad: int) -> list[list[Entry]]:
    """The names of a legend in lines that have room for them."""
    lines, x = list[list[Entry]](), room
    for name, hue in legend.names:
        text = _spelt(readable(name))
        font = _font(0.95 * pad, text)
        text = _shortened(text, font, room - pad)
        wide = pad + _width(text, font)
        if x + wide > room:
            lines.append([])
            x = 0
        lines[-1].append(Entry(text, font, hue, x))
        x += wide + pad
    return lines


def _legend_width(legend: Legend, font: Font, bar: int, pad: int) -> int:
    """In pixels, with a bar so wide."""
    return sum(_width(text, font) for text in (legend.label, legend.low, legend.high)) + bar + 2 * pad


@cache
def _part_colours() -> Pixels:
    return (255 * PART_COLOURS + 0.5).astype(np.uint8)


def scale(count: int) -> Pixels:
    """So many colours of the colour map, from the lowest to the highest, as bytes `(count, 3)`."""
    return (255 * colour_map(np.linspace(0, 1, count, dtype=np.float32)) + 0.5).astype(np.uint8)


def on_shadow(picture: Pixels, darkness: Floats) -> Pixels:
    """Put a cloud's picture (RGBA, premultiplied) over its shadow: black of opacity `darkness`."""
    covered = picture.astype(np.float32)
    covered[..., 3] += (255 - covered[..., 3]) * darkness
    return (covered + 0.5).astype(np.uint8)


def _straight(picture: Pixels) -> Pixels:
    """Premultiplied colours as those of what is seen, whatever its opacity."""
    opaque = np.maximum(picture[..., 3:], 1).astype(np.float32) / 255
    colours = np.minimum(picture[..., :3] / opaque + 0.5, 255)
    return np.concatenate([colours.astype(np.uint8), picture[..., 3:]], axis=2)


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    groups: list[list[Row]] = []
    for row in rows:
        if groups and groups[-1][0].name == row.name:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def readable(name: str) -> str:
    """A class name as it is written on pictures: `night_stand` as "night stand", on one line."""
    return " ".join(name.replace("_", " ").split())


def _pad(tile: int) -> int:
    return max(6, round(tile * 0.09))


def _font(size: float, text: str = "") -> Font:
    """Pillow's own font, which has the letters of English only; for texts with others a larger one, if there is one."""
    size, larger = max(_SMALLEST_FONT, size), _larger_font()
    if larger is None or all(map(_in_own_font, text)):
        return ImageFont.load_default(size)
    return ImageFont.truetype(larger, size)


@cache
def _larger_font() -> str | None:
    """DejaVu Sans, which comes with matplotlib."""
    found = find_spec("matplotlib")
    path = Path(found.origin or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf" if found else Path()
    return str(path) if path.is_file() else None


def _font_that_fits(name: str, tile: int) -> tuple[str, Font]:
    """A class name and a font that keep its label narrower than a tile, shortened if nothing else helps."""
    text = _spelt(readable(name))
    size = tile * 0.098
    while size > _SMALLEST_FONT and _width(text, _font(size, text)) > tile * 0.95:
        size *= 0.93
    font = _font(size, text)
    return _shortened(text, font, tile * 0.95), font


def _title_that_fits(title: str, room: int, pad: int) -> tuple[str, Font]:
    title, size = _spelt(title), 1.7 * pad
    while size > _SMALLEST_FONT and _width(title, _font(size, title)) > room:
        size *= 0.95
    font = _font(size, title)
    return _shortened(title, font, room), font


def _spelt(text: str) -> str:
    """A text with letters that no font has, which would all be the same box, as the escapes that Python writes."""
    return "".join(letter if _drawn(letter) else letter.encode("unicode_escape").decode() for letter in text)


def _drawn(letter: str) -> bool:
    larger = _larger_font()
    return _in_own_font(letter) or (larger is not None and _has(ImageFont.truetype(larger, _SMALLEST_FONT), letter))


@cache
def _in_own_font(letter: str) -> bool:
    return _has(ImageFont.load_default(_SMALLEST_FONT), letter)


def _has(font: Font, letter: str) -> bool:
    return bytes(font.getmask(letter)) != bytes(font.getmask("\U0010ffff"))


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

"""Animations of clouds: a full turn, and the way from the first guess to the distilled clouds."""

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial import KDTree

from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.core.progress import Report, progress
from pcdistill.viewing import splat
from pcdistill.viewing.exhibit import Exhibit
from pcdistill.viewing.pictures import (
    Background,
    Render,
    Renderer,
    Strip,
    check,
    drawn_by,
    on_shadows,
    rows_of,
    strips_of,
)
from pcdistill.viewing.scene import Floats, Framing, Tile, framed, make_tiles
from pcdistill.viewing.sheet import THEMES, Legend, Sheet, Theme, flow, lay_out

FORMATS = (".gif", ".webp", ".mp4")
FRAMES = 48
MILLISECONDS, HOLD = 70, 980  # that a frame is shown, and those where something begins or ends
TILE = 160
_PALETTE = 127  # colours of a GIF, which save a sixth of its bytes and look like 255 (one more says "as before"), and
_BAR = 16  # those of them that are kept for the legend, and
_SAMPLES, _SAMPLED_PIXELS = (
    4,
    100_000,
)  # what the others are chosen on: so many frames, and of these about so many pixels
_MOST_BYTES, _MOST_PIXELS = 2**31, 16383  # of all frames, of a side: what encoders keep, and what WebP can say


class Moment(NamedTuple):
    """What of a frame is not in the clouds: how long it is shown, and the share and the text of its progress bar."""

    milliseconds: int
    share: float = 0.0
    text: str = ""


def turntable(
    exhibit: Exhibit,
    path: str | os.PathLike[str],
    *,
    colouring: str = "height",
    initial: bool = False,
    background: Background = "white",
    renderer: Renderer = "auto",
    tile: int = TILE,
) -> str:
    """Write clouds that turn once about the vertical axis, without a seam, and return the name of the renderer used.

    Camera, light and scale are the same in all frames. Rows are those of `pictures.picture`; where every class has one
    cloud in one row, the clouds stand side by side, with their names below.

    Args:
        exhibit: of which all clouds are shown.
        path: ends in .gif, .webp or .mp4 (H.264, needs the extra `video`); written atomically.
        colouring, initial, background, renderer, tile: as in `pictures.picture`.

    Raises:
        InputError: another ending, a format without transparency, no PyAV, frames too large, or as `pictures.picture`.
        OSError: when `path` cannot be written; nothing is left behind then.
    """
    check_animation(path, background, renderer, tile)
    strips, legend = strips_of(exhibit, colouring, initial)
    angles = np.linspace(0, 2 * np.pi, FRAMES, endpoint=False, dtype=np.float32)
    strips = [Strip(strip.note, turned(strip.points[0], angles), strip.colours) for strip in strips]
    return _film(exhibit, strips, [Moment(MILLISECONDS)] * FRAMES, background, tile, legend).write(path, renderer)


def evolution(
    exhibit: Exhibit,
    path: str | os.PathLike[str],
    *,
    colouring: str = "height",
    initial: bool = False,
    background: Background = "white",
    renderer: Renderer = "auto",
    tile: int = TILE,
) -> str:
    """Write how clouds become what they are, snapshot by snapshot, and return the name of the renderer used.

    Points go straight from snapshot to snapshot. They set out slowly and come in slowly, once for the whole way: at
    every snapshot, that would be a stop. The first and the last frame stay for a second. All else is as in `turntable`.

    Raises:
        InputError: no snapshots, or as `turntable`.
        OSError: when `path` cannot be written; nothing is left behind then.
    """
    check_animation(path, background, renderer, tile)
    last = len(exhibit.frames) - 1
    if not last:
        raise InputError("evolution", "no snapshots", "an artefact distilled with --snapshots 1 or more")
    places = [last * eased(number / (FRAMES - 1)) for number in range(FRAMES)]
    strips, legend = strips_of(exhibit, colouring, initial, places)
    moments = []
    for place in places:
        step = round(float(np.interp(place, range(last + 1), exhibit.steps)))
        time = HOLD if place in (0, last) else MILLISECONDS
        moments.append(Moment(time, step / max(exhibit.steps[-1], 1), f"step {step} / {exhibit.steps[-1]}"))
    return _film(exhibit, strips, moments, background, tile, legend).write(path, renderer)


def check_animation(path: str | os.PathLike[str], background: str, renderer: str, tile: int = TILE) -> None:
    """That an animation can be written there.

    Raises:
        InputError, OSError: if not.
    """
    check(background, renderer, tile)
    ending = Path(path).suffix
    if ending not in FORMATS:
        raise InputError(path, f"an animation that ends in '{ending}'", "one of " + ", ".join(FORMATS))
    if THEMES[background].clear and ending != ".webp":
        raise InputError(
            path, f"a transparent background in {ending[1:].upper()}, whose edges are hard or opaque", ".webp"
        )
    if ending == ".mp4":
        _av()
    check_writable(path)


def turned(points: Floats, angles: Floats) -> Floats:
    """Clouds `(N, P, 3)`, z up, at each of T angles (radians, anticlockwise from above): `(T, N, P, 3)`.

    The axis is the vertical one through the middle of a cloud's extent; it comes to lie in the origin.
    """
    middles = (points.min(1, keepdims=True) + points.max(1, keepdims=True)) / 2
    x, y, z = np.moveaxis(points - middles * np.array([1, 1, 0], dtype=np.float32), -1, 0)
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    return np.stack([cos * x - sin * y, sin * x + cos * y, np.broadcast_to(z, (len(angles), *z.shape))], axis=-1)


def eased(share: float) -> float:
    """The share of the way at a share of the time, slow at both ends: 3 s^2 - 2 s^3."""
    return share * share * (3 - 2 * share)


@dataclass(frozen=True, eq=False)
class _Film:
    """All that the frames are made of."""

    sheet: Sheet
    strips: Sequence[Strip]
    order: Sequence[tuple[int, int]]  # of the tiles: strip and cloud
    framing: Framing
    moments: Sequence[Moment]
    tile: int
    legend: Legend | None

    def tiles(self, number: int) -> list[Tile]:
        """Of one frame."""
        shown = [(self.strips[strip], cloud) for strip, cloud in self.order]
        clouds = [strip.points[min(number, len(strip.points) - 1), cloud] for strip, cloud in shown]
        colours = [strip.colours[min(number, len(strip.colours) - 1), cloud] for strip, cloud in shown]
        return make_tiles(clouds, self.sheet.theme.paper, colours, self.framing)[0]

    def frames(self, render: Render, numbers: Sequence[int]) -> Generator[Image.Image, None, None]:
        """As they are drawn."""
        tiles = [tile for number in numbers for tile in self.tiles(number)]
        drawn = on_shadows(render, tiles, self.framing.focal, self.tile)
        longest = max((moment.text for moment in self.moments), key=len)
        for number in numbers:
            moment = self.moments[number]
            yield self.sheet.with_progress(moment.share, moment.text, longest).filled(islice(drawn, len(self.order)))
        next(drawn, None)  # all are drawn: did the renderer end well?

    def write(self, path: str | os.PathLike[str], renderer: str) -> str:
        """Draw all frames into a file, by one renderer, whose name is returned."""
        ending, count = Path(path).suffix, len(self.moments)
        times = [moment.milliseconds for moment in self.moments]
        colours = np.zeros((0, 3), dtype=np.uint8)
        if ending == ".gif":  # a few frames by the fast renderer, whose colours are those of the other
            numbers = [round(number * (count - 1) / (_SAMPLES - 1)) for number in range(_SAMPLES)]
            paper = np.array([self.sheet.theme.paper], dtype=np.uint8)
            fixed = (
                np.concatenate([paper, self.legend.colours(_BAR)]) if self.legend else paper
            )  # few pixels, but all are looked at
            colours = palette(list(self.frames(splat.render, numbers)), fixed)

        def write(render: Render) -> None:
            with (
                atomic(path) as target,
                progress(f"drawing {Path(path).name}", count) as report,
                closing(self.frames(render, range(count))) as frames,
            ):
                if ending == ".gif":
                    _gif(target, _counted(frames, report), times, colours)
                elif ending == ".webp":
                    _webp(target, _counted(frames, report), times)
                else:
                    _mp4(target, _counted(frames, report), times, self.sheet.theme)

        return drawn_by(renderer, write)[1]


def _film(
    exhibit: Exhibit,
    strips: Sequence[Strip],
    moments: Sequence[Moment],
    background: str,
    tile: int,
    legend: Legend | None,
) -> _Film:
    rows, order = rows_of(exhibit.clouds, strips)
    footer = any(moment.text for moment in moments)
    if len(strips) == 1 and all(row.tiles == 1 for row in rows):
        sheet = flow([row.name for row in rows], tile, THEMES[background], exhibit.title, legend, footer)
    else:
        sheet = lay_out(rows, tile, THEMES[background], exhibit.title, legend, footer)
    width, height = sheet.page.size
    if max(width, height) > _MOST_PIXELS or 4 * width * height * len(moments) > _MOST_BYTES:
        raise InputError("tile", f"{len(moments)} frames of {width} x {height} pixels", "fewer clouds or smaller tiles")
    framing = framed([strips[strip].points[:, cloud] for strip, cloud in order])
    return _Film(sheet, strips, order, framing, moments, tile, legend)


def _counted(frames: Iterable[Image.Image], report: Report) -> Iterator[Image.Image]:
    for number, frame in enumerate(frames, 1):
        report(number, "")
        yield frame


def palette(samples: Sequence[Image.Image], fixed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most 127 colours `(K, 3)` of these pictures, of which some are given; the first of these is that of the paper.

    One palette for all frames, and no dithering: its patterns would crawl.
    """
    pixels = np.concatenate([np.asarray(sample).reshape(-1, 3) for sample in samples])
    pixels = pixels[(pixels != fixed[0]).any(axis=1)]
    pixels = pixels[:: 1 + len(pixels) // _SAMPLED_PIXELS]
    found = Image.fromarray(pixels[None]).quantize(_PALETTE - len(fixed), Image.Quantize.MEDIANCUT, kmeans=1)
    return np.concatenate([fixed, np.array(found.getpalette(), dtype=np.uint8).reshape(-1, 3)])[:_PALETTE]


def nearest_colours(frame: Image.Image, colours: NDArray[np.uint8]) -> Image.Image:
    """The frame in these colours; Pillow's own search is exact to four levels only, and white would be grey."""
    packed = np.asarray(frame).astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    used, where = np.unique(packed, return_inverse=True)
    _, index = KDTree(colours).query(np.stack([used >> 16, used >> 8 & 255, used & 255], axis=1))
    image = Image.fromarray(index.astype(np.uint8)[where.reshape(packed.shape)], "P")
    image.putpalette(colours.tobytes())
    return image


def _gif(path: Path, frames: Iterator[Image.Image], times: list[int], colours: NDArray[np.uint8]) -> None:
    reduced = (nearest_colours(frame, colours) for frame in frames)
    with path.open("wb") as stream:  # Pillow would leave a file of its own open when it is interrupted
        next(reduced).save(
            stream, format="GIF", save_all=True, append_images=reduced, duration=times, loop=0,
            palette=colours.tobytes(), optimize=True, disposal=1,
        )  # fmt: skip


def _webp(path: Path, frames: Iterator[Image.Image], times: list[int]) -> None:
    with path.open("wb") as stream:
        next(frames).save(
            stream, format="WEBP", save_all=True, append_images=frames, duration=times, loop=0, quality=80, method=4
        )


def _mp4(path: Path, frames: Iterator[Image.Image], times: list[int], theme: Theme) -> None:
    av = _av()
    try:
        with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as film:
            stream: Any = None
            for frame, time in zip(frames, times, strict=True):
                even = Image.new("RGB", (frame.width + frame.width % 2, frame.height + frame.height % 2), theme.paper)
                even.paste(frame)
                if stream is None:
                    stream = _stream(film, even.size)
                for _ in range(round(time / MILLISECONDS)):
                    film.mux(stream.encode(av.VideoFrame.from_ndarray(bt709(np.asarray(even)), format="yuv420p")))
            film.mux(stream.encode())
    except (av.FFmpegError, av.codec.codec.UnknownCodecError) as error:
        if isinstance(error, OSError):  # a full disk
            raise
        raise InputError("av", str(error), "a build with libx264") from None


def bt709(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Planes Y, Cb and Cr, below one another, of sRGB `(height, width, 3)` with even sides, one chroma value for four
    pixels: ITU-R BT.709, from 16 to 235. Versions of FFmpeg do not agree on what they convert by if asked to."""
    red, green, blue = np.moveaxis(picture.astype(np.float32), -1, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    height, width = luma.shape
    planes = [(16 + 219 / 255 * luma).ravel()]
    for colour, most in ((blue, 1.8556), (red, 1.5748)):
        chroma = 128 + 224 / 255 / most * (colour - luma)
        planes.append(chroma.reshape(height // 2, 2, width // 2, 2).mean((1, 3)).ravel())
    return (np.concatenate(planes) + 0.5).astype(np.uint8).reshape(-1, width)


def _stream(film: Any, size: tuple[int, int]) -> Any:
    """H.264 as every browser plays it, in the colours of high definition, which players assume or are told."""
    stream = film.add_stream("libx264", rate=Fraction(1000, MILLISECONDS), options={"crf": "20", "preset": "slow"})
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
    context.color_range = 1  # 16 to 235
    return stream


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise InputError("av", "not installed, and .mp4 needs it", "pip install 'pcdistill[video]'") from None
    return av

"""Animations: that they move as they should, without jumps, and that files are what players take."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pcdistill.core.errors import InputError
from pcdistill.viewing import Exhibit, animation, chosen, evolution, shades, splat, turntable
from pcdistill.viewing.animation import bt709, eased, nearest_colours, palette, turned
from pcdistill.viewing.open3d import offscreen
from pcdistill.viewing.pictures import Background
from pcdistill.viewing.scene import HAZE, Tile, colour_map

SMALL: dict[str, Any] = {"tile": 48, "renderer": "builtin"}


@pytest.fixture
def few(exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch) -> Exhibit:
    """A cloud of either class, without what is real, and animations of eight frames."""
    monkeypatch.setattr(animation, "FRAMES", 8)
    return replace(exhibit.only(chosen(exhibit.clouds, (), 1)), real=None)


def frames(path: Path) -> tuple[np.ndarray, list[int]]:
    """All frames of a GIF or WebP as RGBA, and how long each is shown."""
    with Image.open(path) as film:
        assert film.info["loop"] == 0
        pictures, times = [], []
        for frame in ImageSequence.Iterator(film):
            pictures.append(np.asarray(frame.convert("RGBA")).astype(int))
            times.append(frame.info["duration"])
        return np.stack(pictures), times


def tables(data: bytes) -> tuple[int, int]:
    """How many frames a GIF has, and how many of these bring colours of their own."""
    place, found, own = 13 + 3 * 2 ** ((data[10] & 7) + 1), 0, 0
    assert data[:6] == b"GIF89a"
    assert data[10] & 128  # a global table
    while data[place] != 0x3B:
        if data[place] == 0x21:
            place += 2
        else:
            found, flags = found + 1, data[place + 9]
            own += flags >> 7
            place += 11 + (3 * 2 ** ((flags & 7) + 1) if flags & 128 else 0)
        while data[place]:
            place += data[place] + 1
        place += 1
    return found, own


def made(kind: str, exhibit: Exhibit, **options: Any) -> animation._Film:
    """What the frames would be drawn from."""
    films: list[animation._Film] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(animation._Film, "write", lambda film, *_: films.append(film))
        getattr(animation, kind)(exhibit, Path("a.webp"), **options)
    return films[0]


def rgb(planes: np.ndarray) -> np.ndarray:
    """Of planes Y, Cb and Cr as ITU-R BT.709 has them, by its inverse."""
    width = planes.shape[1]
    height = len(planes) * 2 // 3
    luma = planes[:height].astype(float)
    chroma = planes[height:].reshape(2, height // 2, width // 2).repeat(2, 1).repeat(2, 2).astype(float)
    matrix = np.linalg.inv(
        np.array([[0.2126, 0.7152, 0.0722], [-0.1146, -0.3854, 0.5], [0.5, -0.4542, -0.0458]])
        * np.array([[219], [224], [224]]) / 255
    )  # fmt: skip
    return np.asarray(np.stack([luma - 16, *(chroma - 128)], axis=-1) @ matrix.T).clip(0, 255)


def test_colours_survive_the_way_to_video_and_back() -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).repeat(2, 0).repeat(2, 1).astype(np.uint8)
    blocks[:2, :2], blocks[:2, 2:4] = 0, 255
    planes = bt709(blocks)
    assert planes.shape == (18, 10)
    assert (planes[0, 0], planes[0, 2]) == (16, 235)
    np.testing.assert_allclose(rgb(planes), blocks, atol=2)


def test_turning_keeps_distances_and_heights_and_goes_round_evenly() -> None:
    points = np.random.default_rng(0).normal(size=(2, 30, 3)).astype(np.float32) + 3
    angles = np.linspace(0, 2 * np.pi, 6, endpoint=False, dtype=np.float32)
    found = turned(points, angles)
    assert found.shape == (6, 2, 30, 3)
    middle = (points.min(1, keepdims=True) + points.max(1, keepdims=True)) / 2 * [1, 1, 0]
    np.testing.assert_allclose(found[0], points - middle, atol=1e-5)
    for angle, clouds in zip(angles, found, strict=True):
        flat = (points - middle)[..., 0] + 1j * (points - middle)[..., 1]
        expected = flat * np.exp(1j * angle)  # anticlockwise from above
        np.testing.assert_allclose(clouds[..., 0] + 1j * clouds[..., 1], expected, atol=1e-4)
        np.testing.assert_array_equal(clouds[..., 2], points[..., 2])


def test_a_turn_has_no_seam(few: Exhibit) -> None:
    """From the last frame to the first it is as far as from any to the next, and light and floor stay."""
    film = made("turntable", few)
    tiles = [film.tiles(number) for number in range(8)]
    for cloud in range(2):
        path = np.stack([pair[cloud].points for pair in tiles])
        steps = np.linalg.norm(np.diff(np.concatenate([path, path[:1]]), axis=0), axis=2).mean(1)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        assert steps[0] > 0.1
        assert len({(pair[cloud].floor, pair[cloud].radius) for pair in tiles}) == 1
        colours = np.stack([pair[cloud].colours for pair in tiles])
        assert np.ptp(colours, axis=0).max() <= HAZE  # nothing else changes them
    assert {moment.milliseconds for moment in film.moments} == {animation.MILLISECONDS}


def test_what_stands_still_does_so_to_the_pixel(exhibit: Exhibit, tmp_path: Path) -> None:
    """First guesses and real clouds beside those that move: neither camera nor scale follow these."""
    film = made("evolution", exhibit, initial=True, tile=48)
    first, last = film.tiles(0), film.tiles(47)
    for place, (strip, _) in enumerate(film.order):
        moved = not np.array_equal(first[place].points, last[place].points)
        assert moved == (strip == 1)
    pictures = list(film.frames(splat.render, [0, 47]))
    for (x, y), (strip, _) in zip(film.sheet.corners, film.order, strict=True):
        before, after = (np.asarray(frame.crop((x, y, x + 48, y + 48))) for frame in pictures)
        assert np.array_equal(before, after) == (strip != 1)


def test_clouds_set_out_and_come_in_slowly_and_pass_every_snapshot(exhibit: Exhibit) -> None:
    shares = np.array([eased(number / 100) for number in range(101)])
    assert (shares[0], shares[-1]) == (0, 1)
    assert shares[50] == pytest.approx(0.5)
    speeds = np.diff(shares)
    assert (speeds > 0).all()
    np.testing.assert_allclose(speeds, speeds[::-1], atol=1e-12)
    assert speeds[0] < 0.1 * speeds[50]

    film = made("evolution", exhibit, colouring="moved")
    (moving,) = (strip for strip in film.strips if len(strip.points) > 1)
    for number, frame in enumerate(exhibit.frames):
        away = np.linalg.norm(moving.points - frame.numpy(), axis=-1).max((1, 2))
        assert away.argmin() in ([0], [23, 24], [47])[number]
        assert away.min() < (1e-6, 0.05, 1e-6)[number]
    assert np.linalg.norm(np.diff(moving.points, axis=0), axis=-1).max() < 0.1  # no jump
    np.testing.assert_array_equal(moving.colours[0], np.broadcast_to(colour_map(np.zeros(1, "f4")), (5, 150, 3)))
    np.testing.assert_array_equal(moving.colours[-1], colour_map(shades(exhibit, "moved").shares[-1].numpy()))


def test_progress_tells_the_step_and_both_ends_stay_for_a_second(exhibit: Exhibit) -> None:
    moments = made("evolution", exhibit).moments
    assert [moment.milliseconds for moment in moments] == [
        animation.HOLD,
        *[animation.MILLISECONDS] * 46,
        animation.HOLD,
    ]
    assert moments[0][1:] == (0, "step 0 / 40")
    assert moments[-1][1:] == (1, "step 40 / 40")
    # Frames are of steps 0, 10 and 40: half of the way ends at 10.
    assert [int(moment.text.split()[1]) for moment in moments[23:25]] == [10, 11]
    assert all(a.share <= b.share for a, b in pairwise(moments))


@pytest.mark.parametrize("kind", ["turntable", "evolution"])
def test_a_gif_moves_for_ever_in_the_colours_of_one_table(few: Exhibit, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.gif"
    assert getattr(animation, kind)(few, path, colouring="moved", **SMALL) == "builtin"
    assert tables(path.read_bytes()) == (8, 0)
    shown, times = frames(path)
    assert len(shown) == 8
    assert (shown[..., 3] == 255).all()
    assert (shown[:, [0, -1], :, :3] == 255).all()  # white is white
    assert times == ([70] * 8 if kind == "turntable" else [980, *[70] * 6, 980])
    changes = [np.abs(a - b).max(2).max() for a, b in pairwise(shown)]
    assert min(changes) > 60
    film = made(kind, few, colouring="moved", tile=48)
    for number in (0, 3, 7):
        (exact,) = film.frames(splat.render, [number])
        error = np.abs(shown[number, ..., :3] - np.asarray(exact).astype(int))
        assert error.mean() < 1
        assert np.quantile(error, 0.99) < 25


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_the_same_clouds_give_the_same_bytes(ending: str, few: Exhibit, tmp_path: Path) -> None:
    for name in "ab":
        turntable(few, tmp_path / f"{name}{ending}", **SMALL)
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_the_same_clouds_give_the_same_film(few: Exhibit, tmp_path: Path) -> None:
    """Not the same bytes: on some processors, two runs of x264 differ in the last bits of what they round."""
    av = pytest.importorskip("av")
    shown = []
    for name in "ab":
        turntable(few, tmp_path / f"{name}.mp4", **SMALL)
        with av.open(str(tmp_path / f"{name}.mp4")) as film:
            shown.append(np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]).astype(int))
    assert shown[0].shape == shown[1].shape
    difference, moved = np.abs(shown[0] - shown[1]).mean(), np.abs(shown[0][0] - shown[0][len(shown[0]) // 4]).mean()
    assert difference < moved / 5


def test_a_webp_may_be_transparent(few: Exhibit, tmp_path: Path) -> None:
    evolution(few, tmp_path / "a.webp", background="transparent", **SMALL)
    shown, times = frames(tmp_path / "a.webp")
    assert len(shown) == 8
    assert times == [980, *[70] * 6, 980]
    assert ((shown[..., 3] == 0).mean((1, 2)) > 0.4).all()
    assert ((shown[..., 3] > 0) & (shown[..., 3] < 255)).mean() > 0.03
    (exact,) = made("evolution", few, background="transparent", tile=48).frames(splat.render, [5])
    assert np.abs(shown[5, ..., 3] - np.asarray(exact)[..., 3]).mean() < 2


@pytest.mark.parametrize("background", ["white", "dark"])
def test_an_mp4_is_h264_that_browsers_play_in_the_right_colours(
    few: Exhibit, tmp_path: Path, background: Background
) -> None:
    av = pytest.importorskip("av")
    evolution(few, tmp_path / "a.mp4", background=background, **SMALL, colouring="moved")
    with av.open(str(tmp_path / "a.mp4")) as film:
        (stream,) = film.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.colorspace) == ("h264", "yuv420p", 1)
        assert context.width % 2 == context.height % 2 == 0
        decoded = list(film.decode(stream))
        assert len(decoded) == 6 + 2 * 14
        assert float(stream.duration * stream.time_base) == pytest.approx(0.07 * len(decoded), abs=0.001)
    exact = list(
        made("evolution", few, background=background, tile=48, colouring="moved").frames(splat.render, range(8))
    )
    for frame, number in ((0, 0), (13, 0), (14, 1), (19, 6), (33, 7)):
        wanted = np.asarray(exact[number]).astype(int)
        height, width = wanted.shape[:2]
        assert decoded[frame].height - height in (0, 1)
        shown = rgb(decoded[frame].to_ndarray(format="yuv420p"))[:height, :width]
        error = np.abs(shown - wanted)
        assert np.median(error, axis=(0, 1)).max() <= 1.5  # the paper
        assert error.mean() < 3
    assert (tmp_path / "a.mp4").read_bytes().index(b"moov") < (tmp_path / "a.mp4").read_bytes().index(b"mdat")


def test_single_clouds_flow_and_several_are_rows(exhibit: Exhibit, few: Exhibit) -> None:
    assert made("turntable", few, tile=48).sheet.corners[0][1] == made("turntable", few, tile=48).sheet.corners[1][1]
    several = made("turntable", replace(exhibit, real=None), tile=48)
    assert [y for _, y in several.sheet.corners[:4]].count(several.sheet.corners[0][1]) == 3
    beside = made("turntable", exhibit.only(chosen(exhibit.clouds, (), 1)), tile=48)
    assert len(beside.sheet.corners) == 4  # a cloud and its nearest real one, of two classes


def test_colours_of_a_palette_are_those_that_are_used_and_the_paper_is_kept() -> None:
    random = np.random.default_rng(0)
    pixels = np.full((60, 60, 3), 255, dtype=np.uint8)
    pixels[10:50, 10:50] = random.integers(0, 200, (40, 40, 3))
    fixed = np.array([[255, 255, 255], [1, 2, 3]], dtype=np.uint8)
    found = palette([Image.fromarray(pixels)], fixed)
    assert found.shape == (127, 3)
    np.testing.assert_array_equal(found[:2], fixed)
    assert found[2:].max() < 210
    reduced = nearest_colours(Image.fromarray(pixels), found)
    distances = ((pixels[:, :, None].astype(int) - found.astype(int)) ** 2).sum(-1)
    chosen_ones = np.take_along_axis(distances, np.asarray(reduced)[..., None].astype(int), 2)[..., 0]
    np.testing.assert_array_equal(chosen_ones, distances.min(2))
    assert (np.asarray(reduced.convert("RGB"))[:5] == 255).all()
    few = palette([Image.fromarray(np.tile(pixels[:1, :1] // 2, (9, 9, 1)))], fixed)
    assert [127, 127, 127] in few.tolist()


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "ending": ("a.avi", {}, "a.avi: an animation that ends in '.avi', expected one of .gif, .webp, .mp4"),
    "no ending": ("a", {}, "an animation that ends in ''"),
    "transparent GIF": ("a.gif", {"background": "transparent"}, "a transparent background in GIF"),
    "transparent MP4": ("a.mp4", {"background": "transparent"}, "a transparent background in MP4"),
    "tile": ("a.gif", {"tile": 3000}, "tile: 3000 pixels"),
    "colouring": ("a.gif", {"colouring": "real"}, "'real' without a real set"),
    "too large": (
        "a.gif",
        {"tile": 2048},
        r"tile: 48 frames of \d+ x \d+ pixels, expected fewer clouds or smaller tiles",
    ),
}


@pytest.mark.parametrize(("name", "options", "message"), BAD.values(), ids=list(BAD))
def test_bad_options_are_named(
    exhibit: Exhibit, tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        turntable(replace(exhibit, real=None), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_an_evolution_needs_snapshots_and_an_mp4_pyav(
    few: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no snapshots"):
        evolution(replace(few, frames=few.frames[-1:], steps=(0,)), tmp_path / "a.gif")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        InputError, match=r"av: not installed, and .mp4 needs it, expected pip install 'pcdistill\[video\]'"
    ):
        turntable(few, tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())


def test_a_pyav_without_the_codec_is_one_line(few: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(animation, "_stream", lambda film, size: film.add_stream("libx999"))
    with pytest.raises(InputError, match=r"av: .*libx999.*expected a build with libx264"):
        turntable(few, tmp_path / "a.mp4", **SMALL)
    assert not list(tmp_path.iterdir())


def test_one_file_has_one_renderer(few: Exhibit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open3D draws five frames and dies: all are drawn anew."""
    turntable(few, tmp_path / "ours.gif", **SMALL)
    calls: list[int] = []

    def dying(tiles: list[Tile], *more: Any) -> Any:
        calls.append(len(tiles))
        for picture in splat.render(tiles[:10], *more):
            yield 255 - picture
        raise offscreen.RenderFailure("no more")

    monkeypatch.setattr(offscreen, "render", dying)
    assert turntable(few, tmp_path / "a.gif", tile=48) == "builtin"
    assert calls == [16]  # all tiles of all frames at once
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "ours.gif").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("ending", animation.FORMATS)
def test_an_interruption_leaves_the_old_file(
    few: Exhibit, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if ending == ".mp4":
        pytest.importorskip("av")
    ended: list[str] = []

    def interrupted(tiles: list[Tile], *more: Any) -> Any:
        try:
            yield from splat.render(tiles[:5], *more)
            raise KeyboardInterrupt
        finally:
            ended.append("renderer")

    path = tmp_path / f"a{ending}"
    path.write_text("old")
    monkeypatch.setattr(offscreen, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turntable(few, path, tile=48)
    assert ended
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_nothing_behind(few: Exhibit, tmp_path: Path) -> None:
    """To the real process, while Open3D's draws: no file, no folder, no process."""
    program = """
        import pathlib, sys, torch
        from pcdistill.clouds import PointClouds
        from pcdistill.viewing import Exhibit, turntable
        from pcdistill.viewing.open3d import offscreen
        offscreen.COMMAND = (sys.executable, "-c", "import os, pathlib, time; "
            "pathlib.Path('process').write_text(str(os.getpid())); time.sleep(60)")
        clouds = PointClouds(torch.rand(1, 9, 3), torch.tensor([0]), ("a",))
        turntable(Exhibit("", clouds, (clouds.points,)), "a.gif", tile=48)
    """
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(animation.__file__).parents[2]),
                   "TMPDIR": str(tmp_path / "temporary")}  # fmt: skip
    running = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    )
    note, until = tmp_path / "process", time.monotonic() + 60
    while not (note.exists() and note.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["process", "temporary"]

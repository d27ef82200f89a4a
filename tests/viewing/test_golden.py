"""Pictures against those that somebody has looked at, in `golden/`.

After a change that is meant to be seen, `PCDISTILL_GOLDEN=write pytest tests/viewing/test_golden.py` writes them
anew: look at them, and commit them.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.clouds import PointClouds
from pcdistill.geometry.nearest import nearest_real
from pcdistill.viewing import Exhibit, Real, evolution, picture, pictures, scene, splat, turntable
from tests.viewing.perceptual import alike

GOLDEN = Path(__file__).parent / "golden"
SMALL: dict[str, Any] = {"renderer": "builtin", "tile": 88}


def lamp(random: np.random.Generator, points: int) -> np.ndarray:
    """A foot, a pole and a shade."""
    turn, height, part = 2 * np.pi * random.random(points), random.random(points), random.random(points)
    radius = np.where(part < 0.2, 0.35 * np.sqrt(height), np.where(part < 0.4, 0.03, 0.5 - 0.3 * height))
    z = np.where(part < 0.2, -0.9, np.where(part < 0.4, -0.9 + 1.1 * height, 0.2 + 0.6 * height))
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), z], axis=1)


def table(random: np.random.Generator, points: int) -> np.ndarray:
    """A top and four legs."""
    x, y, z = 2 * random.random((3, points)) - 1
    leg = random.random(points) < 0.45
    x, y = np.where(leg, 0.85 * np.sign(x), x), np.where(leg, 0.5 * np.sign(y), 0.6 * y)
    return np.stack([x, y, np.where(leg, 0.45 * z - 0.05, 0.4)], axis=1)


def made() -> Exhibit:
    """Two lamps and two tables that lose their order on the way."""
    random = np.random.default_rng(0)
    dense = torch.tensor(np.stack([make(random, 400) for make in (lamp, lamp, table, table)]), dtype=torch.float32)
    labels = torch.tensor([0, 0, 1, 1])
    real = PointClouds(dense, labels, ("lamp", "coffee_table"), {"name": "made"})
    start = dense[:, :128].contiguous()
    drift = torch.tensor(0.07 * random.standard_normal(start.shape), dtype=torch.float32)
    clouds = PointClouds(start + drift, labels, real.class_names)
    near = nearest_real(clouds, real)
    frames = (start, start + drift / 2, start + drift)
    return Exhibit("made: 384 bytes per class", clouds, frames, (0, 50, 100), real=Real(near, real.points[near.index]))


def still(path: Path, exhibit: Exhibit, **options: Any) -> Image.Image:
    picture(exhibit, path.with_suffix(".png"), **SMALL, **options)
    with Image.open(path.with_suffix(".png")) as image:
        return image.copy()


def frame(path: Path, film: Callable[..., str], number: int, **options: Any) -> Image.Image:
    """One of a GIF."""
    film(one(plain()), path.with_suffix(".gif"), **SMALL, **options)
    with Image.open(path.with_suffix(".gif")) as image:
        image.seek(number)
        return image.convert("RGB")


def plain() -> Exhibit:
    return replace(made(), real=None)


def one(exhibit: Exhibit) -> Exhibit:
    """Of each class."""
    return exhibit.only(torch.tensor([0, 2]))


PICTURES: dict[str, Callable[[Path], Image.Image]] = {
    "white": lambda path: still(path, plain()),
    "dark": lambda path: still(path, one(plain()), background="dark", initial=True),
    "transparent": lambda path: still(path, plain(), background="transparent"),
    "moved": lambda path: still(path, one(made()), colouring="moved"),
    "turntable": lambda path: frame(path, turntable, 7),
    "evolution": lambda path: frame(path, evolution, 30, colouring="moved", background="dark"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_look_as_they_did(name: str, tmp_path: Path) -> None:
    drawn, golden = PICTURES[name](tmp_path / name), GOLDEN / f"{name}.png"
    if os.environ.get("PCDISTILL_GOLDEN") == "write":
        golden.parent.mkdir(exist_ok=True)
        drawn.save(golden, optimize=True)
    assert golden.stat().st_size < 40_000
    with Image.open(golden) as expected:
        assert alike(drawn, expected), f"{golden.name}: look at {tmp_path}"


def test_every_golden_picture_is_drawn() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == set(PICTURES)


@pytest.fixture
def white(tmp_path: Path) -> Image.Image:
    return PICTURES["white"](tmp_path / "white")


def test_smoother_edges_are_no_difference(white: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (scene, splat):
        monkeypatch.setattr(module, "SUPERSAMPLING", 3)
    other = PICTURES["white"](tmp_path / "other")
    assert np.abs(np.asarray(other).astype(int) - np.asarray(white)).max() > 30
    assert alike(white, other)


def turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "AZIMUTH", scene.AZIMUTH + np.deg2rad(5))


def lift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "ELEVATION", scene.ELEVATION - np.deg2rad(5))


def swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcdistill.viewing.exhibit.colour_map", lambda share: scene.colour_map(share)[..., ::-1])


def shift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "pcdistill.viewing.exhibit.colour_map", lambda share: scene.colour_map(np.clip(share + 0.12, 0, 1))
    )


def relight(monkeypatch: pytest.MonkeyPatch) -> None:
    across = np.array([-1, 1, 1], dtype=np.float32)
    for name in ("LIGHT", "HALFWAY"):
        monkeypatch.setattr(scene, name, getattr(scene, name) * across)


def clear_the_air(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "HAZE", 0.0)


def fly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "shadow", lambda tile, focal, size: 0 * scene.shadow(tile, focal, size))


@pytest.mark.parametrize("harm", [turn, lift, swap, shift, relight, clear_the_air, fly], ids=lambda harm: harm.__name__)
def test_a_wrong_camera_colour_or_light_is_seen(
    harm: Callable[[pytest.MonkeyPatch], None], white: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harm(monkeypatch)
    assert not alike(white, PICTURES["white"](tmp_path / "other"))


def test_a_wrong_colouring_label_title_or_paper_is_seen(white: Image.Image, tmp_path: Path) -> None:
    exhibit = plain()
    names = replace(exhibit, clouds=replace(exhibit.clouds, class_names=("coffee_table", "lamp")))
    assert not alike(white, still(tmp_path / "names", names))
    assert not alike(white, still(tmp_path / "title", replace(exhibit, title="made: 385 octets per class")))
    moved = still(tmp_path / "moved", exhibit, colouring="moved")
    back = still(tmp_path / "back", replace(exhibit, frames=exhibit.frames[1:], steps=(50, 100)), colouring="moved")
    assert moved.size != white.size  # the legend
    assert alike(moved, back)  # the same on another scale, which the legend alone tells
    assert not alike(moved, still(tmp_path / "real", made(), colouring="real").crop((0, 0, *moved.size)))
    clear = still(tmp_path / "clear", exhibit, background="transparent")
    assert not alike(white, clear)
    thin = Image.merge("RGBA", (*clear.split()[:3], clear.split()[3].point(lambda alpha: alpha * 4 // 5)))
    assert not alike(clear, thin)

"""Off-screen Open3D, kept at arm's length: a process that may die without taking us with it."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pcdistill.viewing.scene import DISTANCE, SUPERSAMPLING, Floats, Tile, shade, shrink
from pcdistill.viewing.spheres import sphere

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("_open3d_worker.py")))
_TRIANGLES_PER_TILE = 64_000
_START_SECONDS, _TILE_SECONDS = 60.0, 1.0


class RenderFailure(Exception):
    """Open3D could not draw; the message says why in a few words."""


def render(tiles: Sequence[Tile], focal: float, size: int) -> NDArray[np.uint8]:
    """Pictures `(T, size, size, 4)` of the tiles: RGBA, colours premultiplied by alpha.

    Raises:
        RenderFailure: whatever befell the process: no package, no driver, a crash, no answer in time.
    """
    side = size * SUPERSAMPLING
    counts = [len(tile.points) for tile in tiles]
    ball, faces = sphere(_TRIANGLES_PER_TILE // max(counts), open_behind=True)
    with tempfile.TemporaryDirectory(prefix="pcdistill-") as folder:
        source, target = Path(folder, "tiles.npz"), Path(folder, "pictures.npy")
        np.savez(
            source,
            side=np.array(side),
            camera=np.array([focal * side / 2, DISTANCE]),  # focal length in pixels, distance of the eye
            ball=ball,  # one sphere: (V, 3) vertices, which are its normals too, and (F, 3) faces
            faces=faces,
            counts=np.array(counts),  # of points in each tile
            radii=np.array([tile.radius for tile in tiles]),
            centres=np.concatenate([tile.points for tile in tiles]),
            colours=np.concatenate([_lit(tile, ball) for tile in tiles]),
        )
        _run([*COMMAND, str(source), str(target)], _START_SECONDS + _TILE_SECONDS * len(tiles))
        return _read(target, (len(tiles), side, side, 3))


def _lit(tile: Tile, normals: Floats) -> NDArray[np.uint8]:
    """Colours `(P, V, 3)` of the vertices of every sphere."""
    everywhere = np.broadcast_to(normals, (len(tile.points), *normals.shape))
    return (shade(tile.colours[:, None], everywhere) * 255 + 0.5).astype(np.uint8)


def _run(command: list[str], seconds: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RenderFailure(f"no answer after {seconds:.0f} s") from None
    except OSError as error:
        raise RenderFailure(str(error)) from None
    if done.returncode < 0:
        raise RenderFailure(f"killed by signal {-done.returncode}: {signal.strsignal(-done.returncode)}")
    if done.returncode > 0:
        lines = done.stderr.strip().splitlines()
        raise RenderFailure(lines[-1] if lines else f"exit code {done.returncode}")


def _read(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        drawn: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise RenderFailure(f"left no readable picture ({error})") from None
    if drawn.shape != shape or drawn.dtype != np.uint8:
        raise RenderFailure(f"drew {drawn.dtype} {drawn.shape} instead of uint8 {shape}")
    pictures = np.stack([shrink(_with_alpha(picture)) for picture in drawn])
    if not pictures[..., 3].any(axis=(1, 2)).all():
        raise RenderFailure("drew an empty picture")
    return pictures


def _with_alpha(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    covered = picture.any(axis=2, keepdims=True)
    return np.concatenate([picture, np.where(covered, np.uint8(255), np.uint8(0))], axis=2)

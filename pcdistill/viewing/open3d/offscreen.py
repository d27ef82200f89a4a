"""Off-screen Open3D, kept at arm's length: a process that may die without taking us with it."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from threading import Event, Timer

import numpy as np
from numpy.typing import NDArray

from pcdistill.viewing.open3d.spheres import sphere
from pcdistill.viewing.scene import DARKEST, DISTANCE, SUPERSAMPLING, Tile, light, shrink

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("_open3d_worker.py")))
_TRIANGLES_PER_TILE = 64_000
_START_SECONDS, _TILE_SECONDS = 60.0, 1.0


class RenderFailure(Exception):
    """Open3D could not draw; the message says why in a few words."""


def render(tiles: Sequence[Tile], focal: float, size: int) -> Generator[NDArray[np.uint8], None, None]:
    """Pictures `(size, size, 4)` of the tiles, as they are drawn: RGBA, colours premultiplied by alpha.

    Raises:
        RenderFailure: whatever befell the process: no package, no driver, a crash, no answer in time.
    """
    side = size * SUPERSAMPLING
    seconds = _START_SECONDS + _TILE_SECONDS * len(tiles) * max(1.0, side / 1024) ** 2
    with tempfile.TemporaryDirectory(prefix="pcdistill-") as folder:
        source = Path(folder, "tiles.npz")
        _write(source, tiles, focal, side)
        for picture in _drawn([*COMMAND, str(source)], len(tiles), (side, side, 3), seconds, Path(folder, "said")):
            picture = shrink(_with_alpha(picture))
            if not picture[..., 3].any():
                raise RenderFailure("drew an empty picture")
            yield picture


def _write(path: Path, tiles: Sequence[Tile], focal: float, side: int) -> None:
    """All that the process needs to know, as arrays."""
    counts = [len(tile.points) for tile in tiles]
    ball, faces = sphere(_TRIANGLES_PER_TILE // max(counts), open_behind=True)
    gain, gloss = light(ball)
    np.savez(
        path,
        side=np.array(side),
        camera=np.array([focal * side / 2, DISTANCE]),  # focal length in pixels, distance of the eye
        ball=ball,  # one sphere: (V, 3) vertices, which are its normals too, and (F, 3) faces
        faces=faces,
        gain=gain,  # (V,) what a colour is multiplied by, and
        gloss=gloss,  # what is added to it, there
        darkest=np.array(DARKEST),
        counts=np.array(counts),  # of points in each tile
        radii=np.array([tile.radius for tile in tiles]),
        centres=np.concatenate([tile.points for tile in tiles]),
        colours=np.concatenate([tile.colours for tile in tiles]),
    )


def _drawn(
    command: list[str], count: int, shape: tuple[int, ...], seconds: float, said: Path
) -> Iterator[NDArray[np.uint8]]:
    """Pictures that the process writes to its standard output, which ends with the last of them."""
    size = int(np.prod(shape))
    with said.open("wb") as errors:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        except OSError as error:
            raise RenderFailure(str(error)) from None
    assert process.stdout is not None
    late = Event()

    def stop() -> None:
        late.set()
        process.kill()

    watch = Timer(seconds, stop)
    watch.start()
    try:
        for _ in range(count):
            data = process.stdout.read(size)
            if len(data) < size:
                break
            yield np.frombuffer(data, dtype=np.uint8).reshape(shape)
        whole = len(data) == size and not process.stdout.read(1)
        if process.wait() or not whole:
            raise RenderFailure(f"no answer after {seconds:.0f} s" if late.is_set() else _why(process.returncode, said))
    finally:  # also when nobody wants the rest
        watch.cancel()
        process.kill()
        process.stdout.close()
        process.wait()


def _why(code: int, said: Path) -> str:
    if code < 0:
        return f"killed by signal {-code}: {signal.strsignal(-code)}"
    if code == 0:
        return "did not draw the pictures that it was asked for"
    lines = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {code}"


def _with_alpha(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    covered = picture.any(axis=2, keepdims=True)
    return np.concatenate([picture, np.where(covered, np.uint8(255), np.uint8(0))], axis=2)

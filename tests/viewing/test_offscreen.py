"""The Open3D process: that it draws what the builtin renderer draws, and that it may fail in any way."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pcdistill.clouds import PointClouds
from pcdistill.viewing import gallery, splat
from pcdistill.viewing.open3d import offscreen
from pcdistill.viewing.scene import make_tiles


@cache
def why_no_open3d() -> str:
    """Empty when `import open3d` works; in a process of its own, as it may not leave ours unharmed."""
    done = subprocess.run([sys.executable, "-c", "import open3d"], capture_output=True, text=True)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it crashed"])[-1]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the rendering process by a Python program; its argument is IN.npz, its output the pictures."""

    def replace(program: str) -> None:
        monkeypatch.setattr(offscreen, "COMMAND", (sys.executable, "-c", program))

    return replace


def silhouettes(pictures: np.ndarray, size: int) -> np.ndarray:
    side = pictures.shape[1] // size
    alpha = pictures[..., 3].astype(float) / 255
    return np.asarray(alpha.reshape(len(pictures), size, side, size, side).mean((2, 4)))


@pytest.mark.skipif(bool(why_no_open3d()), reason=f"Open3D does not load: {why_no_open3d()}")
def test_open3d_draws_what_the_builtin_renderer_draws(
    clouds: PointClouds, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiles, focal = make_tiles(list(clouds.points.numpy()))
    try:
        theirs = np.stack(list(offscreen.render(tiles, focal, 120)))
    except offscreen.RenderFailure as reason:
        if not re.search("killed by signal|could not create", str(reason)):
            raise
        pytest.skip(f"Open3D cannot draw off-screen here: {reason}")
    ours = np.stack(list(splat.render(tiles, focal, 120)))
    assert theirs.shape == ours.shape
    assert np.abs(silhouettes(ours, 30) - silhouettes(theirs, 30)).max() < 0.12
    assert np.abs(silhouettes(ours, 30) - silhouettes(theirs, 30)).mean() < 0.01
    both = (ours[..., 3] == 255) & (theirs[..., 3] == 255)
    assert np.abs(ours.astype(int) - theirs)[both].mean() < 6
    assert gallery(clouds, tmp_path / "a.png", tile=64) == "open3d"
    assert capsys.readouterr().err == ""


WRITE = "import sys; sys.stdout.buffer.write"  # five pictures of 128 x 128 pixels are asked for
CRASHES = {
    "abort": ("import os; os.abort()", "killed by signal 6: Aborted"),
    "segfault": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "killed by signal 11: Segmentation",
    ),
    "missing package": ("import no_such_open3d", "ModuleNotFoundError: No module named 'no_such_open3d'"),
    "missing library": (
        "raise ImportError('libusb-1.0.so.0: cannot open shared object file')",
        "libusb-1.0.so.0",
    ),
    "silent exit": ("raise SystemExit(3)", "exit code 3"),
    "no picture": ("pass", "did not draw the pictures that it was asked for"),
    "half a picture": (f"{WRITE}(bytes(5000))", "did not draw the pictures"),
    "too many": (f"{WRITE}(bytes([9]) * {5 * 128 * 128 * 3 + 1})", "did not draw the pictures"),
    "empty": (f"{WRITE}(bytes({5 * 128 * 128 * 3}))", "drew an empty picture"),
    "last one missing": (
        f"{WRITE}(bytes([9]) * {4 * 128 * 128 * 3}); sys.stdout.flush(); import os; os.abort()",
        "killed by signal 6",
    ),
    "crash at the end": (
        f"{WRITE}(bytes([9]) * {5 * 128 * 128 * 3}); sys.stdout.flush(); import os; os.abort()",
        "killed by signal 6",
    ),
    "too much on stderr": (
        "import sys; sys.stderr.write('no driver\\n' * 200_000 + 'none'); sys.exit(1)",
        "failed: none",
    ),
}


@pytest.mark.parametrize(("program", "reason"), CRASHES.values(), ids=list(CRASHES))
@pytest.mark.parametrize("renderer", ["auto"])
def test_whatever_befalls_open3d_the_builtin_renderer_draws_after_one_line(
    clouds: PointClouds,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    worker: Callable[[str], None],
    program: str,
    reason: str,
    renderer: str,
) -> None:
    worker(program)
    assert gallery(clouds, tmp_path / "a.png", tile=64) == "builtin"
    gallery(clouds, tmp_path / "b.png", tile=64, renderer="builtin")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    said = capsys.readouterr().err
    assert said.startswith("pcdistill: drawing with the builtin renderer, Open3D failed: ")
    assert reason in said
    assert said.count("\n") == 1


def test_a_process_that_hangs_is_ended(
    clouds: PointClouds,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    worker: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker("import time; time.sleep(60)")
    monkeypatch.setattr(offscreen, "_START_SECONDS", 0.2)
    monkeypatch.setattr(offscreen, "_TILE_SECONDS", 0.0)
    assert gallery(clouds, tmp_path / "a.png", tile=64, renderer="open3d") == "builtin"
    assert "no answer" in capsys.readouterr().err


def test_pictures_come_as_they_are_drawn_and_nothing_stays_when_nobody_wants_more(
    clouds: PointClouds, worker: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    note = tmp_path / "process"
    worker(
        f"import os, pathlib, sys, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid()));"
        f"sys.stdout.buffer.write(bytes([9]) * {128 * 128 * 3}); sys.stdout.flush(); time.sleep(60)"
    )
    pictures = offscreen.render(*make_tiles(list(clouds.points.numpy())), 64)
    assert next(pictures).shape == (64, 64, 4)
    begun = time.monotonic()
    pictures.close()
    assert time.monotonic() - begun < 30  # it is not waited for
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
    assert not list((tmp_path / "temporary").iterdir())


def test_without_the_package_the_real_process_says_so(
    clouds: PointClouds, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "path"
    blocked.mkdir()
    (blocked / "open3d.py").write_text("raise ModuleNotFoundError(\"No module named 'open3d'\")\n")
    monkeypatch.setenv("PYTHONPATH", str(blocked))
    assert gallery(clouds, tmp_path / "a.png", tile=64) == "builtin"
    assert "No module named 'open3d'" in capsys.readouterr().err


def test_the_process_loads_nothing_else_of_the_package() -> None:
    """Torch would double the time to the first picture, and two OpenMP run-times do not like each other."""
    loaded = "bool({'torch', 'pcdistill'} & {*sys.modules})"
    program = f"import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit({loaded})"
    assert subprocess.run([sys.executable, "-P", "-c", program, offscreen.COMMAND[-1]]).returncode == 0

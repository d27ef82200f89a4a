"""Machines that lack a display, drivers or Open3D: the command line draws the same picture on all of them."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pcdistill.cli import main
from tests.viewing.perceptual import alike

REPOSITORY = Path(__file__).parents[2]
BLOCKER = "raise ModuleNotFoundError(\"No module named 'open3d'\")\n"
NO_VULKAN = {"VK_ICD_FILENAMES": "/nonexistent", "VK_DRIVER_FILES": "/nonexistent"}
NO_EGL = {"__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent", "__EGL_VENDOR_LIBRARY_DIRS": "/nonexistent"}
DRAW = ["view", "set", "--png", "a.png", "--tile", "96"]
# Name: what is set, and whether Open3D can be imported.
CASES: dict[str, tuple[dict[str, str], bool]] = {
    "as it is": ({}, True),
    "no Vulkan driver": (NO_VULKAN, True),
    "no driver at all": ({**NO_VULKAN, **NO_EGL}, True),
    "no Open3D": ({}, False),
}
FALLBACK = "pcdistill: drawing with the builtin renderer, Open3D failed: "


def small_set(folder: Path) -> None:
    for label in ("box", "ball"):
        (folder / "set" / label).mkdir(parents=True)
        points = np.random.default_rng(len(label)).uniform(-1, 1, (2, 200, 3))
        if label == "ball":
            points /= np.linalg.norm(points, axis=2, keepdims=True)
        for number, cloud in enumerate(points):
            np.save(folder / "set" / label / f"{number}.npy", cloud)


def run(folder: Path, variables: Mapping[str, str], open3d: bool) -> subprocess.CompletedProcess[str]:
    """`pcdistill` in a process of its own, without a display, in a folder with a small data set."""
    small_set(folder)
    path = [str(REPOSITORY)]
    if not open3d:  # the process that draws does not find it either
        (folder / "path").mkdir()
        (folder / "path" / "open3d.py").write_text(BLOCKER)
        path.insert(0, str(folder / "path"))
    kept = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "pcdistill.cli", *DRAW]
    environment = {**kept, "PYTHONPATH": os.pathsep.join(path), **variables}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, errors="replace", timeout=300
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, subprocess.CompletedProcess[str]]]:
    """All cases, two at a time."""
    folders = {name: tmp_path_factory.mktemp(re.sub(r"\W", "-", name)) for name in CASES}
    with ThreadPoolExecutor(2) as pool:
        ends = pool.map(lambda name: run(folders[name], *CASES[name]), CASES)
        return {name: (folders[name], end) for name, end in zip(CASES, ends, strict=True)}


@pytest.mark.parametrize("name", CASES)
def test_a_bare_machine_draws_the_same_picture(
    done: dict[str, tuple[Path, subprocess.CompletedProcess[str]]],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, end = done[name]
    assert end.returncode == 0, end.stderr
    used = re.fullmatch(r"wrote a.png \(renderer: (open3d|builtin)\)\n", end.stdout)
    assert used, end.stdout
    if used[1] == "open3d":
        assert end.stderr == ""
    else:
        assert end.stderr.startswith(FALLBACK)
        assert end.stderr.count("\n") == 1
    small_set(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main([*DRAW, "--renderer", "builtin"]) == 0
    with Image.open(folder / "a.png") as picture, Image.open("a.png") as expected:
        assert alike(picture, expected)
        assert np.ptp(np.asarray(picture).astype(int), axis=2).max() > 100


def test_what_is_missing_is_named(done: dict[str, tuple[Path, subprocess.CompletedProcess[str]]]) -> None:
    assert "No module named 'open3d'" in done["no Open3D"][1].stderr
    assert "renderer: builtin" in done["no driver at all"][1].stdout
    if "renderer: open3d" not in done["as it is"][1].stdout:
        pytest.skip(f"Open3D does not draw on this machine: {done['as it is'][1].stderr.strip()}")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may lack a display")
@pytest.mark.parametrize(("open3d", "line"), [
    ("", "display: neither DISPLAY nor WAYLAND_DISPLAY is set, "
         "expected a desktop session (--html and --png need none)"),
    (BLOCKER, "open3d: not installed, expected pip install 'pcdistill[open3d]'"),
])  # fmt: skip
def test_a_window_that_cannot_be_is_one_line(
    open3d: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small_set(tmp_path)
    (tmp_path / "open3d.py").write_text(open3d)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    try:
        assert main(["view", "set", "--window"]) == 2
    finally:
        sys.modules.pop("open3d", None)
    assert capfd.readouterr() == ("", f"pcdistill: error: {line}\n")

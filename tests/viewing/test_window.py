import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.viewing import open_window, window


@pytest.fixture
def stub_open3d(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable `open3d.py` whose text a test chooses; the real one is not loaded into this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    return tmp_path / "open3d.py"


def test_a_missing_package_names_the_extra(clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(InputError, match=r"open3d: not installed, expected pip install 'pcdistill\[open3d\]'"):
        open_window(clouds)


def test_a_missing_system_library_is_named(clouds: PointClouds, stub_open3d: Path) -> None:
    stub_open3d.write_text("raise ImportError('libusb-1.0.so.0: cannot open shared object file')")
    with pytest.raises(InputError, match=r"open3d: does not load \(libusb-1.0.so.0"):
        open_window(clouds)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux may lack a display")
@pytest.mark.parametrize(
    ("name", "message"), [(None, "neither DISPLAY nor"), (":1234", "DISPLAY=:1234 cannot be opened")]
)
def test_a_missing_display_is_one_line(
    clouds: PointClouds, stub_open3d: Path, monkeypatch: pytest.MonkeyPatch, name: str | None, message: str
) -> None:
    stub_open3d.write_text("")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if name:
        monkeypatch.setenv("DISPLAY", name)
    with pytest.raises(InputError, match=message):
        open_window(clouds)


def test_columns_are_checked(clouds: PointClouds) -> None:
    with pytest.raises(InputError, match="columns: 0, expected at least 1"):
        open_window(clouds, columns=0)


def test_the_grid_puts_clouds_side_by_side_and_classes_below_each_other(clouds: PointClouds) -> None:
    rows = [[cloud.numpy() for cloud in clouds.of_class(label).points] for label in (0, 2)]
    vertices, colours, faces = window.grid(rows)
    assert vertices.shape == colours.shape
    assert faces.max() == len(vertices) - 1
    per_cloud = len(vertices) // 5
    middles = []
    for part in np.split(vertices, 5):
        assert (np.ptp(part, axis=0) < 1.05).all()
        middles.append((part.max(0) + part.min(0)) / 2)
    expected = [[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 0, -1], [1, 0, -1]]
    np.testing.assert_allclose(middles, expected, atol=0.03)
    # Higher is lighter: green grows with height in the colour map.
    height, green = vertices[:per_cloud, 2], colours[:per_cloud, 1]
    assert np.corrcoef(height, green)[0, 1] > 0.9


def test_lettering_is_upright_and_left_of_the_origin() -> None:
    short, _ = window.lettering("bed")
    vertices, faces = window.lettering("night stand")
    assert faces.max() == len(vertices) - 1
    assert (vertices[:, 1] == 0).all()
    assert vertices[:, 0].max() <= 0
    assert vertices[:, 0].min() < 2 * short[:, 0].min()
    assert np.abs(vertices[:, 2]).max() < 0.3
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert (np.cross(b - a, c - a)[:, 1] < 0).all()  # faces look towards the eye, at -y


def test_open3d_shows_clouds_and_names(tmp_path: Path) -> None:
    """The real calls, in a process of its own: drawn off-screen, with `run` replaced by a snapshot."""
    program = """
        import sys
        import open3d
        import numpy, torch
        from pcdistill.clouds import PointClouds
        from pcdistill.viewing import open_window, window

        def snapshot(self):
            numpy.save(sys.argv[1], numpy.asarray(self.capture_screen_float_buffer(True)))

        open3d.visualization.Visualizer.run = snapshot
        window._check_display = lambda: None
        points = torch.rand(4, 64, 3, generator=torch.Generator().manual_seed(0))
        open_window(PointClouds(points, torch.tensor([0, 0, 1, 1]), ("bed", "night_stand")))
    """
    target = tmp_path / "seen.npy"
    command = [sys.executable, "-c", textwrap.dedent(program), str(target)]
    root = Path(window.__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", timeout=120)
    lines = done.stderr.strip().splitlines() or ["it crashed"]
    if done.returncode < 0 or "InputError" in lines[-1] or "import open3d" in done.stderr:
        pytest.skip(f"Open3D cannot draw here: {lines[-1]}")
    assert done.returncode == 0, lines[-1]
    seen = np.load(target)
    grey = np.ptp(seen, axis=2) < 0.1
    paper, ink = grey & (seen.min(2) > 0.95), grey & (seen.max(2) < 0.3)
    assert 0.5 < paper.mean() < 0.99
    # All in view, the names to the left of every cloud.
    assert paper[[0, -1]].all()
    assert paper[:, [0, -1]].all()
    left = seen.shape[1] // 2
    assert ink[:, :left].sum() > 500
    assert ink[:, :left].sum() > 5 * ink[:, left:].sum()

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.viewing import gallery
from pcdistill.viewing.pictures import first_of_class


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.mode == "RGB"
        pixels: np.ndarray = np.asarray(image).astype(int)
        return pixels


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.verify()
        return image.size


def coloured(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(np.ptp(pixels, axis=2) > 40)


def test_a_gallery_is_a_png_with_a_row_per_class_and_a_column_per_cloud(clouds: PointClouds, tmp_path: Path) -> None:
    assert gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=80) == "builtin"
    pixels = picture(tmp_path / "a.png")
    height, width = pixels.shape[:2]
    # Two classes have clouds, the widest row holds three.
    assert 2 * 80 < height < 3 * 80
    assert 3 * 80 < width < 5 * 80
    seen = coloured(pixels)
    edges = width - np.array([3.05, 2.05, 1.05, 0.05]) * 80
    for row, present in ((0, [1, 1, 1]), (1, [1, 1, 0])):
        half = seen[row * height // 2 : (row + 1) * height // 2]
        found = [half[:, int(a) : int(b)].any() for a, b in pairwise(edges)]
        assert found == [bool(p) for p in present]


def test_columns_limit_the_width_and_the_title_adds_height(clouds: PointClouds, tmp_path: Path) -> None:
    for name, columns, title in (("all", 8, None), ("one", 1, None), ("title", 8, "A title")):
        gallery(clouds, tmp_path / name, renderer="builtin", tile=64, columns=columns, title=title)
    (wide, high), (narrow, _), (_, higher) = (size(tmp_path / name) for name in ("all", "one", "title"))
    assert wide - narrow == 2 * 64
    assert higher > high


def test_the_same_clouds_give_the_same_bytes_however_their_points_are_ordered(
    clouds: PointClouds, tmp_path: Path
) -> None:
    order = torch.randperm(clouds.points_per_cloud, generator=torch.Generator().manual_seed(1))
    gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=64)
    gallery(clouds.with_points(clouds.points[:, order]), tmp_path / "b.png", renderer="builtin", tile=64)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_backgrounds(clouds: PointClouds, tmp_path: Path) -> None:
    backgrounds: list[tuple[Literal["white", "dark"], bool]] = [("white", True), ("dark", False)]
    for background, bright in backgrounds:
        gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=64, background=background)
        pixels = picture(tmp_path / "a.png")
        assert (pixels[0, 0] > 128).all() == bright
        # The class name stands out from the paper.
        assert np.ptp(pixels[:, :20].mean(2)) > 100


def test_initial_clouds_get_rows_of_their_own_above_the_distilled(clouds: PointClouds, tmp_path: Path) -> None:
    flat = clouds.with_points(clouds.points * torch.tensor([1.0, 1.0, 0.0]))
    gallery(clouds, tmp_path / "alone.png", renderer="builtin", tile=64, columns=1)
    gallery(clouds, tmp_path / "pair.png", renderer="builtin", tile=64, columns=1, initial=flat)
    (_, alone), (_, pair) = size(tmp_path / "alone.png"), size(tmp_path / "pair.png")
    assert pair - alone == 2 * 64
    seen = coloured(picture(tmp_path / "pair.png"))[: pair // 2]
    rows = [np.flatnonzero(half.any(1)) for half in np.split(seen[: pair // 2 // 2 * 2], 2)]
    assert np.ptp(rows[0]) < 0.8 * np.ptp(rows[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 0}, "columns: 0, expected at least 1"),
        ({"tile": 5}, "tile: 5 pixels, expected 32 to 2048"),
        ({"background": "pink"}, "background: 'pink', expected one of white, dark"),
        ({"renderer": "mitsuba"}, "renderer: 'mitsuba', expected one of"),
    ],
)
def test_bad_options_are_named(clouds: PointClouds, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        gallery(clouds, tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_initial_clouds_must_pair_up(clouds: PointClouds, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="initial: classes"):
        gallery(clouds, tmp_path / "a.png", initial=replace(clouds, class_names=("a", "b", "c")))
    with pytest.raises(InputError, match=r"initial: \[2, 0, 2\] clouds per class, expected \[3, 0, 2\]"):
        gallery(clouds, tmp_path / "a.png", initial=clouds[:4])


@pytest.mark.parametrize("name", ["", "file/a.png"])
def test_a_path_that_cannot_be_written_is_an_oserror_before_anything_is_drawn(
    clouds: PointClouds, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("taken")
    monkeypatch.setattr("pcdistill.viewing.splat.render", lambda *_: pytest.fail("drawn in vain"))
    with pytest.raises(OSError, match=r"file|directory"):
        gallery(clouds, tmp_path / name, renderer="builtin")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failure_while_saving_leaves_the_old_picture(
    clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    (tmp_path / "a.png").write_text("old")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space left"):
        gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=64)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_the_named_up_axis_becomes_z_without_mirroring(up: str) -> None:
    basis = torch.eye(3)[None]
    clouds = PointClouds(basis, torch.tensor([0]), ("frame",), {"up_axis": up})
    turned = first_of_class(clouds, 1)[0][0]
    np.testing.assert_array_equal(turned["xyz".index(up)], [0, 0, 1])
    assert np.linalg.det(turned) == pytest.approx(1)


def test_a_cloud_of_unspecified_frame_is_shown_as_it_stands() -> None:
    points = torch.eye(3)[None]
    clouds = PointClouds(points, torch.tensor([0]), ("frame",), {"up_axis": "unspecified"})
    assert np.array_equal(first_of_class(clouds, 1)[0][0], points[0].numpy())


def test_an_unknown_up_axis_is_named() -> None:
    clouds = PointClouds(torch.zeros(1, 1, 3), torch.tensor([0]), ("a",), {"up_axis": "w"})
    with pytest.raises(InputError, match="up_axis: 'w', expected x, y or z"):
        first_of_class(clouds, 1)


def test_soft_labels_and_learned_points_are_shown(clouds: PointClouds, tmp_path: Path) -> None:
    soft = torch.nn.functional.one_hot(clouds.labels, 3) * 0.7 + 0.1
    learned = PointClouds(clouds.points.clone().requires_grad_(), soft, clouds.class_names)
    gallery(clouds, tmp_path / "hard.png", renderer="builtin", tile=64)
    gallery(learned, tmp_path / "soft.png", renderer="builtin", tile=64)
    assert (tmp_path / "hard.png").read_bytes() == (tmp_path / "soft.png").read_bytes()

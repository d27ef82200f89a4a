from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.viewing import Exhibit, gallery, picture, shades, splat
from pcdistill.viewing.exhibit import COLOURINGS
from pcdistill.viewing.open3d import offscreen
from pcdistill.viewing.pictures import GREY, between, drawn_by, strips_of
from pcdistill.viewing.scene import PART_COLOURS, colour_map


def seen(path: Path) -> np.ndarray:
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
    pixels = seen(tmp_path / "a.png")
    height, width = pixels.shape[:2]
    # Two classes have clouds, the widest row holds three.
    assert 2 * 80 < height < 3 * 80
    assert 3 * 80 < width < 5 * 80
    bright = coloured(pixels)
    edges = width - np.array([3.05, 2.05, 1.05, 0.05]) * 80
    for row, present in ((0, [1, 1, 1]), (1, [1, 1, 0])):
        half = bright[row * height // 2 : (row + 1) * height // 2]
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
        pixels = seen(tmp_path / "a.png")
        assert (pixels[0, 0] > 128).all() == bright
        # The class name stands out from the paper.
        assert np.ptp(pixels[:, :20].mean(2)) > 100


def test_initial_clouds_get_rows_of_their_own_above_the_distilled(clouds: PointClouds, tmp_path: Path) -> None:
    flat = clouds.with_points(clouds.points * torch.tensor([1.0, 1.0, 0.0]))
    gallery(clouds, tmp_path / "alone.png", renderer="builtin", tile=64, columns=1)
    gallery(clouds, tmp_path / "pair.png", renderer="builtin", tile=64, columns=1, initial=flat)
    (_, alone), (_, pair) = size(tmp_path / "alone.png"), size(tmp_path / "pair.png")
    assert pair - alone == 2 * 64
    bright = coloured(seen(tmp_path / "pair.png"))[: pair // 2]
    rows = [np.flatnonzero(half.any(1)) for half in np.split(bright[: pair // 2 // 2 * 2], 2)]
    assert np.ptp(rows[0]) < 0.8 * np.ptp(rows[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 0}, "columns: 0, expected at least 1"),
        ({"tile": 5}, "tile: 5 pixels, expected 32 to 2048"),
        ({"background": "pink"}, "background: 'pink', expected one of white, dark, transparent"),
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


@pytest.mark.parametrize("up", ["x", "y", "z", "unspecified"])
def test_clouds_stand_upright_whatever_axis_they_name(clouds: PointClouds, tmp_path: Path, up: str) -> None:
    """Turned so that their third coordinate is the named axis, they give the same picture."""
    turn = {"x": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], "y": [[1, 0, 0], [0, 0, 1], [0, -1, 0]]}.get(up, torch.eye(3))
    turned = clouds.points @ torch.as_tensor(turn, dtype=torch.float32).T
    gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=64, columns=1)
    lying = replace(clouds, points=turned, provenance={"up_axis": up})
    gallery(lying, tmp_path / "b.png", renderer="builtin", tile=64, columns=1)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_unknown_up_axis_is_named(tmp_path: Path) -> None:
    clouds = PointClouds(torch.zeros(1, 1, 3), torch.tensor([0]), ("a",), {"up_axis": "w"})
    with pytest.raises(InputError, match="up_axis: 'w', expected x, y or z"):
        gallery(clouds, tmp_path / "a.png")


def test_soft_labels_and_learned_points_are_shown(clouds: PointClouds, tmp_path: Path) -> None:
    soft = torch.nn.functional.one_hot(clouds.labels, 3) * 0.7 + 0.1
    learned = PointClouds(clouds.points.clone().requires_grad_(), soft, clouds.class_names)
    gallery(clouds, tmp_path / "hard.png", renderer="builtin", tile=64)
    gallery(learned, tmp_path / "soft.png", renderer="builtin", tile=64)
    assert (tmp_path / "hard.png").read_bytes() == (tmp_path / "soft.png").read_bytes()


@pytest.mark.parametrize("colouring", [name for name in COLOURINGS if name != "part"])
def test_rows_are_the_first_guess_the_clouds_and_the_nearest_real_ones(exhibit: Exhibit, colouring: str) -> None:
    (initial, own, real), legend = strips_of(exhibit, colouring, initial=True)
    assert [strip.note for strip in (initial, own, real)] == ["initial", "distilled", "nearest real"]
    assert exhibit.real is not None
    for strip, points in ((initial, exhibit.frames[0]), (own, exhibit.frames[2]), (real, exhibit.real.nearest.points)):
        np.testing.assert_array_equal(strip.points, points[None].numpy())
        assert strip.colours.shape == strip.points.shape
    found = shades(exhibit, colouring)
    np.testing.assert_array_equal(initial.colours[0], colour_map(found.shares[0].numpy()))
    np.testing.assert_array_equal(own.colours[0], colour_map(found.shares[2].numpy()))
    assert (legend is None) == (colouring == "height")
    if legend is not None:
        assert (legend.label, legend.low, legend.high) == (found.label, found.low, found.high)
    if colouring in ("moved", "real"):  # they are what is compared with, or nothing is known of them
        assert (real.colours == np.float32(GREY)).all()
    else:
        twins = shades(replace(exhibit, frames=(exhibit.real.nearest.points,)), colouring)
        np.testing.assert_array_equal(real.colours, colour_map(twins.shares.numpy()))


def test_points_of_parts_are_painted_in_their_colours_on_all_the_way(exhibit: Exhibit) -> None:
    assert exhibit.real is not None
    parts = torch.randint(2, exhibit.clouds.points.shape[:2], generator=torch.Generator().manual_seed(0))
    clouds = replace(exhibit.clouds, parts=parts, part_names=PartNames.shared(("a", "b"), 3))
    places = np.linspace(0, 2, 7, dtype=np.float32)
    (own, real), legend = strips_of(replace(exhibit, clouds=clouds), "part", places=places.tolist())
    np.testing.assert_array_equal(own.colours, np.stack([PART_COLOURS[parts.numpy()]] * 7))
    assert (real.colours == np.float32(GREY)).all()  # whose parts are not known
    assert legend is not None
    assert legend.names == (("a", 0), ("b", 1))


def test_a_set_without_history_has_one_row_and_no_note(exhibit: Exhibit) -> None:
    alone = replace(exhibit, frames=exhibit.frames[-1:], steps=(0,), real=None)
    assert [strip.note for strip in strips_of(alone, "height")[0]] == [""]
    beside = replace(exhibit, frames=exhibit.frames[-1:], steps=(0,))
    assert [strip.note for strip in strips_of(beside, "height")[0]] == ["the set", "nearest real"]


def test_points_between_frames_lie_on_straight_ways() -> None:
    frames = np.random.default_rng(0).normal(size=(4, 2, 5, 3)).astype(np.float32)
    places = [0, 0.25, 1, 2.5, 3]
    expected = [np.array([np.interp(place, range(4), way) for way in frames.reshape(4, -1).T]) for place in places]
    np.testing.assert_allclose(between(frames, places), np.reshape(expected, (5, 2, 5, 3)), atol=1e-6)
    np.testing.assert_array_equal(between(frames, [3])[0], frames[3])
    np.testing.assert_array_equal(between(frames[:1], [0, 0]), frames[[0, 0]])


def test_a_picture_has_a_legend_where_it_is_not_of_the_height(exhibit: Exhibit, tmp_path: Path) -> None:
    sizes = {}
    for colouring in ("height", "moved"):
        picture(exhibit, tmp_path / "a.png", colouring=colouring, renderer="builtin", tile=48, initial=True)
        sizes[colouring] = seen(tmp_path / "a.png").shape
    assert sizes["moved"][0] - sizes["height"][0] in range(8, 24)
    plain = replace(exhibit, real=None)
    picture(plain, tmp_path / "b.png", colouring="moved", renderer="builtin", tile=48, initial=True)
    assert sizes["moved"][0] - seen(tmp_path / "b.png").shape[0] == 2 * 48  # a row less for either class


def test_a_gallery_and_a_picture_of_the_same_are_the_same(exhibit: Exhibit, tmp_path: Path) -> None:
    plain = replace(exhibit, real=None, judge=None)
    picture(plain, tmp_path / "a.png", renderer="builtin", tile=48, initial=True)
    gallery(
        plain.clouds.with_points(plain.frames[2]), tmp_path / "b.png", renderer="builtin", tile=48, title=plain.title,
        initial=plain.clouds.with_points(plain.frames[0]),
    )  # fmt: skip
    # Heights are shares of torch there and of NumPy here.
    assert np.abs(seen(tmp_path / "a.png") - seen(tmp_path / "b.png")).max() <= 1


def test_transparent_pictures_show_the_page(clouds: PointClouds, tmp_path: Path) -> None:
    gallery(clouds, tmp_path / "a.png", renderer="builtin", tile=64, background="transparent")
    gallery(clouds, tmp_path / "b.png", renderer="builtin", tile=64)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA"
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        alpha = np.asarray(image)[..., 3]
    assert {0, 255} <= set(alpha.ravel().tolist())
    assert ((alpha > 0) & (alpha < 255)).mean() > 0.05  # shadows and edges
    difference = np.abs(np.asarray(page)[..., :3].astype(int) - seen(tmp_path / "b.png"))
    assert difference.mean() < 1  # a rule and small print are darker, or one would not see them


@pytest.mark.parametrize("options", [{"tile": 31}, {"background": "pink"}, {"renderer": "x"}, {"colouring": "hight"}])
def test_bad_options_of_a_picture_are_named(exhibit: Exhibit, tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=rf"{next(iter(options)).replace('ing', '')}"):
        picture(exhibit, tmp_path / "a.png", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_open3d_that_is_not_there_has_not_failed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcdistill.viewing.pictures.find_spec", lambda _: None)
    monkeypatch.setattr(splat, "render", lambda *_: iter(["ours"]))
    assert drawn_by("auto", lambda render: list(render([], 1.0, 9))) == (["ours"], "builtin")
    assert capsys.readouterr().err == "pcdistill: drawing with the builtin renderer, Open3D is not installed\n"


def test_one_picture_has_one_renderer(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever Open3D has drawn before it failed is not used."""

    def failing(*_: object) -> Iterator[str]:
        yield "theirs"
        raise offscreen.RenderFailure("no more")

    monkeypatch.setattr(offscreen, "render", failing)
    monkeypatch.setattr(splat, "render", lambda *_: iter(["ours", "ours"]))
    assert drawn_by("auto", lambda render: list(render([], 1.0, 9))) == (["ours", "ours"], "builtin")
    assert capsys.readouterr().err == "pcdistill: drawing with the builtin renderer, Open3D failed: no more\n"
    assert drawn_by("builtin", lambda render: list(render([], 1.0, 9)))[1] == "builtin"
    assert capsys.readouterr().err == ""

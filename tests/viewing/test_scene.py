import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.viewing import scene
from pcdistill.viewing.pictures import GREY
from pcdistill.viewing.sheet import THEMES
from tests.viewing.perceptual import lab, linear


def cloud(points: int = 200, seed: int = 0) -> scene.Floats:
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32)


def test_the_view_is_a_rotation_with_up_upwards_and_seen_from_above() -> None:
    rotation = scene.view_rotation()
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-6)
    right, up, backward = rotation @ np.array([0.0, 0.0, 1.0])
    assert right == pytest.approx(0, abs=1e-6)
    assert up > 0.8
    assert 0.2 < backward < 0.6


def test_the_colour_map_is_perceptually_even_and_grows_lighter() -> None:
    colours = scene.colour_map(np.linspace(0, 1, 65, dtype=np.float32))
    assert colours.min() >= 0
    assert colours.max() <= 1
    assert colours[[0, 32, 64]].argmax(1).tolist() == [2, 1, 0]  # blue, green, yellow
    seen = lab(linear(colours.astype(np.float64)))
    assert (np.diff(seen[:, 0]) > 0).all()
    steps = np.linalg.norm(np.diff(seen, axis=0), axis=1)
    assert steps.max() < 3 * steps.min()


def test_colours_of_parts_stay_apart_and_are_seen_on_white_and_on_dark() -> None:
    light = linear(np.concatenate([scene.PART_COLOURS, [GREY]]).astype(np.float64))
    seen = lab(light)
    apart = np.linalg.norm(seen[:, None] - seen, axis=2)
    assert apart[np.triu_indices(len(seen), 1)].min() > 25  # Delta E; 2 can be told apart side by side
    luminance = light @ [0.2126, 0.7152, 0.0722]
    for theme in THEMES.values():
        paper = float(linear(np.array(theme.paper) / 255) @ [0.2126, 0.7152, 0.0722])
        contrast = (np.maximum(luminance, paper) + 0.05) / (np.minimum(luminance, paper) + 0.05)
        assert contrast.min() > 1.7


def test_higher_points_have_lighter_colours() -> None:
    height = np.random.default_rng(1).uniform(-1, 1, 100).astype(np.float32)
    light = lab(linear(scene.height_colours(height).astype(np.float64)))[:, 0]
    assert (np.argsort(light) == np.argsort(height)).all()


def test_a_flat_cloud_has_one_colour() -> None:
    colours = scene.height_colours(np.full(5, 0.3, dtype=np.float32))
    assert np.isfinite(colours).all()
    assert (colours == colours[0]).all()


@given(scale=st.floats(1e-3, 1e4), shift=st.floats(-1, 1))
def test_tiles_depend_on_neither_position_nor_unit(scale: float, shift: float) -> None:
    points = cloud()
    plain, focal = scene.make_tiles([points])
    moved, same_focal = scene.make_tiles([((points + shift) * scale).astype(np.float32)])
    np.testing.assert_allclose(moved[0].points, plain[0].points, atol=1e-4)
    np.testing.assert_allclose(moved[0].colours, plain[0].colours, atol=1e-2)
    assert same_focal == pytest.approx(focal, rel=1e-3)


def test_the_largest_cloud_fills_its_tile_up_to_the_margin_and_sizes_stay_relative() -> None:
    small, large = cloud(seed=2) * 0.5, cloud(seed=2)
    tiles, focal = scene.make_tiles([small, large])
    reach = [
        (focal * (np.abs(tile.points[:, :2]).max(1) + tile.radius) / (scene.DISTANCE - tile.points[:, 2])).max()
        for tile in tiles
    ]
    assert reach[1] == pytest.approx(scene.MARGIN, rel=1e-5)
    assert reach[0] < 0.6 * scene.MARGIN
    np.testing.assert_allclose(tiles[0].points, tiles[1].points / 2, atol=1e-6)


def test_coincident_points_make_a_small_sphere_in_the_middle() -> None:
    tiles, focal = scene.make_tiles([np.full((7, 3), 4.0, dtype=np.float32)])
    assert (tiles[0].points == 0).all()
    assert focal * tiles[0].radius / scene.DISTANCE < 0.1


def test_what_lies_behind_fades_into_the_paper() -> None:
    near_and_far = np.array([[0.5, -1, 0], [-0.5, 1, 0]], dtype=np.float32)
    (on_white,), _ = scene.make_tiles([near_and_far])
    (on_black,), _ = scene.make_tiles([near_and_far], paper=(0, 0, 0))
    front, back = np.argsort(-on_white.points[:, 2])
    np.testing.assert_array_equal(on_white.colours[front], on_black.colours[front])
    assert (on_white.colours[back] > on_black.colours[back]).all()


def test_given_colours_take_the_place_of_the_height() -> None:
    near = np.array([[0.7, -1, 0], [0.7, -1, 0.5]], dtype=np.float32)
    paint = np.array([[0.9, 0.2, 0.1], [0.1, 0.2, 0.9]], dtype=np.float32)
    far = -near
    (tile, _), _ = scene.make_tiles([near, far], colours=[paint, paint], framing=scene.framed([near, far]))
    haze = (tile.colours - paint) / (1 - paint)
    assert (haze >= 0).all()
    assert (haze < scene.HAZE).all()
    assert np.ptp(haze, axis=1).max() < 1e-5  # nothing but haze came to them


def test_clouds_on_their_way_keep_to_one_frame() -> None:
    """A cloud that rises and grows: the camera and the floor do not follow, and all of the way is in sight."""
    path = np.stack([cloud(seed=3) * (0.5 + 0.1 * time) + np.float32([0, 0, 0.3 * time]) for time in range(5)])
    still = cloud(seed=4)
    framing = scene.framed([path, still])
    tiles = [scene.make_tiles([path[time], still], framing=framing)[0] for time in range(5)]
    rises = np.diff([(moved.points @ scene.UP).mean() for moved, _ in tiles])
    assert (rises > 0).all()
    assert len({moved.floor for moved, _ in tiles}) == 1
    for _, other in tiles[1:]:
        np.testing.assert_array_equal(other.points, tiles[0][1].points)
    lowest = min(float((moved.points @ scene.UP).min()) for moved, _ in tiles)
    assert tiles[0][0].floor == pytest.approx(lowest - tiles[0][0].radius, abs=1e-5)
    reach = [
        (framing.focal * (np.abs(tile.points[:, :2]).max(1) + tile.radius) / (scene.DISTANCE - tile.points[:, 2])).max()
        for pair in tiles
        for tile in pair
    ]
    assert max(reach) == pytest.approx(scene.MARGIN, rel=1e-4)


@pytest.mark.parametrize("size", [97, 300])
def test_large_shadows_are_those_of_small_ones(size: int) -> None:
    """Which are drawn in another way: their mean and their outline are the same."""
    (tile,), focal = scene.make_tiles([cloud()])
    small, large = scene.shadow(tile, focal, 96), scene.shadow(tile, focal, size)
    assert large.shape == (size, size)
    assert 0 <= large.min() <= large.max() <= 1
    assert large.mean() == pytest.approx(small.mean(), rel=0.02)
    places = np.linspace(0.1, 0.9, 9)
    at = np.ix_((places * 96).astype(int), (places * 96).astype(int))
    there = np.ix_((places * size).astype(int), (places * size).astype(int))
    assert np.abs(small[at] - large[there]).max() < 0.02


def test_light_is_what_shading_does() -> None:
    normals = cloud(50)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    colours = np.random.default_rng(2).uniform(0.2, 0.6, (50, 3)).astype(np.float32)
    gain, gloss = scene.light(normals)
    np.testing.assert_allclose(scene.shade(colours, normals), colours * gain[:, None] + gloss[:, None], atol=1e-6)


def test_the_shadow_lies_where_the_cloud_meets_the_floor() -> None:
    high = np.array([[0, 0, 1.0], [0, 0, -1]], dtype=np.float32)
    (tile,), focal = scene.make_tiles([high])
    dark = scene.shadow(tile, focal, 100)
    row, column = np.unravel_index(dark.argmax(), dark.shape)
    foot = tile.points[1] - tile.radius * scene.UP
    expected = 50 - 50 * focal * foot[1] / (scene.DISTANCE - foot[2])
    assert column == pytest.approx(50, abs=2)
    assert row == pytest.approx(expected, abs=6)  # the edge of the tile fades, which pulls the peak inwards
    assert 0 <= dark.min() < 0.01
    assert 0.05 < dark.max() <= 0.5


def test_shrinking_averages_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 6, 4), dtype=np.uint8)
    expected = image.reshape(3, 2, 3, 2, 4).mean((1, 3))
    np.testing.assert_allclose(scene.shrink(image), expected, atol=0.51)

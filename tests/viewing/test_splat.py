import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.viewing import splat
from pcdistill.viewing.scene import DISTANCE, Floats, Tile

SIZE, FOCAL = 200, 4.0
RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def tile(points: list[list[float]] | Floats, colours: object = None, radius: float = 0.2) -> Tile:
    where = np.array(points, dtype=np.float32)
    paint = np.broadcast_to(RED if colours is None else np.asarray(colours), where.shape).astype(np.float32)
    return Tile(where, paint, radius, -1.0)


def draw(*tiles: Tile, size: int = SIZE) -> np.ndarray:
    return np.stack(list(splat.render(tiles, FOCAL, size)))


def random_cloud(seed: int, points: int = 40) -> Tile:
    rng = np.random.default_rng(seed)
    return tile(rng.uniform(-0.8, 0.8, (points, 3)).astype(np.float32), rng.uniform(0.2, 1, (points, 3)), 0.1)


@given(x=st.floats(-0.7, 0.7), y=st.floats(-0.7, 0.7), z=st.floats(-1, 1), radius=st.floats(0.05, 0.25))
@settings(max_examples=25, deadline=None)
def test_a_point_is_a_disc_where_a_pinhole_camera_puts_it(x: float, y: float, z: float, radius: float) -> None:
    alpha = draw(tile([[x, y, z]], radius=radius))[0, ..., 3] / 255
    intrinsic = np.array([[FOCAL * SIZE / 2, 0, SIZE / 2], [0, FOCAL * SIZE / 2, SIZE / 2], [0, 0, 1]])
    u, v, w = intrinsic @ np.array([x, -y, DISTANCE - z])
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    assert (alpha * columns).sum() / alpha.sum() == pytest.approx(u / w, abs=0.3)
    assert (alpha * rows).sum() / alpha.sum() == pytest.approx(v / w, abs=0.3)
    assert np.sqrt(alpha.sum() / np.pi) == pytest.approx(intrinsic[0, 0] * radius / w, abs=0.15)


def test_a_filled_ball_of_points_has_a_round_silhouette() -> None:
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(4000, 3))
    ball = 0.7 * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    alpha = draw(tile(ball.astype(np.float32), radius=0.05))[0, ..., 3] / 255
    # The silhouette of a sphere of radius R at distance D is a circle of tangent R / sqrt(D^2 - R^2).
    expected = FOCAL * SIZE / 2 * 0.75 / np.sqrt(DISTANCE**2 - 0.75**2)
    assert np.sqrt(alpha.sum() / np.pi) == pytest.approx(expected, rel=0.02)
    assert (alpha == alpha.T).mean() > 0.97


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_point_hides_the_farther(order: list[int]) -> None:
    points, colours = np.array([[0, 0, 0.5], [0, 0, -0.5]]), np.array([RED, BLUE])
    middle = draw(tile(points[order], colours[order]))[0, SIZE // 2, SIZE // 2]
    assert middle[0] > 2 * middle[2]


def test_spheres_that_cut_each_other_share_the_picture_evenly() -> None:
    picture = draw(tile([[-0.1, 0, 0], [0.1, 0, 0]], [RED, BLUE]))[0].astype(int)
    columns = np.nonzero(picture[..., 3] == 255)[1]
    red = (picture[..., 0] > picture[..., 2]) & (picture[..., 3] == 255)
    assert columns.min() < SIZE / 2 < columns.max()
    assert np.nonzero(red)[1].max() < SIZE / 2
    assert red.sum() == pytest.approx(len(columns) / 2, rel=0.01)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_the_order_of_points_does_not_matter(seed: int) -> None:
    plain = random_cloud(seed)
    # Coincident points tie in depth, here in other colours.
    points = np.concatenate([plain.points, plain.points])
    colours = np.concatenate([plain.colours, plain.colours[::-1]])
    order = np.random.default_rng(seed).permutation(len(points))
    np.testing.assert_array_equal(
        draw(Tile(points, colours, 0.1, 0.0), size=64),
        draw(Tile(points[order], colours[order], 0.1, 0.0), size=64),
    )


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = draw(random_cloud(3))
    monkeypatch.setattr(splat, "_PIXELS_AT_ONCE", 1)
    np.testing.assert_array_equal(draw(random_cloud(3)), at_once)


def test_points_outside_the_tile_are_cut_off_and_do_not_wrap_round() -> None:
    picture = draw(tile([[1.25, 0, 0], [5, 5, 0]]))[0, ..., 3]
    assert picture[:, -1].any()
    assert not picture[:, : SIZE // 2].any()


def test_the_light_comes_from_above_left() -> None:
    picture = draw(tile([[0, 0, 0]], radius=0.5))[0].astype(int)
    disc = np.nonzero(picture[..., 3] == 255)
    light = picture[..., :3].sum(2)[disc]
    upper_left = (disc[0] + disc[1]) < SIZE
    assert light[upper_left].mean() > 1.2 * light[~upper_left].mean()
    assert light[upper_left].max() > 1.5 * light[~upper_left].min()


def test_colours_are_premultiplied_and_empty_pixels_are_clear() -> None:
    picture = draw(tile([[0, 0, 0]]))[0]
    assert (picture[..., :3].max(2) <= picture[..., 3]).all()
    assert (picture[0, 0] == 0).all()

"""Areas against closed formulas, and the sampler against the laws that uniformity by area implies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pcdistill.data.procedural import solids

POINTS = 20_000
size = st.floats(0.05, 3)


def area(part: np.ndarray) -> float:
    a, b, c = part.transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def sampled(*parts: np.ndarray, count: int = POINTS, seed: int = 0) -> np.ndarray:
    return solids.sample(parts, count, np.random.default_rng(seed))[0]


def assert_uniform(values: np.ndarray, law: stats.rv_continuous = stats.uniform) -> None:
    """Kolmogorov-Smirnov distance below what 20,000 draws exceed once in 1,000, plus the facets' error."""
    assert stats.kstest(values, law.cdf).statistic < 1.95 / np.sqrt(len(values)) + 0.004


@settings(max_examples=30, deadline=None)
@given(width=size, depth=size, height=size)
def test_box_has_its_six_faces(width: float, depth: float, height: float) -> None:
    part = solids.box(width, depth, height, (1, 2, 3))
    assert area(part) == pytest.approx(2 * (width * depth + width * height + depth * height))
    np.testing.assert_allclose(part.min(axis=(0, 1)), [1 - width / 2, 2 - depth / 2, 3])
    np.testing.assert_allclose(part.max(axis=(0, 1)), [1 + width / 2, 2 + depth / 2, 3 + height])


@settings(max_examples=30, deadline=None)
@given(bottom=size, top=size, height=size)
def test_cone_area(bottom: float, top: float, height: float) -> None:
    slant = np.hypot(height, bottom - top)
    expected = np.pi * (bottom**2 + top**2 + (bottom + top) * slant)
    assert area(solids.cone(bottom, top, height)) == pytest.approx(expected, rel=0.015)


@settings(max_examples=30, deadline=None)
@given(radius=size)
def test_ball_area(radius: float) -> None:
    part = solids.ball((radius, radius, radius), (1, 2, 3))
    assert area(part) == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    np.testing.assert_allclose((part.min(axis=(0, 1)) + part.max(axis=(0, 1))) / 2, [1, 2, 3], atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(start=st.tuples(size, size, size), step=st.tuples(size, size, size), radius=st.floats(0.01, 0.2))
def test_straight_tube_area(start: tuple[float, ...], step: tuple[float, ...], radius: float) -> None:
    end = np.add(start, step)
    part = solids.tube([start, end], radius, sides=24)
    assert area(part) == pytest.approx(2 * np.pi * radius * np.linalg.norm(step), rel=0.01)
    along = step / np.linalg.norm(step)
    offset = part.reshape(-1, 3) - start
    distance = np.linalg.norm(offset - np.outer(offset @ along, along), axis=1)
    np.testing.assert_allclose(distance, radius, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("axes", [[0, 1, 2], [1, 2, 0], [2, 0, 1]])
def test_handle_area_is_half_a_torus(axes: list[int]) -> None:
    path = (solids.arc(-90, 90, 40) * 0.5)[:, axes]
    part = solids.tube(path, 0.1, sides=24)
    assert area(part) == pytest.approx(np.pi * 0.5 * 2 * np.pi * 0.1, rel=0.02)


def test_lathe_area_follows_pappus() -> None:
    profile = np.array([(0.2, 0), (0.5, 0.3), (0.3, 0.9), (0.3, 1.4)])
    lengths = np.linalg.norm(np.diff(profile, axis=0), axis=1)
    radii = (profile[1:, 0] + profile[:-1, 0]) / 2
    assert area(solids.lathe(profile)) == pytest.approx(2 * np.pi * (radii * lengths).sum(), rel=0.015)


def test_box_faces_get_points_by_area() -> None:
    points = sampled(solids.box(1, 2, 3))
    faces = [(0, -0.5), (0, 0.5), (1, -1), (1, 1), (2, 0), (2, 3)]
    counts = np.array([np.isclose(points[:, axis], place).sum() for axis, place in faces])
    assert stats.chisquare(counts, POINTS * np.array([6, 6, 3, 3, 2, 2]) / 22).pvalue > 1e-3


def test_parts_get_points_by_area() -> None:
    points = sampled(solids.box(1, 1, 1), solids.box(2, 2, 2, (9, 0, 0)))
    counts = np.array([(points[:, 0] < 5).sum(), (points[:, 0] > 5).sum()])
    assert stats.chisquare(counts, POINTS * np.array([0.2, 0.8])).pvalue > 1e-3


def test_face_is_covered_evenly() -> None:
    points = sampled(solids.box(1, 1, 1e-9, (0.5, 0.5, 0)))
    assert_uniform(points[:, 0])
    assert_uniform(points[:, 1])
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=8, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_sphere_is_covered_evenly() -> None:
    points = sampled(solids.ball((1, 1, 1), (0, 0, 0)))
    # Archimedes: equal slices of a sphere have equal areas.
    assert_uniform((points[:, 2] + 1) / 2)
    assert_uniform((np.arctan2(points[:, 1], points[:, 0]) + np.pi) / (2 * np.pi))


def test_cone_mantle_is_covered_evenly() -> None:
    points = sampled(solids.lathe([(0, 0), (1, 1)]))
    assert_uniform(points[:, 2] ** 2)  # The area below height z grows with its square.


def test_tube_is_covered_evenly() -> None:
    points = sampled(solids.tube([(0, 0, 0), (0, 0, 1)], 0.1, sides=24))
    assert_uniform(points[:, 2])
    assert_uniform((np.arctan2(points[:, 1], points[:, 0]) + np.pi) / (2 * np.pi))


def test_handle_is_covered_evenly_along_its_arc() -> None:
    points = sampled(solids.tube(solids.arc(-90, 90, 40), 0.01))
    assert_uniform((np.arctan2(points[:, 2], points[:, 0]) + np.pi / 2) / np.pi)


def test_sample_follows_its_generator() -> None:
    part = solids.cone(1, 0.5, 2)
    np.testing.assert_array_equal(sampled(part, seed=3), sampled(part, seed=3))
    assert not np.array_equal(sampled(part, seed=3), sampled(part, seed=4))

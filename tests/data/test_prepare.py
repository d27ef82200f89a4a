"""What all readers share: normalisation and the turn to z up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.core.errors import InputError
from pcdistill.data.prepare import assemble, unit_sphere, z_up


def test_unit_sphere_by_hand():
    cloud = np.array([[(0, 0, 0), (2, 0, 0), (0, 4, 0), (2, 0, 0)]], dtype=np.float32)
    expected = np.array([(-1, -1, 0), (1, -1, 0), (-1, 3, 0), (1, -1, 0)]) / np.sqrt(10)
    normalised = unit_sphere(cloud, "here")
    assert normalised.dtype == np.float32
    np.testing.assert_allclose(normalised[0], expected, rtol=1e-6)


@given(st.floats(1e-30, 1e30), st.floats(-100, 100), st.integers(0, 99))
def test_unit_sphere_ignores_place_and_size(scale, shift, seed):
    cloud = np.random.default_rng(seed).normal(size=(2, 16, 3))
    np.testing.assert_allclose(unit_sphere((cloud + shift) * scale, "x"), unit_sphere(cloud, "x"), atol=1e-6)


def test_unit_sphere_is_the_same_in_any_batch():
    clouds = np.random.default_rng(0).normal(size=(50, 333, 3)).astype(np.float16)
    whole = unit_sphere(clouds, "x")
    for size in (1, 7, 49):
        np.testing.assert_array_equal(unit_sphere(clouds[:size], "x"), whole[:size])


def test_y_becomes_z_without_mirroring():
    axes = np.eye(3)
    turned = z_up(axes, "y")
    np.testing.assert_array_equal(turned[1], (0, 0, 1))
    assert np.linalg.det(turned) == pytest.approx(1)
    for other in ("z", "x", "unspecified"):
        np.testing.assert_array_equal(z_up(axes, other), axes)


def test_assemble_counts_clouds_through_the_whole_set():
    raw = np.random.default_rng(0).normal(size=(600, 4, 3))
    raw[513] = 7
    with pytest.raises(InputError, match=r"here: all points of cloud 513 coincide, expected a cloud with some"):
        assemble(raw, np.zeros(600, int), ["a"], place="here", up_axis="z", provenance={})

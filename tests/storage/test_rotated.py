"""Stored points with learned rotations, against SciPy's Euler angles."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import rotate, rotation_matrix
from pcdistill.storage import Budget
from pcdistill.storage.points import StoredPoints
from pcdistill.storage.rotated import RotatedPoints, round_angles

Clouds = Callable[..., PointClouds]


def turned(clouds: PointClouds, angles: Tensor, bits: int = 8) -> RotatedPoints:
    each = len(clouds) // clouds.num_classes
    storage = RotatedPoints.from_clouds(clouds, Budget(each, clouds.points_per_cloud, bits))
    with torch.no_grad():
        storage.angles.copy_(angles)
    return storage


def some_angles(clouds: int, size: float = 3.0) -> Tensor:
    return size * (2 * torch.rand(clouds, 3, generator=torch.Generator().manual_seed(3)) - 1)


def test_at_first_nothing_is_turned(random_clouds: Clouds) -> None:
    clouds = random_clouds(2, 3, 9)
    plain = StoredPoints.from_clouds(clouds, Budget(3, 9))
    assert torch.equal(turned(clouds, torch.zeros(6, 3)).decode().points, plain.decode().points)


def test_turns_are_those_of_scipy(random_clouds: Clouds) -> None:
    """Lower-case axes are fixed in space: x first, then y, then z."""
    clouds, angles = random_clouds(2, 3, 9), some_angles(6)
    found = turned(clouds, angles, bits=32).decode().points.detach().numpy()
    for cloud, angle, points in zip(found, angles.half().numpy(), clouds.points.numpy(), strict=True):
        np.testing.assert_allclose(cloud, Rotation.from_euler("xyz", angle).apply(points), atol=2e-6)


@pytest.mark.parametrize("bits", [8, 32])
def test_turning_back_gives_the_stored_points(bits: int, random_clouds: Clouds) -> None:
    clouds, angles = random_clouds(2, 3, 9), some_angles(6)
    storage = turned(clouds, angles, bits)
    back = rotate(storage.decode().points, rotation_matrix(round_angles(angles)).transpose(1, 2))
    plain = StoredPoints.from_clouds(clouds, Budget(3, 9, bits)).decode().points
    torch.testing.assert_close(back, plain, atol=2e-6, rtol=0)


def test_corners_leave_the_cube_but_keep_their_distance() -> None:
    corners = torch.tensor([[[1.0, 1, 1], [-1, -1, -1], [1, -1, 1]]]).repeat(2, 1, 1)
    storage = turned(PointClouds(corners, torch.tensor([0, 1]), ("a", "b")), some_angles(2))
    found = storage.decode().points.detach()
    assert found.abs().max() > 1
    torch.testing.assert_close(found.norm(dim=2), torch.full((2, 3), math.sqrt(3)))


def test_gradient_of_angles_and_points() -> None:
    """In float64 without the rounding, through which gradients pass unchanged."""
    random = torch.Generator().manual_seed(5)
    points = torch.rand(2, 4, 3, generator=random, dtype=torch.float64).requires_grad_()
    angles = some_angles(2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p, a: rotate(p, rotation_matrix(a)), (points, angles))

    clouds = PointClouds(points.detach(), torch.tensor([0, 1]), ("a", "b"))
    storage = turned(clouds, angles.detach().half(), bits=32)
    weights = torch.rand(2, 4, 3, generator=random)
    found = torch.autograd.grad((storage.decode().points * weights).sum(), list(storage.learned().values()))
    exact = angles.detach().half().double().requires_grad_()
    total = (rotate(points, rotation_matrix(exact)) * weights).sum()
    for ours, theirs in zip(found, torch.autograd.grad(total, [points, exact]), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-5, rtol=1e-5)


@given(st.floats(-50, 50))
def test_wrapped_angles_are_the_same_turn(angle: float) -> None:
    found = round_angles(torch.tensor([angle])).item()
    assert abs(found) <= math.pi
    assert math.cos(found - angle) > 1 - 1e-5
    assert math.copysign(1, found) == 1 or found < 0  # no minus zero
    again = round_angles(torch.tensor([found])).item()
    assert again == found


@pytest.mark.parametrize("angle", [math.pi, -math.pi, 3.2, -3.2, 100.0, 1e-9, -1e-9, 0.3])
def test_angles_come_back_from_their_bytes(angle: float, random_clouds: Clouds) -> None:
    storage = turned(random_clouds(2, 3, 9), torch.full((6, 3), angle))
    arrays = storage.arrays()
    again = RotatedPoints.from_arrays(arrays, storage.layout(), storage.class_names)
    assert arrays["angles"].dtype == np.float16
    assert again.arrays()["angles"].tobytes() == arrays["angles"].tobytes()
    assert torch.equal(again.decode().points, storage.decode().points)


def test_bytes_and_what_is_learned(random_clouds: Clouds) -> None:
    storage = turned(random_clouds(2, 3, 9), torch.zeros(6, 3))
    assert storage.nbytes == 6 * (27 + 6) == 6 * Budget(3, 9, 8, RotatedPoints.side_bytes).cloud_bytes
    assert set(storage.learned()) == {"points", "angles"}
    assert set(storage.pace) == {"angles", "labels"}


@pytest.mark.parametrize(
    ("angles", "found"),
    [
        (None, "angles: missing, expected float16 of shape"),
        (np.zeros((6, 3), np.float32), "angles: float32 of shape"),
        (np.zeros((6, 2), np.float16), r"angles: float16 of shape \(6, 2\), expected float16 of shape \(6, 3\)"),
        (np.zeros((5, 3), np.float16), "angles: float16 of shape"),
        (np.full((6, 3), np.nan, np.float16), "angles: NaN, or beyond a half turn"),
        (np.full((6, 3), np.inf, np.float16), "angles: NaN, or beyond a half turn"),
        (np.full((6, 3), 3.15, np.float16), "angles: NaN, or beyond a half turn"),
    ],
    ids=["missing", "type", "axes", "clouds", "nan", "inf", "beyond"],
)
def test_angles_that_are_not_to_be_trusted(angles: Any, found: str, random_clouds: Clouds) -> None:
    storage = turned(random_clouds(2, 3, 9), torch.zeros(6, 3))
    arrays = {name: array for name, array in (storage.arrays() | {"angles": angles}).items() if array is not None}
    with pytest.raises(InputError, match=found):
        RotatedPoints.from_arrays(arrays, storage.layout(), storage.class_names)

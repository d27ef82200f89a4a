import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.stats import kstest
from torch.testing import assert_close

from pcdistill.core.errors import InputError
from pcdistill.geometry import normalise, random_rotations, rotate, rotation_matrix

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def clouds(seed: int, count: int = 3, points: int = 20, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_normalise_of_a_known_cloud() -> None:
    points = torch.tensor([[[1.0, 5.0, 0.0], [5.0, 5.0, 0.0], [3.0, 5.0, 0.0]]])
    assert_close(normalise(points), torch.tensor([[[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]))


@quick
@given(seeds, st.integers(2, 40))
def test_normalised_clouds_are_centred_and_touch_the_unit_sphere(seed: int, points: int) -> None:
    result = normalise(clouds(seed, points=points) * torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64) + 3)
    assert_close(result.mean(dim=1), torch.zeros(3, 3, dtype=torch.float64), atol=1e-12, rtol=0)
    assert_close(result.norm(dim=2).amax(dim=1), torch.ones(3, dtype=torch.float64), atol=1e-12, rtol=0)


@quick
@given(seeds, st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_normalise_undoes_scale_and_translation_and_follows_rotation(seed: int, scale: float, shift: float) -> None:
    points = clouds(seed)
    turn = rotation_matrix(clouds(seed, 1, 1)[0, 0])
    expected = rotate(normalise(points), turn)
    assert_close(normalise(rotate(points, turn) * scale + shift), expected, atol=1e-6, rtol=0)
    assert_close(normalise(normalise(points)), normalise(points), atol=1e-12, rtol=0)


def test_normalise_keeps_the_order_of_the_points() -> None:
    points, order = clouds(0), torch.randperm(20, generator=torch.Generator().manual_seed(1))
    assert_close(normalise(points[:, order]), normalise(points)[:, order])


@pytest.mark.parametrize("value", [0.0, 0.1, -1234.567, 1e30])
def test_normalise_of_coinciding_points_is_zero(value: float) -> None:
    assert torch.equal(normalise(torch.full((2, 7, 3), value)), torch.zeros(2, 7, 3))


@pytest.mark.parametrize("scale", [1e-30, 1e11, 1e30])
def test_normalise_survives_extreme_units_in_float32(scale: float) -> None:
    points = clouds(0, dtype=torch.float32)
    assert_close(normalise(points * scale), normalise(points), atol=1e-5, rtol=0)


def test_normalise_keeps_detail_far_from_the_origin() -> None:
    points = clouds(0, dtype=torch.float32).mul(64).round() / 64  # exact after the shift
    assert_close(normalise(points + 4096), normalise(points), atol=1e-6, rtol=0)


def test_normalise_has_right_gradients() -> None:
    points = clouds(3, 2, 6).requires_grad_()
    assert torch.autograd.gradcheck(normalise, (points,))
    coinciding = torch.ones(1, 4, 3, requires_grad=True)
    normalise(coinciding).sum().backward()
    assert coinciding.grad is not None
    assert bool(coinciding.grad.isfinite().all())


@pytest.mark.parametrize(
    ("angles", "point", "image"),
    [
        ((math.pi / 2, 0, 0), (0, 1, 0), (0, 0, 1)),
        ((0, math.pi / 2, 0), (0, 0, 1), (1, 0, 0)),
        ((0, 0, math.pi / 2), (1, 0, 0), (0, 1, 0)),
        ((math.pi / 2, 0, math.pi / 2), (0, 1, 0), (0, 0, 1)),  # about x first, then z
    ],
)
def test_quarter_turns(angles: tuple[float, ...], point: tuple[float, ...], image: tuple[float, ...]) -> None:
    matrix = rotation_matrix(torch.tensor([angles], dtype=torch.float64))
    result = rotate(torch.tensor([[point]], dtype=torch.float64), matrix)
    assert_close(result[0, 0], torch.tensor(image, dtype=torch.float64), atol=1e-12, rtol=0)


@quick
@given(seeds)
def test_rotation_matrix_agrees_with_scipy(seed: int) -> None:
    angles = clouds(seed, 1, 5)[0]
    expected = torch.from_numpy(Rotation.from_euler("xyz", angles.numpy()).as_matrix())
    assert_close(rotation_matrix(angles), expected, atol=1e-12, rtol=0)


def test_rotation_matrix_keeps_leading_dimensions_and_has_right_gradients() -> None:
    angles = clouds(0, 2, 4)
    assert rotation_matrix(angles).shape == (2, 4, 3, 3)
    assert torch.autograd.gradcheck(rotation_matrix, (angles[0].requires_grad_(),))


@pytest.mark.parametrize("shape", [(), (2,), (3, 4)])
def test_rotation_matrix_wants_three_angles(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"angles of shape .* expected \(\.\.\., 3\)"):
        rotation_matrix(torch.zeros(shape))


@pytest.mark.parametrize("axis", ["x", "y", "z", None])
def test_random_rotations_are_proper_seeded_and_keep_their_axis(axis: str | None) -> None:
    matrices = random_rotations(50, torch.Generator().manual_seed(7), axis)
    assert_close(matrices @ matrices.mT, torch.eye(3).expand(50, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(matrices), torch.ones(50), atol=1e-5, rtol=0)
    assert torch.equal(matrices, random_rotations(50, torch.Generator().manual_seed(7), axis))
    assert not torch.equal(matrices, random_rotations(50, torch.Generator().manual_seed(8), axis))
    if axis is not None:
        unit = torch.eye(3)["xyz".index(axis)]
        assert_close(matrices @ unit, unit.expand(50, 3), atol=1e-6, rtol=0)


def test_rotations_about_z_have_uniform_angles() -> None:
    matrices = random_rotations(4000, torch.Generator().manual_seed(0))
    angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).double()
    assert kstest(angles.numpy(), "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 0.01


def test_free_rotations_are_uniform() -> None:
    matrices = random_rotations(4000, torch.Generator().manual_seed(0), axis=None).double()
    # An axis's image is uniform on the sphere, so each of its coordinates is uniform (Archimedes) ...
    for row in range(3):
        for column in range(3):
            assert kstest(matrices[:, row, column].numpy(), "uniform", args=(-1, 2)).pvalue > 0.001
    # ... and the angle of turn has density (1 - cos) / pi.
    trace = matrices.diagonal(dim1=1, dim2=2).sum(dim=1)
    angles = ((trace - 1) / 2).clamp(-1, 1).acos()
    assert kstest(angles.numpy(), lambda t: (t - torch.tensor(t).sin().numpy()) / math.pi).pvalue > 0.01


@pytest.mark.parametrize("axis", ["w", "", "xy"])
def test_random_rotations_name_an_unknown_axis(axis: str) -> None:
    with pytest.raises(InputError, match=f"axis '{axis}', expected x, y, z or None"):
        random_rotations(1, torch.Generator(), axis)


def test_random_rotations_refuse_a_negative_count() -> None:
    with pytest.raises(InputError, match="count -1, expected 0 or more"):
        random_rotations(-1, torch.Generator())


def test_rotate_takes_one_matrix_for_all_or_one_for_each() -> None:
    points, matrices = clouds(0), rotation_matrix(clouds(1, 1, 3)[0])
    one_by_one = torch.stack([torch.stack([r @ p for p in cloud]) for cloud, r in zip(points, matrices, strict=True)])
    assert_close(rotate(points, matrices), one_by_one)
    assert_close(rotate(points, matrices[0])[0], one_by_one[0])


@quick
@given(seeds)
def test_rotations_preserve_distances_and_compose(seed: int) -> None:
    points, (first, second) = clouds(seed), rotation_matrix(clouds(seed + 1, 1, 2)[0])
    turned = rotate(points, first)
    assert_close(turned.norm(dim=2), points.norm(dim=2))
    assert_close(rotate(turned, second), rotate(points, second @ first))
    assert_close(rotate(turned, first.mT), points)

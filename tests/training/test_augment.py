"""Augmentation, field by field: ranges and statistics of the draws, and what is done with them."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from pcdistill.matching.gathering import BankConfig
from pcdistill.training.augment import Augmentation, Draw, apply
from pcdistill.training.recipe import RECIPES

MANY = 20_000


def drawn(seed: int = 0, clouds: int = MANY, points: int = 1, **fields: Any) -> Draw:
    return Augmentation(**fields).draw(clouds, points, torch.Generator().manual_seed(seed))


def points_of(clouds: int = 4, points: int = 10) -> Tensor:
    return torch.randn(clouds, points, 3, generator=torch.Generator().manual_seed(0))


def assert_orthogonal(matrix: Tensor) -> None:
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand_as(matrix), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(matrix), torch.ones(len(matrix)), atol=1e-5, rtol=0)


@given(seed=st.integers(0, 2**32), clouds=st.integers(1, 5), points=st.integers(1, 7))
def test_default_is_the_identity(seed: int, clouds: int, points: int) -> None:
    assert torch.equal(apply(points_of(clouds, points), drawn(seed, clouds, points)), points_of(clouds, points))


def test_scale_is_one_factor_per_cloud_with_uniform_logarithm() -> None:
    matrix = drawn(scale=1.5).matrix
    factor = matrix[:, 0, 0]
    assert torch.equal(matrix, factor[:, None, None] * torch.eye(3))
    assert 1 / 1.5 <= factor.min() < 0.67
    assert 1.499 < factor.max() <= 1.5 + 1e-6
    place = (factor.log() / math.log(1.5) + 1) / 2  # uniform in [0, 1]
    assert abs(place.mean() - 0.5) < 0.01
    assert abs(place.var() - 1 / 12) < 0.002


def test_scale_below_one_means_the_same() -> None:
    factor = drawn(scale=0.8).matrix[:, 0, 0]
    assert 0.8 - 1e-6 <= factor.min() < 0.801
    assert 1.249 < factor.max() <= 1.25 + 1e-6


def test_stretch_is_a_factor_per_axis() -> None:
    matrix = drawn(stretch=1.2).matrix
    factors = matrix.diagonal(dim1=1, dim2=2)
    assert torch.equal(matrix, torch.diag_embed(factors))
    assert factors.min() >= 1 / 1.2 - 1e-6
    assert factors.max() <= 1.2 + 1e-6
    assert (torch.corrcoef(factors.T) - torch.eye(3)).abs().max() < 0.03


def test_shift_is_one_uniform_offset_per_cloud() -> None:
    shift = drawn(shift=0.3).shift
    assert shift.shape == (MANY, 1, 3)
    assert 0.29 < shift.abs().max() <= 0.3
    assert shift.mean((0, 1)).abs().max() < 0.01
    assert (shift.var((0, 1)) - 0.3**2 / 3).abs().max() < 0.001
    moved = apply(points_of(), drawn(clouds=4, points=10, shift=0.3)) - points_of()
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))


def test_jitter_is_independent_noise_cut_at_three_deviations() -> None:
    noise = drawn(clouds=500, points=200, jitter=0.02).noise
    assert noise is not None
    assert noise.shape == (500, 200, 3)
    assert noise.abs().max() == pytest.approx(0.06)
    assert abs(noise.std() - 0.02 * 0.9867**0.5) < 1e-4  # variance of a normal variable cut at 3
    assert abs(noise.mean()) < 1e-3


def test_tilt_is_a_rotation_of_that_angle_in_root_mean_square() -> None:
    matrix = drawn(tilt=10.0).matrix
    assert_orthogonal(matrix)
    cosine = (matrix.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    angle = torch.rad2deg(cosine.clamp(-1, 1).acos())
    assert angle.square().mean().sqrt() == pytest.approx(10, rel=0.02)
    axis = torch.stack([matrix[:, 2, 1], matrix[:, 0, 2], matrix[:, 1, 0]], 1)
    assert (axis.mean(0) / axis.std(0)).abs().max() < 0.03
    assert axis.std(0).max() / axis.std(0).min() < 1.05


def test_rotation_about_z_keeps_heights_and_takes_every_angle() -> None:
    matrix = drawn(rotate="z").matrix
    assert_orthogonal(matrix)
    assert torch.equal(matrix[:, 2], torch.tensor([0.0, 0, 1]).expand(MANY, 3))
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0])
    assert (torch.histc(angle, 8, -math.pi, math.pi) / MANY - 1 / 8).abs().max() < 0.01


def test_rotation_in_space_takes_the_up_axis_everywhere() -> None:
    matrix = drawn(rotate="so3").matrix
    assert_orthogonal(matrix)
    up = matrix[:, :, 2]
    assert up.mean(0).abs().max() < 0.02
    torch.testing.assert_close(up.T @ up / MANY, torch.eye(3) / 3, atol=0.01, rtol=0)


def test_mirror_flips_x_and_y_independently() -> None:
    signs = drawn(mirror=True).matrix.diagonal(dim1=1, dim2=2)
    assert set(signs.flatten().tolist()) == {-1.0, 1.0}
    assert (signs[:, 2] == 1).all()
    for x in (-1, 1):
        for y in (-1, 1):
            share = ((signs[:, 0] == x) & (signs[:, 1] == y)).float().mean()
            assert abs(share - 0.25) < 0.01


def test_drop_replaces_a_uniform_share_by_points_of_the_same_cloud() -> None:
    keep = drawn(clouds=2000, points=500, drop=0.4).keep
    assert keep is not None
    assert keep.min() == 0
    assert keep.max() == 499
    share = (keep != torch.arange(500)).float().mean(1)
    assert share.mean() == pytest.approx(0.2, abs=0.01)
    assert share.max() < 0.4 + 0.08  # binomial about at most 0.4
    assert share.std() == pytest.approx(0.4 / 12**0.5, abs=0.01)
    points = points_of()
    dropped = apply(points, drawn(clouds=4, points=10, drop=1.0))
    for before, after in zip(points.tolist(), dropped.tolist(), strict=True):
        assert all(point in before for point in after)
    assert not torch.equal(dropped, points)


def sphere(clouds: int, points: int) -> Tensor:
    return torch.nn.functional.normalize(points_of(clouds, points), dim=2)


def test_partial_views_are_one_side_that_is_repeated_and_centred_anew() -> None:
    points = sphere(3, 1024)
    draw = drawn(clouds=3, points=1024, partial=1.0)
    assert draw.sides is not None
    assert_orthogonal(draw.sides)
    seen = apply(points, draw)
    for before, side, after in zip(points, draw.sides, seen, strict=True):
        kept = len(after.unique(dim=0))
        assert 300 < kept < 600  # half of a sphere, without its rim
        assert after.mean(0).norm() < 1e-5
        assert after.norm(dim=1).max() == pytest.approx(1)
        # A scale and an offset bring it back: the side towards the eye.
        height, other = before @ side[0], after @ side[0]
        assert (other.max() - other.min()) * 0.5 < height.max() - height.min()
        assert torch.pdist(before).max() > 1.9


def test_a_share_of_clouds_is_partial_and_the_others_are_whole() -> None:
    points = sphere(400, 64)
    draw = drawn(clouds=400, points=64, partial=0.3)
    same = (apply(points, draw) == points).flatten(1).all(1)
    assert same.float().mean() == pytest.approx(0.7, abs=0.06)


def test_partial_views_draw_after_all_else_and_pass_gradients() -> None:
    fields = {"scale": 1.2, "shift": 0.1, "jitter": 0.01, "tilt": 8.0, "rotate": "so3", "drop": 0.3}
    plain, partial = drawn(clouds=4, points=50, **fields), drawn(clouds=4, points=50, partial=1.0, **fields)
    for one, other in zip(plain[:4], partial[:4], strict=True):
        assert torch.equal(one, other)
    points = points_of(4, 50).requires_grad_()
    apply(points, partial).square().sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    assert (points.grad.flatten(1).abs().sum(1) > 0).all()


def test_what_came_later_is_written_where_it_is_used() -> None:
    """Digests of recipes, banks and records are of what is written."""
    assert "partial" not in RECIPES["tuned"].model_dump()["augmentation"]
    given = Augmentation(partial=0.5)
    assert Augmentation.from_json(given.model_dump_json(), "here") == given
    assert "augmentation" not in BankConfig().model_dump()


def test_order_is_scale_then_tilt_then_turn_then_shift() -> None:
    """`matrix` maps a point as a column: the diagonal factors act first."""
    full = drawn(3, 4, 10, stretch=1.5, tilt=20.0, rotate="so3", shift=0.1)
    singular = torch.linalg.svdvals(full.matrix)
    factors = drawn(3, 4, 10, stretch=1.5).matrix.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(singular, factors.sort(dim=1, descending=True).values)
    torch.testing.assert_close(full.matrix.norm(dim=1), factors)  # columns: an orthogonal matrix after a diagonal one
    moved = [full.matrix[b] @ point + full.shift[b, 0] for b in range(4) for point in points_of()[b]]
    by_hand = torch.stack(moved).view(4, 10, 3)
    torch.testing.assert_close(apply(points_of(), full), by_hand)


EVERYTHING: dict[str, Any] = {
    "scale": 1.25, "stretch": 1.1, "shift": 0.1, "jitter": 0.01, "tilt": 5.0, "rotate": "z", "mirror": True,
    "drop": 0.3,
}  # fmt: skip


def test_same_seed_same_draw_and_nothing_else_is_random() -> None:
    before = torch.get_rng_state()
    first, again, other = (drawn(seed, 4, 10, partial=0.7, **EVERYTHING) for seed in (1, 1, 2))
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_draw_serves_two_sets_alike() -> None:
    """Siamese augmentation: applying a draw is a function of the points alone."""
    draw = drawn(1, 4, 10, **EVERYTHING)
    real, synthetic = points_of(), points_of().flip(2)
    torch.testing.assert_close(
        apply(0.3 * real + 0.7 * synthetic, draw), 0.3 * apply(real, draw) + 0.7 * apply(synthetic, draw)
    )
    assert torch.equal(apply(real, draw), apply(real, draw))


def test_apply_is_differentiable() -> None:
    draw = drawn(1, 2, 5, **EVERYTHING)
    points = points_of(2, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: apply(values, draw), points)
    assert torch.autograd.gradgradcheck(lambda values: apply(values, draw), points)


def test_apply_leaves_its_input_alone() -> None:
    points = points_of()
    apply(points, drawn(1, 4, 10, **EVERYTHING))
    assert torch.equal(points, points_of())


@pytest.mark.parametrize(
    "fields",
    [{"scale": 0}, {"stretch": -1}, {"shift": -0.1}, {"jitter": -1}, {"tilt": -5}, {"drop": 1.5}, {"drop": -0.1},
     {"rotate": "x"}, {"partial": 1.5}, {"scael": 1.1}],
)  # fmt: skip
def test_impossible_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        Augmentation(**fields)

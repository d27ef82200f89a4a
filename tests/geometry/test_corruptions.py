"""Corruptions: what all kinds promise, and what each of them should do to a cloud."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.interpolate import BPoly, RBFInterpolator
from scipy.stats import kstest
from torch import Tensor
from torch.testing import assert_close

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import MODELNET_C, POINTCLOUD_C, SEVERITIES, chamfer, corrupt, corruptions, normalise
from pcdistill.geometry.corruptions import _deformed, _splined, visible

KINDS = list(corruptions)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shells(clouds: int, points: int, seed: int = 0) -> Tensor:
    """Hollow boxes of different edges, in the unit sphere."""
    inside = 2 * torch.rand(clouds, points, 3, generator=generator(seed)) - 1
    edges = 0.3 + 0.7 * torch.rand(clouds, 1, 3, generator=generator(seed + 1))
    return normalise(edges * inside / inside.abs().amax(dim=2, keepdim=True))


CLOUDS = shells(24, 256)


def made(kind: str, severity: int, points: Tensor = CLOUDS, seed: int = 0) -> Tensor:
    return corruptions[kind](points, severity, generator(seed))


def test_all_published_kinds_are_there() -> None:
    assert (len(MODELNET_C), len(POINTCLOUD_C)) == (15, 7)
    assert set(KINDS) == {*MODELNET_C, *POINTCLOUD_C}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_finite_seeded_and_worse_by_degree(kind: str) -> None:
    before = CLOUDS.clone()
    distances = []
    for severity in SEVERITIES:
        points = made(kind, severity)
        assert (points.dtype, points.shape[0], points.shape[2]) == (torch.float32, 24, 3)
        assert torch.isfinite(points).all()
        assert torch.equal(points, made(kind, severity))
        assert not torch.equal(points, made(kind, severity, seed=1))
        distances.append(chamfer(points, CLOUDS).mean().item())
    assert torch.equal(CLOUDS, before)
    # A scanner takes half of the cloud away at all degrees: beside that its rings hardly show.
    assert all(0 < mild < worse * (1.02 if kind == "lidar" else 1) for mild, worse in pairwise(distances))
    assert distances[0] < 0.99 * distances[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_clouds_of_a_few_points_are_no_trouble_and_fewer_are_refused(kind: str) -> None:
    for severity in SEVERITIES:
        assert made(kind, severity, shells(2, 16)).shape[1] >= 4
    with pytest.raises(InputError, match=rf"corruption {kind}: points of shape \(2, 15, 3\), expected .* at least 16"):
        made(kind, 1, shells(2, 15))
    for severity in (0, 6):
        with pytest.raises(InputError, match=f"corruption {kind}: severity {severity}, expected 1 to 5"):
            made(kind, severity)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_and_the_provenance_says_what_was_done(kind: str, tiny_clouds: PointClouds) -> None:
    found = corrupt(tiny_clouds, kind, 2, 7)
    assert torch.equal(found.points, made(kind, 2, tiny_clouds.points, seed=7))
    assert torch.equal(found.labels, tiny_clouds.labels)
    assert found.provenance["corruption"] == f"{kind}:2"
    assert "corruption" not in tiny_clouds.provenance


def test_an_unknown_kind_is_refused(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match=r"corruption: 'gausian' .did you mean 'gaussian'"):
        corrupt(tiny_clouds, "gausian", 1, 0)


def within(points: Tensor, clean: Tensor) -> Tensor:
    """`(B, M)` bool: which points are points of the clean cloud, bit for bit."""
    return (points[:, :, None] == clean[:, None]).all(3).any(2)


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("cutout", [964, 934, 874, 814, 724]),
        ("density-dec", [949, 874, 799, 724, 649]),
        ("density-inc", [512] * 5),
        ("drop-global", [768, 640, 512, 384, 256]),
        ("drop-local", [924, 824, 724, 624, 524]),
    ],
)
def test_kinds_that_drop_leave_the_published_number_of_the_points(kind: str, left: list[int]) -> None:
    clean = shells(2, 1024)
    for severity, count in zip(SEVERITIES, left, strict=True):
        points = made(kind, severity, clean)
        assert points.shape[1] == count
        assert within(points, clean).all()
        assert all(len(cloud.unique(dim=0)) == count for cloud in points)  # none twice


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("upsampling", [204, 256, 341, 512, 1024]),
        ("background", [22, 25, 29, 34, 51]),
        ("add-global", [10, 20, 30, 40, 50]),
        ("add-local", [100, 200, 300, 400, 500]),
    ],
)
def test_kinds_that_add_leave_the_cloud_as_it_is(kind: str, more: list[int]) -> None:
    clean = shells(2, 1024)
    for severity, count in zip(SEVERITIES, more, strict=True):
        points = made(kind, severity, clean)
        assert points.shape[1] == 1024 + count
        assert torch.equal(points[:, :1024], clean)
        added = points[:, 1024:]
        assert added.abs().max() <= (1.05 if kind == "upsampling" else 1)
        if kind.startswith("add"):
            assert added.norm(dim=2).max() <= 1


def test_local_drops_are_local_and_global_ones_are_not() -> None:
    """The hole around a lost point is large where neighbours are lost too."""
    clean = shells(8, 1024)
    holes = {}
    for kind in ("drop-local", "drop-global", "cutout", "density-dec"):
        points = made(kind, 3, clean)
        lost = ~within(clean, points)
        nearest = torch.cdist(clean, points).amin(2)[lost]
        holes[kind] = nearest.mean().item()
    assert holes["density-dec"] < holes["cutout"]
    assert holes["drop-global"] < holes["cutout"] < holes["drop-local"]


def test_density_grows_near_what_stays_whole() -> None:
    """Among the kept, whole neighbourhoods show as points whose clean neighbours are all there."""
    clean = shells(4, 1024)
    whole = []
    for severity in SEVERITIES:
        there = within(clean, made("density-inc", severity, clean))
        near = torch.cdist(clean, clean).topk(8, largest=False).indices
        whole.append(there.gather(1, near.flatten(1)).view(4, 1024, 8).all(2).float().mean().item())
    assert whole == sorted(whole)
    assert whole[0] < 0.06 < 0.15 < whole[-1]


def test_noise_has_the_stated_size() -> None:
    clean = torch.zeros(4, 4096, 3)
    for severity, deviation in zip(SEVERITIES, (0.01, 0.015, 0.02, 0.025, 0.03), strict=True):
        normal = made("gaussian", severity, clean).flatten().numpy()
        assert kstest(normal / deviation, "norm").pvalue > 1e-3
        assert kstest(made("jitter", severity, clean).flatten().numpy() / (0.01 * severity), "norm").pvalue > 1e-3
        even = made("uniform", severity, clean).flatten().numpy()
        assert kstest((even / (0.01 * severity) + 1) / 2, "uniform").pvalue > 1e-3
    assert made("gaussian", 5, torch.ones(1, 64, 3)).max() == 1  # stays in the cube


def test_impulses_hit_the_stated_share_by_a_tenth_per_axis() -> None:
    for severity, share in zip(SEVERITIES, (34, 40, 51, 68, 102), strict=True):
        moved = made("impulse", severity, shells(2, 1024)) - shells(2, 1024)
        hit = moved.abs().amax(2) > 0
        assert hit.sum(1).tolist() == [share, share]
        assert_close(moved[hit].abs(), torch.full((2 * share, 3), 0.1))
        assert 0.3 < (moved[hit] > 0).float().mean() < 0.7


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [("rotation", (0, 2.5, 5, 7.5, 12.5), (5, 7.5, 10, 12.5, 17.5)), ("rotate", (0,) * 5, (6, 12, 18, 24, 30))],
)
def test_rotations_are_rigid_and_as_large_as_stated(
    kind: str, least: tuple[float, ...], most: tuple[float, ...]
) -> None:
    """Three turns in a row are no more than their sum, and in these ranges no less than one of them."""
    clean = shells(200, 16)
    for severity, low, high in zip(SEVERITIES, least, most, strict=True):
        points = made(kind, severity, clean)
        assert_close(torch.cdist(points, points), torch.cdist(clean, clean), atol=2e-3, rtol=0)
        turn = torch.linalg.lstsq(clean.double(), points.double()).solution.transpose(1, 2)
        assert_close(torch.linalg.det(turn), torch.ones(200, dtype=torch.float64), atol=1e-4, rtol=0)
        angle = torch.rad2deg(torch.acos(((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
        assert angle.max() <= 3 * high + 0.01
        assert angle.min() >= low - 0.01
        about_z = torch.rad2deg(torch.atan2(turn[:, 1, 0], turn[:, 0, 0])).abs()  # the last turn
        assert about_z.max() <= high + 0.1
        assert about_z.max() > high - 1
        assert about_z.min() >= low - 0.1


def affine(points: Tensor, clean: Tensor) -> Tensor:
    """`(B, 3, 3)` of the affine maps between clouds; they must be such."""
    augmented = torch.cat([clean, torch.ones_like(clean[..., :1])], 2).double()
    solution = torch.linalg.lstsq(augmented, points.double()).solution
    assert_close(augmented @ solution, points.double(), atol=1e-5, rtol=0)
    return solution[:, :3].transpose(1, 2)


def test_shear_is_linear_and_leaves_heights_alone() -> None:
    for severity in SEVERITIES:
        maps = affine(made("shear", severity), CLOUDS)
        maps = maps / maps[:, 2:, 2:]  # what normalisation has scaled by
        assert_close(maps[:, 2], torch.tensor([[0.0, 0, 1]]).double().expand(24, 3), atol=1e-4, rtol=0)
        assert_close(maps.diagonal(dim1=1, dim2=2), torch.ones(24, 3).double(), atol=1e-4, rtol=0)
        shares = torch.stack([maps[:, 0, 1], maps[:, 0, 2], maps[:, 1, 0], maps[:, 1, 2]]).abs()
        assert 0.05 * (severity - 1) - 1e-4 <= shares.min() < shares.max() <= 0.05 * (severity + 1) + 1e-4


def test_scale_stretches_the_axes_alone_and_fills_the_sphere() -> None:
    points = made("scale", 5)
    maps = affine(points, CLOUDS)
    factors = maps.diagonal(dim1=1, dim2=2)
    assert_close(maps, torch.diag_embed(factors), atol=1e-4, rtol=0)
    assert 2 < (factors.amax(1) / factors.amin(1)).max() <= 4
    assert_close(points.norm(dim=2).amax(1), torch.ones(24))


def test_a_deformation_of_equal_moves_is_a_shift_and_corners_follow_their_control_points() -> None:
    moves = torch.tensor([0.3, -0.2, 0.1]).double().expand(2, 5, 5, 5, 3)
    points = shells(2, 32).double()
    assert_close(_deformed(points, moves), points + moves[0, 0, 0, 0])
    random = torch.rand(1, 5, 5, 5, 3, generator=generator()).double()
    corners = torch.tensor([[[-1.0, -1, -1], [1, 1, 1], [-1, 1, -1]]]).double()
    wanted = torch.stack([random[0, 0, 0, 0], random[0, 4, 4, 4], random[0, 0, 4, 0]])
    assert_close(_deformed(corners, random)[0] - corners[0], wanted)


def test_a_deformation_is_scipys_bernstein_polynomial() -> None:
    """Along x alone, with y and z at a corner."""
    moves = torch.rand(1, 5, 5, 5, 3, generator=generator()).double()
    x = torch.linspace(-1, 1, 20).double()
    points = torch.stack([x, -torch.ones(20), -torch.ones(20)], 1)[None]
    expected = BPoly(moves[0, :, 0, 0].numpy()[:, None], [-1, 1])(x.numpy())
    assert_close(_deformed(points, moves)[0] - points[0], torch.from_numpy(expected))


@pytest.mark.parametrize(("name", "kernel"), [("multiquadric", 1), ("inverse_multiquadric", -1)])
def test_splines_are_scipys(name: str, kernel: int) -> None:
    """SciPy's multiquadric, -sqrt((r / 0.5)² + 1), is ours but for a factor, which weights undo."""
    moves = torch.randn(1, 125, 3, generator=generator()).double()
    points = shells(1, 40).double()
    found = _splined(points, moves, lambda r: (r**2 + 0.25).sqrt() ** kernel)
    axis = torch.linspace(-1, 1, 5).double()
    grid = torch.cartesian_prod(axis, axis, axis).numpy()
    spline = RBFInterpolator(grid, moves[0].numpy(), kernel=name, epsilon=2.0, degree=1)
    assert_close(found[0] - points[0], torch.from_numpy(spline(points[0].numpy())), atol=1e-8, rtol=0)


def test_of_a_ball_the_cap_towards_the_eye_is_visible() -> None:
    """At distance d of its middle the points whose height towards the eye is more than 1 / d."""
    ball = torch.nn.functional.normalize(torch.randn(3, 1024, 3, generator=generator()), dim=2)
    eyes = 3 * torch.eye(3)
    seen = visible(ball, eyes)
    cap = torch.einsum("bnc,bc->bn", ball, torch.eye(3)) > 1 / 3
    assert seen[cap].float().mean() > 0.99
    assert seen[~cap].float().mean() < 0.1


def test_a_flat_cloud_seen_from_its_edge_is_visible() -> None:
    flat = shells(1, 64) * torch.tensor([1.0, 1, 0])
    assert visible(flat, torch.tensor([[3.0, 0, 0]])).all()


def test_occlusion_takes_the_far_side_away_and_repeats_the_near_one() -> None:
    ball = torch.nn.functional.normalize(torch.randn(4, 512, 3, generator=generator()), dim=2)
    points = made("occlusion", 5, ball)
    distinct = [len(cloud.unique(dim=0)) for cloud in points]
    assert points.shape == ball.shape
    assert all(0.3 < count / 512 < 0.5 for count in distinct)
    mild = [len(cloud.unique(dim=0)) for cloud in made("occlusion", 1, ball)]
    assert all(0.8 < count / 512 < 0.95 for count in mild)


def test_a_scan_lies_on_rings_about_the_scanner() -> None:
    """Seen from the scanner, found where the rays of a cloud meet, elevations are odd multiples of half a spacing."""
    clean = shells(3, 1024)
    for severity, degrees in ((1, 0.5), (2, 1.0), (5, 3.0)):
        points = made("lidar", severity, clean)
        assert points.shape[1] == 768
        turns = 2 * math.pi * (_first_uniform(3)[1][:, 0])
        height = math.radians(22.5)
        eyes = 5 * torch.stack([turns.cos() * math.cos(height), turns.sin() * math.cos(height),
                                torch.full_like(turns, math.sin(height))], 1)  # fmt: skip
        rays = points - eyes[:, None]
        rings = torch.rad2deg(torch.atan2(rays[..., 2], rays[..., :2].norm(dim=2))) / degrees - 0.5
        assert (rings - rings.round()).abs().max() < 1e-3
        assert len(rings.round().unique()) < 40 / degrees
        assert chamfer(points, clean).max() < 0.2


def _first_uniform(count: int) -> tuple[Tensor, Tensor]:
    """The two draws that a viewpoint is made of: an elevation and a turn about z."""
    random = generator()
    return torch.rand(count, 1, generator=random), torch.rand(count, generator=random)[:, None]

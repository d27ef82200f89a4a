"""Test clouds made worse in known ways and degrees, to see how a network does where data are not clean.

The kinds and degrees of ModelNet40-C (Sun et al., "Benchmarking robustness of 3D point cloud recognition against
common corruptions", 2022): `MODELNET_C`; and those of PointCloud-C (Ren et al., "Benchmarking and analyzing point cloud
classification under corruptions", ICML 2022), which has kinds of the same sort with other numbers: `POINTCLOUD_C`.
Where we differ from their released code:

- Counts of points are theirs for clouds of 1024 points, and grow in proportion for others.
- Ours is the unit sphere with z up; theirs y up. What they do along the up axis is done along z here.
- Where they scale what is left to the cube again (shear, the distortions, occlusion) clouds are put back into the unit
  sphere (`normalise`); after noise they are not, as one far point would shrink all others.
- They look at meshes with a camera (occlusion, lidar), and their severities are five sides to look from. We have points
  only: those that are hidden are found by Katz et al. (`visible`), sides are drawn, and severity is how many of the
  hidden points are missing (occlusion; at 5 all, as theirs at any) or how far rings are apart (lidar).
- They raise local density out of 2048 points; here it is the other half of the cloud that is thinned.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry
from pcdistill.geometry.frames import normalise, random_rotations, rotate, rotation_matrix
from pcdistill.geometry.sampling import gather_points

Corruption = Callable[[Tensor, int, torch.Generator], Tensor]
corruptions: Registry[Corruption] = Registry("corruption")

MODELNET_C = (
    "occlusion", "lidar", "density-inc", "density-dec", "cutout",
    "uniform", "gaussian", "impulse", "upsampling", "background",
    "rotation", "shear", "distortion", "distortion-rbf", "distortion-rbf-inv",
)  # fmt: skip
POINTCLOUD_C = ("jitter", "drop-global", "drop-local", "add-global", "add-local", "scale", "rotate")

SEVERITIES = (1, 2, 3, 4, 5)
# Points of a cloud that the published counts are for, and the fewest that all kinds leave some of.
PUBLISHED_POINTS, LEAST_POINTS = 1024, 16
CHUNK = 64  # clouds deformed at once: bounds memory


def corrupt(clouds: PointClouds, kind: str, severity: int, seed: int) -> PointClouds:
    """The set with every cloud corrupted; labels stay, the kind and severity join the provenance.

    Args:
        clouds: `(N, P, 3)` in the unit sphere, z up, P at least 16.
        kind: registered name.
        severity: 1 (least) to 5.
        seed: of everything drawn, each cloud on its own.

    Raises:
        InputError: unknown kind, severity out of range, too few points, or clouds with parts.
    """
    if clouds.parts is not None:  # most kinds leave out points or add some
        raise InputError(
            f"corruption {kind}", "clouds with parts", "clouds without (rotations and resolutions keep them)"
        )
    points = corruptions[kind](clouds.points, severity, torch.Generator().manual_seed(seed))
    return replace(clouds, points=points, provenance={**clouds.provenance, "corruption": f"{kind}:{severity}"})


def _kind(name: str, *also: str) -> Callable[[Corruption], Corruption]:
    """Register a function that may trust its arguments under `name`, behind their checks.

    It stands on the paper of its suite, and on those that `also` has the keys of.
    """
    suite = "sun2022modelnetc" if name in MODELNET_C else "ren2022pointcloudc"

    def add(function: Corruption) -> Corruption:
        @wraps(function)
        def checked(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
            if severity not in SEVERITIES:
                raise InputError(f"corruption {name}", f"severity {severity}", "1 to 5")
            if points.ndim != 3 or points.shape[-1] != 3 or points.shape[1] < LEAST_POINTS:
                expected = f"(B, N, 3) with at least {LEAST_POINTS} points each"
                raise InputError(f"corruption {name}", f"points of shape {tuple(points.shape)}", expected)
            return function(points, severity, generator).to(points.dtype)

        return corruptions.register(name, cites=(suite, *also))(checked)

    return add


# Density


@_kind("occlusion", "katz2007visibility")
def occlusion(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Seen from one side, at a distance of 3 and 30 to 60 degrees above: a hidden point is missing with probability
    severity / 5, and points that are there are repeated in its place. Back in the unit sphere."""
    eyes = _viewpoints(len(points), 3.0, (30.0, 60.0), generator)
    lost = _uniform(generator, *points.shape[:2]) < severity / 5
    return normalise(_refilled(points, visible(points, eyes) | ~lost, points.shape[1], generator))


@_kind("lidar", "katz2007visibility")
def lidar(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Seen by a laser scanner at a distance of 5, 22.5 degrees above: of what it can see, moved onto the nearest of its
    rings, 3/4 as many points as there were. Rings are 0.5, 1 (the published), 1.5, 2 or 3 degrees apart."""
    spacing = math.radians((0.5, 1.0, 1.5, 2.0, 3.0)[severity - 1])
    eyes = _viewpoints(len(points), 5.0, (22.5, 22.5), generator)
    rays = points - eyes[:, None]
    elevation = torch.atan2(rays[..., 2], rays[..., :2].norm(dim=2))
    rings = (torch.floor(elevation / spacing) + 0.5) * spacing
    distance, around = rays.norm(dim=2), torch.atan2(rays[..., 1], rays[..., 0])
    flat = rings.cos() * distance
    scanned = torch.stack([flat * around.cos(), flat * around.sin(), rings.sin() * distance], 2) + eyes[:, None]
    return _refilled(scanned, visible(points, eyes), 3 * points.shape[1] // 4, generator)


@_kind("density-inc")
def density_inc(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Half as many points: `severity` neighbourhoods of about a tenth of these each stay whole, the rest is thinned."""
    count = points.shape[1] // 2
    size = max(1, round(100 * count / PUBLISHED_POINTS))
    left = torch.ones_like(points[..., 0], dtype=torch.bool)
    for _ in range(severity):
        left &= ~_neighbourhood(points, left, size, generator)
    chance = torch.where(left, _uniform(generator, *left.shape), 2.0)  # whole neighbourhoods come first
    return gather_points(points, chance.topk(count, dim=1).indices.sort(dim=1).values)


@_kind("density-dec")
def density_dec(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Three quarters of the points of `severity` neighbourhoods, each of 100 in 1024, are missing."""
    size = max(2, _scaled(100, points))
    left = torch.ones_like(points[..., 0], dtype=torch.bool)
    for _ in range(severity):
        near = _neighbourhood(points, left, size, generator)
        chance = torch.where(near, _uniform(generator, *left.shape), -1.0)
        left = left.scatter(1, chance.topk(max(1, 3 * size // 4), dim=1).indices, False)
    return _kept(points, left)


@_kind("cutout")
def cutout(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """2, 3, 5, 7 or 10 neighbourhoods, each of 30 in 1024 points, are missing."""
    left = torch.ones_like(points[..., 0], dtype=torch.bool)
    for _ in range((2, 3, 5, 7, 10)[severity - 1]):
        left &= ~_neighbourhood(points, left, _scaled(30, points), generator)
    return _kept(points, left)


# Noise


@_kind("uniform")
def uniform(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Every coordinate moves by up to 0.01 x severity, uniformly."""
    return points + 0.01 * severity * (2 * _uniform(generator, *points.shape) - 1)


@_kind("gaussian")
def gaussian(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Normal noise of deviation 0.01, 0.015, ... 0.03 on every coordinate, within the cube [-1, 1]."""
    noise = torch.randn(points.shape, generator=generator)
    return (points + (0.005 + 0.005 * severity) * noise).clamp(-1, 1)


@_kind("impulse")
def impulse(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """One point in 30, 25, 20, 15 or 10 jumps by 0.1 or -0.1 on every axis."""
    count = max(1, points.shape[1] // (30, 25, 20, 15, 10)[severity - 1])
    hit = _uniform(generator, *points.shape[:2]).argsort(1).argsort(1) < count
    return points + 0.1 * _signs(generator, *points.shape) * hit[..., None]


@_kind("upsampling")
def upsampling(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """A fifth, a quarter, a third, half, or all of the points come a second time, off by up to 0.05 per axis."""
    count = points.shape[1] // (5, 4, 3, 2, 1)[severity - 1]
    chosen = gather_points(points, _uniform(generator, *points.shape[:2]).argsort(1)[:, :count])
    return torch.cat([points, chosen + 0.05 * (2 * _uniform(generator, *chosen.shape) - 1)], 1)


@_kind("background")
def background(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """More points, uniform in the cube [-1, 1]: one for every 45, 40, 35, 30 or 20."""
    count = max(1, points.shape[1] // (45, 40, 35, 30, 20)[severity - 1])
    return torch.cat([points, 2 * _uniform(generator, len(points), count, 3) - 1], 1)


# Transformations


@_kind("rotation")
def rotation(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Turned about x, then y, then z, by 0 to 5, 2.5 to 7.5, 5 to 10, 7.5 to 12.5 or 12.5 to 17.5 degrees each way."""
    middle = (2.5, 5.0, 7.5, 10.0, 15.0)[severity - 1]
    angles = middle + 2.5 * (2 * _uniform(generator, len(points), 3) - 1)
    return rotate(points, rotation_matrix(torch.deg2rad(angles * _signs(generator, len(points), 3))))


@_kind("shear")
def shear(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """x gets a share of y and z, and y of x and z: 0.05 x severity, give or take 0.05, of either sign. Back in the unit
    sphere."""
    shares = 0.05 * severity + 0.05 * (2 * _uniform(generator, len(points), 4) - 1)
    a, b, c, d = (shares * _signs(generator, len(points), 4)).unbind(1)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    matrices = torch.stack([one, a, b, c, one, d, zero, zero, one], 1).view(-1, 3, 3)
    return normalise(points @ matrices.transpose(1, 2))


@_kind("distortion", "sederberg1986ffd")
def distortion(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Free-form deformation of the cube [-1, 1] by 5 x 5 x 5 control points that move by up to 0.2 x severity per axis
    (Sederberg & Parry, "Free-form deformation of solid geometric models", 1986). Back in the unit sphere."""
    moves = 0.2 * severity * (2 * _uniform(generator, len(points), 5, 5, 5, 3) - 1)
    return _in_chunks(_deformed, points, moves)


@_kind("distortion-rbf")
def distortion_rbf(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """The multiquadric spline that moves each of 5 x 5 x 5 points of the cube by 0.025 x severity. Back in the unit
    sphere."""
    moves = 0.025 * severity * _directions(generator, len(points), 125)
    return _in_chunks(lambda p, m: _splined(p, m, lambda r: (r**2 + RADIUS**2).sqrt()), points, moves)


@_kind("distortion-rbf-inv")
def distortion_rbf_inv(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """As `distortion-rbf` by the inverse multiquadric, whose bumps are local."""
    moves = 0.025 * severity * _directions(generator, len(points), 125)
    return _in_chunks(lambda p, m: _splined(p, m, lambda r: (r**2 + RADIUS**2).rsqrt()), points, moves)


# PointCloud-C


@_kind("jitter")
def jitter(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Normal noise of deviation 0.01 x severity on every coordinate."""
    return points + 0.01 * severity * torch.randn(points.shape, generator=generator)


@_kind("drop-global")
def drop_global(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """2, 3, 4, 5 or 6 eighths of the points are missing."""
    count = int(points.shape[1] * (7 - severity) / 8)
    return gather_points(points, _uniform(generator, *points.shape[:2]).topk(count, dim=1).indices)


@_kind("drop-local")
def drop_local(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """100 x severity in 1024 points are missing, in 1 to 7 neighbourhoods."""
    left = torch.ones_like(points[..., 0], dtype=torch.bool)
    for sizes in _cluster_of(len(points), _scaled(100 * severity, points), generator).unbind(1):
        left &= ~_neighbourhood(points, left, sizes[:, None], generator)
    return _kept(points, left)


@_kind("add-global")
def add_global(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """More points, uniform in the unit ball: 10 x severity to 1024."""
    count = _scaled(10 * severity, points)
    directions = torch.nn.functional.normalize(torch.randn(len(points), count, 3, generator=generator), dim=2)
    return torch.cat([points, directions * _uniform(generator, len(points), count, 1) ** (1 / 3)], 1)


@_kind("add-local")
def add_local(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """More points, 100 x severity to 1024, about 1 to 7 of the cloud's: normal, of deviation 0.075 to 0.125.

    Those outside the unit sphere are mirrored at it (r becomes 1 / r), as published.
    """
    count = _scaled(100 * severity, points)
    cluster = torch.searchsorted(
        _cluster_of(len(points), count, generator).cumsum(1),
        torch.arange(count).expand(len(points), -1).contiguous(), right=True,
    )  # fmt: skip
    centres = gather_points(points, _uniform(generator, *points.shape[:2]).topk(CLUSTERS, dim=1).indices)
    spread = 0.075 + 0.05 * _uniform(generator, len(points), CLUSTERS, 1)
    noise = torch.randn(len(points), count, 3, generator=generator)
    added = gather_points(centres, cluster) + gather_points(spread, cluster) * noise
    return torch.cat([points, added / added.square().sum(2, keepdim=True).clamp(min=1)], 1)


@_kind("scale")
def scale(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Every axis by its own factor, uniform between 1 / s and s with s = 1.6, 1.7, ... 2. Back in the unit sphere."""
    most = 1.5 + 0.1 * severity
    factors = 1 / most + (most - 1 / most) * _uniform(generator, len(points), 1, 3)
    return normalise(points * factors)


@_kind("rotate")
def rotate_within(points: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Turned about x, then y, then z, by up to 6 x severity degrees each."""
    return rotate(points, rotation_matrix(math.radians(6 * severity) * (2 * _uniform(generator, len(points), 3) - 1)))


# What they are made of

RADIUS = 0.5  # of the splines: the default of the library that the published ones come from
CLUSTERS = 7  # at most


def visible(points: Tensor, eyes: Tensor) -> Tensor:
    """Which points of every cloud can be seen from a point outside of it.

    Hidden point removal (Katz, Tal & Basri, "Direct visibility of point sets", SIGGRAPH 2007): each point is mirrored
    at a sphere about the eye, and is visible if it is a corner of the convex hull of all of them and the eye. Of
    coinciding points one is. A flat cloud whose plane holds the eye has no hull: it is all visible.

    Args:
        points: `(B, N, 3)`, N at least 3.
        eyes: `(B, 3)`, none of them a point of its cloud.

    Returns:
        `(B, N)` bool.
    """
    # Not at the top: it takes longer to load than most commands to run.
    from scipy.spatial import ConvexHull, QhullError

    rays = points.double() - eyes[:, None].double()
    distance = rays.norm(dim=2, keepdim=True)
    # A larger sphere shows more of hollows, but also more of the far side of a cloud of few points.
    radius = 30 * distance.amax(dim=1, keepdim=True)
    mirrored = torch.cat([rays * (2 * radius / distance - 1), torch.zeros_like(rays[:, :1])], 1).numpy()
    seen = torch.zeros(points.shape[:2], dtype=torch.bool)
    for cloud, found in zip(mirrored, seen, strict=True):
        try:
            corners = torch.from_numpy(ConvexHull(cloud).vertices).long()
        except QhullError:
            corners = torch.arange(len(found))
        found[corners[corners < len(found)]] = True
    return seen


def _viewpoints(count: int, distance: float, elevation: tuple[float, float], generator: torch.Generator) -> Tensor:
    """`(count, 3)`: at a distance, an elevation between two in degrees, and anywhere around z."""
    low, high = map(math.radians, elevation)
    height = low + (high - low) * _uniform(generator, count, 1)
    eyes = distance * torch.cat([height.cos(), torch.zeros_like(height), height.sin()], 1)
    return rotate(eyes[:, None], random_rotations(count, generator))[:, 0]


def _refilled(points: Tensor, kept: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` points of every cloud: those that are `kept`, in a random order, again and again."""
    order = torch.where(kept, _uniform(generator, *kept.shape), 2.0).argsort(1)
    turn = torch.arange(count) % kept.sum(1, keepdim=True)
    return gather_points(points, order.gather(1, turn))


def _neighbourhood(points: Tensor, left: Tensor, size: int | Tensor, generator: torch.Generator) -> Tensor:
    """`(B, N)` bool: the `size` points nearest to a random one, all of them among those `left`."""
    chance = torch.where(left, _uniform(generator, *left.shape), -1.0)
    centre = gather_points(points, chance.argmax(1, keepdim=True))
    distance = torch.where(left, (points - centre).square().sum(2), torch.inf)
    return distance.argsort(dim=1, stable=True).argsort(1) < size


def _kept(points: Tensor, left: Tensor) -> Tensor:
    """The points that are left, equally many of every cloud, in their order."""
    return points[left].view(len(points), -1, 3)


def _cluster_of(clouds: int, count: int, generator: torch.Generator) -> Tensor:
    """`(clouds, 7)` int64: how many of `count` points are in each of 1 to 7 clusters; 0 in those beyond."""
    clusters = torch.randint(1, CLUSTERS + 1, (clouds, 1), generator=generator)
    drawn = (_uniform(generator, clouds, count) * clusters).long()
    return torch.zeros(clouds, CLUSTERS, dtype=torch.int64).scatter_add_(1, drawn, torch.ones_like(drawn))


def _in_chunks(deform: Callable[[Tensor, Tensor], Tensor], points: Tensor, moves: Tensor) -> Tensor:
    """Deformed a few clouds at a time, and back in the unit sphere."""
    parts = zip(points.double().split(CHUNK), moves.double().split(CHUNK), strict=True)
    return torch.cat([normalise(deform(*part)) for part in parts])


def _deformed(points: Tensor, moves: Tensor) -> Tensor:
    """Bernstein polynomials of the cube [-1, 1], weighted by the moves `(B, n, n, n, 3)` of control points."""
    degree = moves.shape[1] - 1
    powers = torch.arange(degree + 1)
    binomials = torch.tensor([math.comb(degree, k) for k in powers.tolist()])
    inside = ((points + 1) / 2)[..., None].clamp(0, 1)
    x, y, z = (binomials * inside**powers * (1 - inside) ** powers.flip(0)).unbind(2)
    by_z = torch.einsum("bnk,bijkc->bnijc", z, moves)
    return points + torch.einsum("bni,bnj,bnijc->bnc", x, y, by_z)


def _splined(points: Tensor, moves: Tensor, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Points moved by the radial interpolation of moves `(B, n³, 3)` of a grid on the cube, with a linear part."""
    axis = torch.linspace(-1, 1, round(moves.shape[1] ** (1 / 3)), dtype=points.dtype)
    grid = torch.cartesian_prod(axis, axis, axis)
    linear = torch.cat([torch.ones_like(grid[:, :1]), grid], 1)
    corner = torch.zeros(4, 4, dtype=points.dtype)
    system = torch.cat([torch.cat([kernel(torch.cdist(grid, grid)), linear], 1), torch.cat([linear.T, corner], 1)])
    weights = torch.linalg.solve(system, torch.nn.functional.pad(moves, (0, 0, 0, 4)))
    basis = torch.cat([kernel(torch.cdist(points, grid)), torch.ones_like(points[..., :1]), points], 2)
    moved: Tensor = points + basis @ weights
    return moved


def _directions(generator: torch.Generator, *shape: int) -> Tensor:
    """Unit vectors `(*shape, 3)`, drawn as the published ones by two uniform angles: denser at the poles."""
    around, down = (math.pi * (2 * _uniform(generator, 2, *shape) - 1)).unbind(0)
    return torch.stack([around.cos() * down.sin(), around.sin() * down.sin(), down.cos()], -1)


def _scaled(count: int, points: Tensor) -> int:
    """A published number of points, for clouds of another size."""
    return max(1, round(count * points.shape[1] / PUBLISHED_POINTS))


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator)


def _signs(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(2, shape, generator=generator) * 2.0 - 1

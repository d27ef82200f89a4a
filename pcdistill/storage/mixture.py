"""Clouds as mixtures of Gaussians, decoded by fixed draws."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import farthest_points, rotation_matrix
from pcdistill.storage.base import storages
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.parts import Part, PartedStorage, Values
from pcdistill.storage.rotated import ANGLE_PACE

FIT_STEPS = 30
LEAST_VARIANCE = 1e-4  # of a component in any direction: a hundredth of the radius
FIT_BLOCK = 2**20  # distances held at once
ROOT = 1.2207440846057596  # of x^4 = x + 1


@storages.register("mixture", cites=("dempster1977em",))
class GaussianMixtures(PartedStorage):
    """Every cloud is a mixture of K Gaussians of equal weight; its P points are fixed draws from it.

    Our own; splats and mixtures of Gaussians are common as descriptions of shapes, here they are what is distilled.
    Point j belongs to component k = j mod K and is

        m_k + R(a_k) diag(exp(s_k)) z_(j div K),   R = Rz Ry Rx as in `rotated`,

    with the same draws z in every component, cloud and file: `normal_draws`. They are not stored.

    Per component the mean m is a coordinate; the logarithms s of the standard deviations and the angles a, radians,
    are weights: float16 resolves both to less than 0.002 where they matter, at 32 bits float32. Bytes per cloud:
    `ceil(3 K bits / 8) + 12 K`. K is P / 16, at least 4 and at most P.

    The first values are the EM algorithm's (Dempster, Laird & Rubin 1977) at fixed equal weights, from a farthest point
    sample of means.

    Learned: `means` `(C * n, K, 3)`, `log_scales` and `angles` `(C * n, K, 3)`.
    """

    name = "mixture"
    fields = ("gaussians",)
    pace: ClassVar[Mapping[str, float]] = {"labels": LABEL_PACE, "angles": ANGLE_PACE, "log_scales": ANGLE_PACE}

    @classmethod
    def rule(cls, clouds: int, points: int) -> dict[str, int]:
        return {"gaussians": min(points, max(4, points // 16))}

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        # Not too few either: what a file decodes into would have nothing to do with its size.
        least, most = -(-sizes["points"] // 64), sizes["points"]
        if not least <= sizes["gaussians"] <= most:
            raise InputError("gaussians", str(sizes["gaussians"]), f"{least} to {most} for {most} points")

    @classmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        shape = (classes * sizes["clouds"], sizes["gaussians"], 3)
        return {"means": Part(shape, "coordinates"), "log_scales": Part(shape), "angles": Part(shape)}

    @classmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        step = max(1, FIT_BLOCK // (sizes["points"] * sizes["gaussians"]))
        fitted = [expectation_maximisation(part.double(), sizes["gaussians"]) for part in points.split(step)]
        variances, axes = torch.linalg.eigh(torch.cat([covariance for _, covariance in fitted]))
        axes = axes * torch.linalg.det(axes).sign()[..., None, None]  # no mirror images
        return {
            "means": torch.cat([means for means, _ in fitted]).float(),
            "log_scales": (variances.clamp_min(LEAST_VARIANCE).log() / 2).float(),
            "angles": euler_angles(axes).float(),
        }

    @classmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        means = values["means"][index]
        draws = normal_draws(-(-sizes["points"] // sizes["gaussians"])).to(means)
        turns = rotation_matrix(values["angles"][index])
        spread = values["log_scales"][index].exp()[:, None] * draws[:, None]  # cloud, draw, component, axis
        # Axis by axis: a product of matrices would sum in an order that hangs on how many clouds are asked for.
        offsets = sum(turns[:, None, ..., axis] * spread[..., axis, None] for axis in range(3))
        return (means[:, None] + offsets).flatten(1, 2)[:, : sizes["points"]]


def normal_draws(count: int) -> Tensor:
    """`(count, 3)` float64, evenly spread over the standard normal distribution; the same ones everywhere.

    The counter j goes to the point `frac(1/2 + (j + 1) (g^-1, g^-2, g^-3))` of the unit cube, a Kronecker sequence with
    g^4 = g + 1 (Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018), and that through the
    inverse normal distribution. Of more than 3 draws mean and covariance are then made exactly 0 and 1.
    """
    steps = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    uniform = (0.5 + steps * ROOT ** -torch.arange(1, 4, dtype=torch.float64)) % 1
    draws: Tensor = torch.special.ndtri(uniform)
    if count == 1:
        return torch.zeros_like(draws)
    draws = draws - draws.mean(0)
    if count <= 3:
        return draws
    factor = torch.linalg.cholesky(draws.T @ draws / count)
    white: Tensor = torch.linalg.solve_triangular(factor, draws.T, upper=False).T
    return white


def expectation_maximisation(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Means `(B, K, 3)` and covariances `(B, K, 3, 3)` of mixtures of `count` Gaussians of equal weight."""
    means = farthest_points(points, count)
    floor = LEAST_VARIANCE * torch.eye(3, dtype=points.dtype)
    size = torch.cdist(points, means).square().amin(2).mean(1) / 3 + LEAST_VARIANCE
    covariances = size[:, None, None, None] * torch.eye(3, dtype=points.dtype).expand(len(points), count, 3, 3)
    for _ in range(FIT_STEPS):
        factors = torch.linalg.cholesky(covariances)
        offsets = (points[:, None] - means[:, :, None]).transpose(2, 3)  # cloud, component, axis, point
        white = torch.linalg.solve_triangular(factors, offsets, upper=False)
        size = factors.diagonal(dim1=2, dim2=3).log().sum(2)
        shares = (-white.square().sum(2) / 2 - size[..., None]).softmax(1)
        totals = shares.sum(2, keepdim=True).clamp_min(1e-9)
        means = shares @ points / totals
        offsets = (points[:, None] - means[:, :, None]).transpose(2, 3)
        covariances = (offsets * shares[:, :, None]) @ offsets.transpose(2, 3) / totals[..., None] + floor
    return means, covariances


def euler_angles(matrices: Tensor) -> Tensor:
    """Angles `(..., 3)` about x, y, z whose `rotation_matrix` is `matrices` `(..., 3, 3)`."""
    level = torch.hypot(matrices[..., 2, 1], matrices[..., 2, 2])
    y = torch.atan2(-matrices[..., 2, 0], level)
    x = torch.atan2(matrices[..., 2, 1], matrices[..., 2, 2])
    z = torch.atan2(matrices[..., 1, 0], matrices[..., 0, 0])
    locked = level < 1e-9  # the turns about x and z are then about one axis, and all of it goes to z
    x = torch.where(locked, 0, x)
    z = torch.where(locked, torch.atan2(-matrices[..., 0, 1], matrices[..., 1, 1]), z)
    return torch.stack([x, y, z], dim=-1)

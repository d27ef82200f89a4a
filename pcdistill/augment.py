"""Differentiable augmentation of clouds, with the drawn numbers in the open.

`draw` and `apply` are separate so that one draw can serve real and synthetic clouds alike (siamese
augmentation, Zhao & Bilen 2021).
"""

import math
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pcdistill.geometry import random_rotations


class Draw(NamedTuple):
    """One augmentation of B clouds: `points @ matrix.T + shift + noise`."""

    matrix: Tensor  # (B, 3, 3)
    shift: Tensor  # (B, 1, 3)
    noise: Tensor | None  # (B, N, 3), in the units of the unit sphere
    keep: Tensor | None  # (B, N) indices of the points that stand in each place


class Augmentation(BaseModel):
    """How far clouds are changed; every field at its default changes nothing.

    Attributes:
        scale: factor between 1 / scale and scale for every cloud, its logarithm uniform.
        stretch: the same for every axis on its own.
        shift: each coordinate of the offset is uniform in [-shift, shift].
        jitter: standard deviation of per-point noise, cut at 3 deviations.
        tilt: root mean square in degrees of a rotation about a random axis.
        rotate: `none`, `z` (uniform about the up axis) or `so3` (uniform).
        mirror: flip x and y, each with probability one half.
        drop: a share of every cloud's points, uniform between 0 and this, is replaced by points drawn from it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(default=1.0, gt=0)
    stretch: float = Field(default=1.0, gt=0)
    shift: float = Field(default=0.0, ge=0)
    jitter: float = Field(default=0.0, ge=0)
    tilt: float = Field(default=0.0, ge=0)
    rotate: Literal["none", "z", "so3"] = "none"
    mirror: bool = False
    drop: float = Field(default=0.0, ge=0, le=1)

    def draw(self, clouds: int, points: int, generator: torch.Generator) -> Draw:
        """Numbers for `clouds` clouds of `points` points each."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        factors = torch.exp((2 * uniform(clouds, 1) - 1) * math.log(self.scale)).expand(-1, 3)
        if self.stretch != 1:
            factors = factors * torch.exp((2 * uniform(clouds, 3) - 1) * math.log(self.stretch))
        if self.mirror:
            signs = (uniform(clouds, 3) < 0.5).float() * 2 - 1
            signs[:, 2] = 1
            factors = factors * signs
        matrix = torch.diag_embed(factors)
        if self.tilt:
            angles = torch.randn(clouds, 3, generator=generator) * math.radians(self.tilt) / math.sqrt(3)
            matrix = torch.linalg.matrix_exp(_cross_matrix(angles)) @ matrix
        if self.rotate != "none":
            turns = random_rotations(clouds, generator, axis="z" if self.rotate == "z" else None)
            matrix = turns @ matrix
        shift = (2 * uniform(clouds, 1, 3) - 1) * self.shift
        noise = None
        if self.jitter:
            noise = torch.randn(clouds, points, 3, generator=generator).clamp_(-3, 3) * self.jitter
        keep = _replacements(uniform(clouds, 1) * self.drop, clouds, points, generator) if self.drop else None
        return Draw(matrix, shift, noise, keep)


def apply(points: Tensor, draw: Draw) -> Tensor:
    """`(B, N, 3)` clouds changed as drawn; differentiable in `points`."""
    if draw.keep is not None:
        points = points.gather(1, draw.keep[..., None].expand(-1, -1, 3).to(points.device))
    points = torch.baddbmm(draw.shift.to(points), points, draw.matrix.to(points).transpose(1, 2))
    return points if draw.noise is None else points + draw.noise.to(points)


def _replacements(fraction: Tensor, clouds: int, points: int, generator: torch.Generator) -> Tensor:
    own = torch.arange(points).expand(clouds, points)
    other = torch.randint(points, (clouds, points), generator=generator)
    return torch.where(torch.rand(clouds, points, generator=generator) < fraction, other, own)


def _cross_matrix(axis: Tensor) -> Tensor:
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)

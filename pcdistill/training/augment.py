"""Differentiable augmentation of clouds, with the drawn numbers in the open.

`draw` and `apply` are separate so that one draw can serve real and synthetic clouds alike (siamese
augmentation, Zhao & Bilen 2021).
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.core.options import Options
from pcdistill.geometry import gather_points, in_sight, normalise, random_rotations

Rotation = Literal["none", "z", "so3"]


class Draw(NamedTuple):
    """One augmentation of B clouds: `points @ matrix.T + shift + noise`."""

    matrix: Tensor  # (B, 3, 3)
    shift: Tensor  # (B, 1, 3)
    noise: Tensor | None  # (B, N, 3), in the units of the unit sphere
    keep: Tensor | None  # (B, N) indices of the points that stand in each place
    sides: Tensor | None = None  # (B, 3, 3) frames that clouds are seen in from one side; zeros: from all


class Augmentation(Options):
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
        partial: probability that a cloud is seen from one side only, as a scanner does, from a direction drawn
            uniformly: points that others hide are replaced by repeats, and what is left is centred and scaled anew.
    """

    later: ClassVar[tuple[str, ...]] = ("partial",)

    scale: float = Field(default=1.0, gt=0)
    stretch: float = Field(default=1.0, gt=0)
    shift: float = Field(default=0.0, ge=0)
    jitter: float = Field(default=0.0, ge=0)
    tilt: float = Field(default=0.0, ge=0)
    rotate: Rotation = "none"
    mirror: bool = False
    drop: float = Field(default=0.0, ge=0, le=1)
    partial: float = Field(default=0.0, ge=0, le=1)

    def draw(self, clouds: int, points: int, *generators: torch.Generator) -> Draw:
        """Numbers for `clouds` clouds of `points` points each from every generator, in the order of the generators."""

        def each(numbers: Callable[[torch.Generator], Tensor]) -> Tensor:
            return torch.cat([numbers(generator) for generator in generators])

        def uniform(*shape: int) -> Tensor:
            return each(lambda generator: torch.rand(clouds, *shape, generator=generator))

        factors = torch.exp((2 * uniform(1) - 1) * math.log(self.scale)).expand(-1, 3)
        if self.stretch != 1:
            factors = factors * torch.exp((2 * uniform(3) - 1) * math.log(self.stretch))
        if self.mirror:
            signs = (uniform(3) < 0.5).float() * 2 - 1
            signs[:, 2] = 1
            factors = factors * signs
        matrix = torch.diag_embed(factors)
        if self.tilt:
            angles = each(lambda generator: torch.randn(clouds, 3, generator=generator))
            angles = angles * math.radians(self.tilt) / math.sqrt(3)
            matrix = torch.linalg.matrix_exp(_cross_matrix(angles)) @ matrix
        if self.rotate != "none":
            axis = "z" if self.rotate == "z" else None
            matrix = each(lambda generator: random_rotations(clouds, generator, axis=axis)) @ matrix
        shift = (2 * uniform(1, 3) - 1) * self.shift
        noise = None
        if self.jitter:
            noise = each(lambda generator: torch.randn(clouds, points, 3, generator=generator))
            noise = noise.clamp_(-3, 3) * self.jitter
        keep = None
        if self.drop:
            share = uniform(1) * self.drop
            other = each(lambda generator: torch.randint(points, (clouds, points), generator=generator))
            keep = torch.where(uniform(points) < share, other, torch.arange(points))
        sides = None
        if self.partial:
            sides = each(lambda generator: random_rotations(clouds, generator, axis=None))
            sides = sides * (uniform(1, 1) < self.partial)
        return Draw(matrix, shift, noise, keep, sides)


class Poses(Options):
    """In which poses networks see training clouds: flags that mean the same in every command."""

    heading: ClassVar[str] = "poses"
    later: ClassVar[tuple[str, ...]] = ("rotate", "partial")

    rotate: Annotated[
        Rotation | None,
        Field(description="turn training clouds about the up axis (z) or in every way (so3) (default: the recipe's)"),
    ] = None
    partial: Annotated[
        float | None,
        Field(
            ge=0, le=1,
            description="share of training clouds that are seen from one side only, as by a scanner (default: the "
            "recipe's)",
        ),
    ] = None  # fmt: skip

    def asked(self) -> dict[str, Any]:
        """What is given, as fields of an `Augmentation`."""
        given = {name: getattr(self, name) for name in Poses.model_fields}
        return {name: value for name, value in given.items() if value is not None}

    def shown(self, augmentation: Augmentation) -> Augmentation:
        """An augmentation with what is given."""
        changed: Augmentation = augmentation.model_copy(update=self.asked())
        return changed


def apply(points: Tensor, draw: Draw) -> Tensor:
    """`(B, N, 3)` clouds changed as drawn; differentiable in `points`."""
    if draw.keep is not None:
        points = points.gather(1, draw.keep[..., None].expand(-1, -1, 3).to(points.device))
    if draw.sides is not None:
        points = _seen(points, draw.sides)
    points = torch.baddbmm(draw.shift.to(points), points, draw.matrix.to(points).transpose(1, 2))
    return points if draw.noise is None else points + draw.noise.to(points)


def labels_kept(labels: Tensor, draw: Draw) -> Tensor:
    """Labels `(B, N)` of the points that stand in each place after `apply`."""
    return labels if draw.keep is None else labels.gather(1, draw.keep.to(labels.device))


def _seen(points: Tensor, sides: Tensor) -> Tensor:
    """Clouds as they are seen from one side, those without a frame as they are."""
    rows = sides.any(2).any(1).nonzero()[:, 0].to(points.device)
    part, frames = points[rows], sides.to(points)[rows]
    seen = in_sight(part.detach(), frames)
    order = seen.byte().argsort(dim=1, descending=True, stable=True)  # what is seen, and again in place of the others
    turn = torch.arange(points.shape[1], device=points.device) % seen.sum(1, keepdim=True)
    return points.index_copy(0, rows, normalise(gather_points(part, order.gather(1, turn))))


def _cross_matrix(axis: Tensor) -> Tensor:
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)

"""Where a cloud stands: centring and scaling to the unit sphere, and rotations."""

import math

import torch
from torch import Tensor

from pcdistill.core.errors import InputError

AXES = "xyz"


def normalise(points: Tensor) -> Tensor:
    """Centre every cloud on the mean of its points and scale its farthest point to norm 1.

    A cloud whose points all coincide becomes all zeros. Coordinates far from the origin or of any
    finite size are safe. Differentiable, except at clouds of coinciding points.

    Args:
        points: `(B, N, 3)` floating point, any frame.

    Returns:
        `(B, N, 3)` of the same type, in the unit sphere.
    """
    # Relative to the first point, coinciding points are exactly zero: their mean leaves no rounding
    # residue that the scale would blow up, and a cloud far from the origin keeps its digits.
    offset = points - points[:, :1]
    offset = offset - offset.mean(dim=1, keepdim=True)
    # The largest coordinate comes out first, so that squares neither overflow nor vanish.
    size = offset.detach().abs().amax(dim=(1, 2), keepdim=True)
    offset = offset / torch.where(size > 0, size, 1)
    radius = torch.linalg.vector_norm(offset, dim=2, keepdim=True).amax(dim=1, keepdim=True)
    return offset / torch.where(radius > 0, radius, 1)


def rotation_matrix(angles: Tensor) -> Tensor:
    """Rotation matrices from Euler angles: about x first, then y, then z, the axes fixed in space.

    The matrix is `Rz @ Ry @ Rx`; positive angles turn counter-clockwise seen from the tip of the
    axis (right-handed). Differentiable.

    Args:
        angles: `(..., 3)` floating point, radians about x, y, z.

    Returns:
        `(..., 3, 3)` of the same type; `rotate` applies it.

    Raises:
        InputError: the last dimension is not 3.
    """
    if angles.ndim == 0 or angles.shape[-1] != 3:
        raise InputError("rotation_matrix", f"angles of shape {tuple(angles.shape)}", "(..., 3)")
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(-1), angles.sin().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def random_rotations(count: int, generator: torch.Generator, axis: str | None = "z") -> Tensor:
    """Random rotation matrices, uniform about one axis or uniform over all rotations.

    Args:
        count: how many.
        generator: the only source of randomness; the result lies on its device.
        axis: `"x"`, `"y"` or `"z"` for an angle uniform in `[0, 2 pi)` about that axis; None for
            SO(3), by normalised Gaussian quaternions (Shoemake, "Uniform random rotations", 1992).

    Returns:
        `(count, 3, 3)` float32.

    Raises:
        InputError: unknown axis or negative count.
    """
    if count < 0:
        raise InputError("random_rotations", f"count {count}", "0 or more")
    if axis is None:
        return _from_quaternions(torch.randn(count, 4, generator=generator, device=generator.device))
    if len(axis) != 1 or axis not in AXES:
        raise InputError("random_rotations", f"axis '{axis}'", "x, y, z or None")
    turns = torch.rand(count, generator=generator, device=generator.device)
    angles = torch.zeros(count, 3, device=generator.device)
    angles[:, AXES.index(axis)] = 2 * math.pi * turns
    return rotation_matrix(angles)


def rotate(points: Tensor, matrices: Tensor) -> Tensor:
    """Apply a rotation `R` to every point `p`: `R p`. Differentiable in both.

    Args:
        points: `(B, N, 3)`.
        matrices: `(B, 3, 3)`, one per cloud, or `(3, 3)`, one for all.

    Returns:
        `(B, N, 3)`.
    """
    return points @ matrices.transpose(-1, -2)


def _from_quaternions(quaternions: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)

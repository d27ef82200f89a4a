"""What of a cloud is seen from one side."""

import torch
from torch import Tensor

CROWD = 2.25  # points of a cloud for each cell of the picture, on average
SLACK = 2.5  # cells that a point may lie behind the nearest one around it: surfaces slope


def in_sight(points: Tensor, frames: Tensor) -> Tensor:
    """Which points of every cloud are seen from far away along an axis.

    A depth buffer (Catmull, "A subdivision algorithm for computer display of curved surfaces", 1974): clouds are
    projected into a picture with as many cells as suit their number of points, and those are seen that are about as
    near as the nearest one in their cell or the eight around it. Coarser than `corruptions.visible`, and much faster.

    Args:
        points: `(B, N, 3)`.
        frames: `(B, 3, 3)` rotations: their rows are the axis towards the eye, and those of the picture.

    Returns:
        `(B, N)` bool, at least one of every cloud.
    """
    side = max(1, round((points.shape[1] / CROWD) ** 0.5))
    height, *plane = (points @ frames.to(points).transpose(1, 2)).unbind(2)
    picture = torch.stack(plane, 2)
    low, high = picture.amin(1, keepdim=True), picture.amax(1, keepdim=True)
    width = ((high - low) / side).amax(2, keepdim=True)
    cells = ((picture - low) / width.clamp_min(1e-12)).long().clamp(0, side - 1)
    place = cells[..., 0] * side + cells[..., 1]
    buffer = torch.full((len(points), side**2), -torch.inf, dtype=points.dtype, device=points.device)
    buffer = buffer.scatter_reduce(1, place, height, "amax").view(-1, 1, side, side)
    nearest = torch.nn.functional.max_pool2d(buffer, 3, 1, 1).flatten(1).gather(1, place)
    seen: Tensor = ~(height < nearest - SLACK * width[..., 0])
    return seen

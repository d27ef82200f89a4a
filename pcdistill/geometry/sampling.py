"""Fewer points from a cloud: farthest point sampling and gathering by index."""

import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError

# Points worked on at once: on a processor, few enough that all buffers stay in the second-level cache.
CPU_POINTS = 2**16
ACCELERATOR_POINTS = 2**24


def farthest_points(points: Tensor, count: int) -> Tensor:
    """`(B, count, 3)`: a well-spread subset of every cloud `(B, N, 3)`, see `farthest_point_sample`; differentiable."""
    return gather_points(points, farthest_point_sample(points, count))


def thinned(clouds: PointClouds, points: int | None) -> PointClouds:
    """The same clouds with the points that `farthest_points` keeps of each; None keeps all."""
    return clouds if points is None else clouds.at_points(farthest_point_sample(clouds.points, points))


def farthest_point_sample(points: Tensor, count: int, start: Tensor | None = None) -> Tensor:
    """Indices of a well-spread subset of every cloud: each next point is the farthest from those chosen.

    Deterministic: without `start` the first point is the one farthest from the cloud's mean, and
    ties go to the lowest index. No point is chosen twice, even among coinciding ones, and the first
    k of `count` indices are the sample of k points. Greedy 2-approximation of the k-centre problem
    (Gonzalez 1985; Eldar et al., "The farthest point strategy for progressive image sampling", 1997).

    Args:
        points: `(B, N, 3)` floating point, any frame.
        count: points to choose per cloud, 1 to N.
        start: `(B,)` int64, the first point of every cloud.

    Returns:
        `(B, count)` int64, in order of choice; not differentiable.

    Raises:
        InputError: `count` below 1 or above N, or `start` out of range.
    """
    clouds, size = points.shape[:2]
    if not 1 <= count <= size:
        raise InputError("farthest_point_sample", f"count {count}", f"1 to {size}, the points of a cloud")
    if start is not None and (start.shape != (clouds,) or bool(((start < 0) | (start >= size)).any())):
        expected = f"one index in 0..{size - 1} for each of {clouds} clouds"
        raise InputError("farthest_point_sample", f"start {start}", expected)
    values = points.detach()
    if values.dtype not in (torch.float32, torch.float64):
        values = values.float()
    if torch.compiler.is_exporting():
        return _traced(values, count)
    step = max(1, (CPU_POINTS if values.device.type == "cpu" else ACCELERATOR_POINTS) // size)
    chosen = torch.empty(clouds, count, dtype=torch.int64, device=values.device)
    for first in range(0, clouds, step):
        part = slice(first, first + step)
        _sample(values[part], chosen[part], None if start is None else start[part])
    return chosen


def gather_points(points: Tensor, index: Tensor) -> Tensor:
    """The points (or features) at `index`, cloud by cloud. Differentiable in `points`.

    Args:
        points: `(B, N, C)`.
        index: `(B, ...)` int64 in `[0, N)`, such as `(B, k)` of a sample or `(B, M, k)` of neighbours.

    Returns:
        `(B, ..., C)`.
    """
    clouds, size, channels = points.shape
    offset = torch.arange(clouds, device=index.device).view(-1, *[1] * (index.ndim - 1)) * size
    return points.reshape(-1, channels)[index + offset]


def _sample(points: Tensor, chosen: Tensor, start: Tensor | None) -> None:
    """Fill `chosen` `(B, count)` for the clouds `(B, N, 3)`, one pass over the points per choice."""
    planes = points.permute(2, 0, 1).contiguous()
    if start is None:
        distance = (planes - planes.mean(dim=2, keepdim=True)).square().sum(dim=0)
        latest = _first_largest(distance)
    else:
        distance, latest = torch.empty_like(planes[0]), start[:, None]
    square = torch.empty_like(distance)
    nearest = torch.full_like(distance, torch.inf)
    for turn in range(chosen.shape[1]):
        chosen[:, turn : turn + 1] = latest
        at = planes.gather(2, latest.expand(3, -1, 1))
        torch.sub(planes[0], at[0], out=distance).square_()
        for axis in (1, 2):
            distance += torch.sub(planes[axis], at[axis], out=square).square_()
        torch.minimum(nearest, distance, out=nearest)
        nearest.scatter_(1, latest, -1.0)  # below any distance: never again
        latest = _first_largest(nearest)


def _traced(points: Tensor, count: int) -> Tensor:
    """The sample of `_sample` as one operation that an export can follow, of any number of clouds."""
    from torch._higher_order_ops.scan import scan  # slow to import, and of exports only

    planes = points.permute(2, 0, 1)
    first = (planes - planes.mean(dim=2, keepdim=True)).square().sum(dim=0).argmax(dim=1, keepdim=True)

    def choose(state: list[Tensor], _: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        nearest, latest = state
        distance = (planes - planes.gather(2, latest[None].expand(3, -1, 1))).square().sum(dim=0)
        nearest = torch.minimum(nearest, distance).scatter(1, latest, -1.0)
        return [nearest, nearest.argmax(dim=1, keepdim=True)], [latest.clone()]

    _, (chosen,) = scan(choose, [torch.full_like(planes[0], torch.inf), first], [torch.arange(count)])
    index: Tensor = chosen[:, :, 0].T
    return index


def _first_largest(values: Tensor) -> Tensor:
    """`(B, 1)` index of the largest value of each row, the lowest of equals."""
    # NumPy's search is vectorised, several times as fast as PyTorch's.
    if values.device.type == "cpu":
        return torch.from_numpy(values.numpy().argmax(axis=1, keepdims=True))
    return values.argmax(dim=1, keepdim=True)

"""Which point of a cloud stands for which of another: the assignment of least distance."""

import torch
from torch import Tensor

from pcdistill.core.errors import InputError


def assign(points: Tensor, reference: Tensor) -> Tensor:
    """The order of every cloud's points in which they are nearest, one to one, to those of the reference.

    Minimises `sum_j |p_(index j) - r_j|` over all orders (Kuhn, "The Hungarian method for the assignment problem",
    1955; by SciPy, in O(N^3) at worst): the earth mover's distance of two clouds of equal size. Deterministic.

    Args:
        points: `(B, N, 3)`.
        reference: `(N, 3)`, one for all, or `(B, N, 3)`.

    Returns:
        `(B, N)` int64, each row an order of 0 .. N-1; `gather_points` applies it. Not differentiable.

    Raises:
        InputError: shapes that do not fit.
    """
    if points.ndim != 3 or reference.shape not in (points.shape, points.shape[1:]):
        found = f"sets of shape {tuple(points.shape)} and {tuple(reference.shape)}"
        raise InputError("assign", found, "(B, N, 3) and (N, 3) or (B, N, 3)")
    # Not at the top: it takes longer to load than most commands to run.
    from scipy.optimize import linear_sum_assignment

    costs = torch.cdist(
        reference.detach().cpu().double().expand_as(points),
        points.detach().cpu().double(),
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    rows = [torch.from_numpy(linear_sum_assignment(cost.numpy())[1]) for cost in costs]
    return torch.stack(rows).to(points.device)

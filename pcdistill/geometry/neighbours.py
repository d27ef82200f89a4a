"""Nearest neighbours between clouds, and the Chamfer distance made of them."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry.sampling import gather_points

# Entries of a block of the distance matrix: bounds memory, and keeps a block in the processor's cache.
CPU_BLOCK = 2**18
ACCELERATOR_BLOCK = 2**26
WIDE = 16  # channels from which on a matrix product is used


def knn(query: Tensor, reference: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest reference points of every query point.

    Distances come from coordinate differences, not from the expanded square, so that near ties are
    decided rightly; from 16 channels on, the k are found by the expanded square about the reference's mean, and
    near ties at the k-th place may fall either way. Memory does not grow with M x N. The distances are
    differentiable to any order, the neighbours held fixed. The choice depends on the input alone; among
    equally near points the lower index comes first, and for k = 1 the lowest index is the one chosen.

    Args:
        query: `(B, M, 3)`, or any number of channels.
        reference: `(B, N, 3)`, the same number of channels.
        k: neighbours, 1 to N. A point that is in both sets is its own first neighbour.

    Returns:
        Squared distances `(B, M, k)` ascending, and indices into the reference `(B, M, k)` int64.

    Raises:
        InputError: shapes that do not fit, or k out of range.
    """
    index = _checked("knn", query, reference, k, _nearest)
    distance = (query[:, :, None] - gather_points(reference, index)).square().sum(dim=-1)
    if k > 1 and query.shape[2] >= WIDE:
        order = distance.detach().sort(dim=-1, stable=True).indices
        distance, index = distance.gather(-1, order), index.gather(-1, order)
    return distance, index


def nearest_indices(query: Tensor, reference: Tensor, k: int) -> Tensor:
    """The indices of `knn` alone, in no particular order, as networks want them: a third of the time."""
    if not torch.compiler.is_exporting() and k == reference.shape[1]:
        return torch.arange(k, device=query.device).expand(*query.shape[:2], k)
    return _checked("knn", query, reference, k, _some_nearest)


def ball_query(query: Tensor, reference: Tensor, radius: float, k: int) -> Tensor:
    """Up to k reference points within a radius of every query point, nearest first, filled up with the nearest.

    As in PointNet++ (Qi et al. 2017), but of more than k points the k nearest are taken, not the first k
    found: the choice does not depend on the order of the points. The fill repeats the nearest point,
    which is there even if it is farther than the radius. Among equally near points the lower index comes first.

    Args:
        query: `(B, M, 3)`, or any number of channels.
        reference: `(B, N, 3)`, the same number of channels.
        radius: in the units of the coordinates; a point at exactly this distance is within.
        k: neighbours, 1 to N.

    Returns:
        Indices into the reference `(B, M, k)` int64: distinct ones first, then repetitions of the first.

    Raises:
        InputError: shapes that do not fit, k out of range, or a radius that is not positive.
    """
    if not radius > 0:
        raise InputError("ball_query", f"radius {radius}", "a positive number")
    return _checked("ball_query", query, reference, k, partial(_within, radius=radius))


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Symmetric squared Chamfer distance of paired clouds.

    `mean_i min_j |a_i - b_j|^2 + mean_j min_i |a_i - b_j|^2`: squared Euclidean distances, averaged
    over the points, the two directions added (Fan et al., "A point set generation network", 2017,
    up to the averages). Zero exactly when both hold the same set of points. Twice differentiable.

    Args:
        a: `(B, N, 3)`.
        b: `(B, M, 3)`.

    Returns:
        `(B,)`, squared units of the coordinates.

    Raises:
        InputError: shapes that do not fit.
    """
    forth, _ = knn(a, b, 1)
    back, _ = knn(b, a, 1)
    return forth.mean(dim=(1, 2)) + back.mean(dim=(1, 2))


def chamfer_matrix(a: Tensor, b: Tensor) -> Tensor:
    """`chamfer` of every cloud of one set with every cloud of another, to search by: several times as fast.

    Squared distances come from one matrix product per block, about the mean of `b`, and so are rounded as large
    numbers are: a value is off by some 1e-6 for float32 clouds in the unit sphere, and copies need not have 0. What
    is found this way is best measured again by `chamfer`. Memory does not grow with S x R x P x Q.

    Args:
        a: `(S, P, 3)`.
        b: `(R, Q, 3)`.

    Returns:
        `(S, R)`, squared units of the coordinates, 0 or more; not differentiable.

    Raises:
        InputError: shapes that do not fit.
    """
    if a.ndim != 3 or b.ndim != 3 or a.shape[2] != 3 or b.shape[2] != 3 or not a.numel() * b.numel():
        found = f"sets of shape {tuple(a.shape)} and {tuple(b.shape)}"
        raise InputError("chamfer_matrix", found, "(S, P, 3) and (R, Q, 3), none of them empty")
    a, b = a.detach(), b.detach()
    centre = b.mean(dim=(0, 1))
    # |p - q|^2 as one product: (p, |p|^2, 1) . (-2q, 1, |q|^2).
    left, right = a - centre, b - centre
    squares, ones = left.square().sum(-1, keepdim=True), torch.ones_like(left[..., :1])
    left = torch.cat([left, squares, ones], dim=-1)
    squares, ones = right.square().sum(-1, keepdim=True), torch.ones_like(right[..., :1])
    right = torch.cat([-2 * right, ones, squares], dim=-1)
    size, columns = a.shape[1], b.shape[1]
    block = CPU_BLOCK if a.device.type == "cpu" else ACCELERATOR_BLOCK
    height = max(1, min(size, block // columns))
    depth = max(1, block // (height * columns))
    result = a.new_empty(len(a), len(b))
    for row, cloud in enumerate(left):
        for first in range(0, len(b), depth):
            some = right[first : first + depth]
            result[row, first : first + depth] = _chamfers(cloud, some, height)
    return result


def _chamfers(cloud: Tensor, others: Tensor, height: int) -> Tensor:
    """Chamfer distances `(r,)` of one cloud `(P, 5)` to others `(r, Q, 5)`, `height` of its points at once."""
    forth = cloud.new_zeros(len(others))
    back = cloud.new_full(others.shape[:2], torch.inf)
    columns = others.reshape(-1, 5).T
    for points in cloud.split(height):
        squares = (points @ columns).view(len(points), *others.shape[:2])
        forth += squares.amin(dim=2).clamp_(min=0).sum(dim=0)
        torch.minimum(back, squares.amin(dim=0), out=back)
    return forth / len(cloud) + back.clamp_(min=0).mean(dim=1)


def _checked(place: str, query: Tensor, reference: Tensor, k: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    if torch.compiler.is_exporting():  # of any number of clouds and points: neither checks nor blocks by them
        query, reference, measure = _measured(query, reference)
        return choose(measure(query, reference), k)
    if query.ndim != 3 or reference.ndim != 3 or query[:, 0].shape != reference[:, 0].shape:
        found = f"sets of shape {tuple(query.shape)} and {tuple(reference.shape)}"
        raise InputError(place, found, "(B, M, 3) and (B, N, 3)")
    if not 1 <= k <= reference.shape[1]:
        raise InputError(place, f"k {k}", f"1 to {reference.shape[1]}, the reference points")
    return _search(query.detach(), reference.detach(), k, choose)


def _search(query: Tensor, reference: Tensor, k: int, choose: Callable[[Tensor, int], Tensor]) -> Tensor:
    query, reference, measure = _measured(query, reference)
    clouds, rows = query.shape[:2]
    columns = reference.shape[1]
    block = CPU_BLOCK if query.device.type == "cpu" else ACCELERATOR_BLOCK
    height = max(1, min(rows, block // columns))
    depth = max(1, block // (height * columns))
    index = torch.empty(clouds, rows, k, dtype=torch.int64, device=query.device)
    for cloud in range(0, clouds, depth):
        deep = slice(cloud, cloud + depth)
        for row in range(0, rows, height):
            high = slice(row, row + height)
            index[deep, high] = choose(measure(query[deep, high], reference[deep]), k)
    return index


def _measured(query: Tensor, reference: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor, Tensor], Tensor]]:
    """Both sets as they are measured, and how."""
    if query.shape[2] < WIDE:
        return query, reference, _distances
    centre = reference.mean(dim=1, keepdim=True)
    return query - centre, reference - centre, _relative_distances


def _distances(query: Tensor, reference: Tensor) -> Tensor:
    """Squared distances `(b, m, N)`, summed plane by plane: no `(b, m, N, 3)` is ever made."""
    total = query.new_zeros(query.shape[0], query.shape[1], reference.shape[1])  # len() would fix it in an export
    for q, r in zip(query.unbind(-1), reference.unbind(-1), strict=True):
        total += (q[:, :, None] - r[:, None, :]).square_()
    return total


def _relative_distances(query: Tensor, reference: Tensor) -> Tensor:
    """Squared distances `(b, m, N)` less the square of the query, which orders them as well: one matrix product."""
    return torch.baddbmm(reference.square().sum(-1)[:, None], query, reference.transpose(1, 2), alpha=-2)


def _some_nearest(distances: Tensor, k: int) -> Tensor:
    # NumPy's partition is vectorised, torch's topk on the CPU is not: a third of the time.
    if distances.device.type == "cpu" and not torch.compiler.is_exporting():
        return torch.from_numpy(distances.numpy().argpartition(k - 1, axis=-1)[..., :k])
    return distances.topk(k, largest=False, sorted=False).indices


def _nearest(distances: Tensor, k: int) -> Tensor:
    if k == 1:
        return distances.argmin(dim=-1, keepdim=True)
    if torch.compiler.is_exporting():  # what carries the file out puts equals in order
        return distances.topk(k, largest=False).indices
    index = distances.topk(k, largest=False).indices.sort(dim=-1).values
    order = distances.gather(-1, index).sort(dim=-1, stable=True).indices
    return index.gather(-1, order)


def _within(distances: Tensor, k: int, radius: float) -> Tensor:
    most = k
    if not torch.compiler.is_exporting():  # no more than needed; what is traced cannot depend on the values
        most = min(k, max(1, int((distances <= radius**2).sum(dim=-1).max())))
    index = _nearest(distances, most)
    index = index.where(distances.gather(-1, index) <= radius**2, index[..., :1])
    return torch.cat([index, index[..., :1].expand(-1, -1, k - most)], dim=-1)

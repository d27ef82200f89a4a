"""Neighbourhoods of points, and layers over them: what networks whose points see one another are built of.

**Centres.** Farthest point sampling orders a cloud once. The first points of that order are the centres of the first
stage, the first of these the centres of the next, which is what sampling the centres again from the same start would
give. Their number keeps the published proportion to 1024 points: behind strides of 2 and 4 there are 512 and
128 centres of 1024 points or more, and `max(1, N // 2)`, `max(1, N // 2 // 4)` of fewer.

**Radii** are the published ones for 1024 points or more. On a surface the number of points in a ball is in proportion
to their number and to the radius squared: of fewer points radii grow by `sqrt(1024 / N)`, so that balls hold as many.
With published radii PointNet++ learns little from clouds of 128 points (docs/notebook/10-networks-and-evaluation.md).

**Neighbours.** Published code fills groups up to k with copies of a point, which a max-pool does not see. We leave the
copies out, and the layers take so much less time where balls are not full.
In evaluation the result is the same. In training, batch norm counts every neighbour once, where published code counts
the copies as well; so its statistics depend less on the number of points.

**The first layer** is linear in `[neighbour - centre, features of the neighbour]`: a term of the neighbour plus one of
the centre. Both are made, and normalised, before anything is gathered.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from pcdistill.geometry import ball_query, farthest_point_sample, gather_points
from pcdistill.models.layers.fused import linear_norm_relu, occurrences
from pcdistill.models.layers.shared import PointNorm, SharedLayer
from pcdistill.models.layers.slots import LinearNormSlotMax, SlotMax, SumReLU, extreme_slots

PUBLISHED_POINTS = 1024


def centre_counts(points: int, strides: Sequence[int]) -> list[int]:
    """Centres of every stage for a cloud of so many points; `strides` are each relative to the stage before.

    >>> centre_counts(1024, (2, 4)), centre_counts(2048, (2, 4)), centre_counts(100, (2, 4)), centre_counts(1, (2, 4))
    ([512, 128], [512, 128], [50, 12], [1, 1])
    """
    counts, left = [], min(points, PUBLISHED_POINTS)
    for stride in strides:
        left = max(1, left // stride)
        counts.append(left)
    return counts


def reach(points: int) -> float:
    """Factor of published radii for clouds of so many points.

    >>> reach(2048), reach(256)
    (1.0, 2.0)
    """
    return float((PUBLISHED_POINTS / min(points, PUBLISHED_POINTS)) ** 0.5)


def centres_first(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices `(B, count)` of the farthest point sample, in order of choice, and these points `(B, count, 3)`."""
    index = farthest_point_sample(points, count)
    return index, gather_points(points, index)


class Groups(NamedTuple):
    """Neighbours of G = B M centres as R rows, slot by slot: the first neighbours of all groups, then the second ...

    Groups stand in descending order of their numbers of neighbours, so that those that have a row in a slot
    are the first ones.
    """

    padded: Tensor  # (G, k) int64 into the B * N reference points, each group filled up with its first
    filled: Tensor  # (G, k) bool: what only fills up
    order: Tensor  # (G,) int64, groups as they stand in rows
    neighbours: Tensor  # (R,) int64 into the B * N reference points
    sizes: tuple[int, ...]  # rows of every slot; their sum is R

    def rows_of_slots(self) -> Tensor:
        """`(k, G)` int64: where the neighbours of every group stand in the rows; a fill is the first again."""
        first = torch.arange(self.sizes[0], device=self.order.device)
        places, start = [], 0
        for size in self.sizes:
            places.append(torch.cat([first[:size] + start, first[size:]]))
            start += size
        return torch.stack(places)

    def restore(self, values: Tensor, clouds: int) -> Tensor:
        """`(G, F)` as they stand in rows to `(B, M, F)`."""
        inverse = torch.empty_like(self.order).scatter_(
            0, self.order, torch.arange(values.shape[0], device=values.device)
        )
        return values[inverse].view(clouds, -1, values.shape[1])


def groups_of(index: Tensor, size: int) -> Groups:
    """Groups of neighbours `(B, M, k)` among `size` points per cloud; a repetition of the first is a fill."""
    clouds, _, k = index.shape
    offset = torch.arange(clouds, device=index.device)[:, None, None] * size
    flat = (index + offset).view(-1, k)
    groups = flat.shape[0]  # len() would fix it in an export
    order = torch.arange(groups, device=index.device)
    if torch.compiler.is_exporting():  # shapes cannot depend on values: the fill stays
        return Groups(flat, torch.zeros_like(flat, dtype=torch.bool), order, flat.T.reshape(-1), (groups,) * k)
    filled = flat == flat[:, :1]
    filled[:, 0] = False
    counts = k - filled.sum(1)
    most = int(counts.max())
    if int(counts.min()) < most:
        order = counts.argsort(descending=True, stable=True)
    held = ~filled[order, :most].T
    neighbours = flat[order, :most].T[held]
    return Groups(flat[:, :most], filled[:, :most], order, neighbours, tuple(held.sum(1).tolist()))


def neighbour_sums(values: Tensor, groups: Groups, training: bool) -> Tensor:
    """Sum of `(B, N, C)` values over the neighbours of every centre: `(G, C)`. In training differentiable once."""
    flat = values.reshape(-1, values.shape[-1])
    weights = (~groups.filled).to(values.dtype)
    if training:  # the one gather-and-sum that torch fuses, but not its second derivative
        return nn.functional.embedding_bag(groups.padded, flat, per_sample_weights=weights, mode="sum")
    return (flat[groups.padded] * weights[..., None]).sum(1)


def edge_layer(norm: PointNorm, inputs: Tensor, weight: Tensor, targets: Tensor, groups: Groups) -> Tensor:
    """`relu(norm(inputs of the neighbour @ weight.T + targets of the centre))` as rows `(R, F)`.

    Args:
        norm: batch norm.
        inputs: `(B, N, K)`.
        weight: `(F, K)`.
        targets: `(B, M, F)`.
        groups: of M centres among N points.
    """
    sources = (inputs @ weight.T).flatten(0, 1)
    targets = targets.flatten(0, 1)
    if not norm.training:
        factor, shift = norm.affine()
        sources, targets = sources * factor, (targets * factor + shift)[groups.order]
        added = torch.cat([targets[:size] for size in groups.sizes])
        return (sources[groups.neighbours] + added).relu()
    # Mean and variance over all pairs out of sums over points and centres. Both are centred first, for precision.
    pairs = len(groups.neighbours)
    uses = occurrences(groups.neighbours, len(sources)).to(sources.dtype)
    counts = (~groups.filled).sum(1).to(sources.dtype)
    source_mean, target_mean = uses @ sources / pairs, counts @ targets / pairs
    sums = torch.addmm(torch.outer(counts, source_mean), neighbour_sums(inputs, groups, True), weight.T, beta=-1)
    sources, targets = sources - source_mean, targets - target_mean
    squares = uses @ sources.square() + counts @ targets.square() + 2 * (targets * sums).sum(0)
    variance = (squares / pairs).clamp_min(0)
    with torch.no_grad():
        norm.update(source_mean + target_mean, variance, pairs)
    factor = norm.scale / (variance + norm.eps).sqrt()
    targets = (targets * factor + norm.bias)[groups.order]
    rows: Tensor = SumReLU.apply(  # type: ignore[no-untyped-call]
        sources * factor, targets, groups.neighbours, groups.sizes
    )
    return rows


def residual_layer(layer: SharedLayer, values: Tensor, residual: Tensor) -> Tensor:
    """`relu(layer without its ReLU + residual)`, in one operation where batch norm is being trained."""
    if not layer.training:
        return (layer.normed(values) + residual).relu()
    norm, rows = layer.norm, values.reshape(-1, values.shape[-1])
    out, mean, variance = linear_norm_relu(
        rows, layer.linear.weight, norm.scale, norm.bias, norm.eps, residual.reshape(len(rows), -1)
    )
    with torch.no_grad():
        norm.update(mean, variance, len(rows))
    return out.view(residual.shape)


def group_max(rows: Tensor, groups: Groups, training: bool) -> Tensor:
    """Max over the rows `(R, F)` of every group: `(G, F)`, as groups stand in rows. In training differentiable once."""
    if training or not (torch.is_grad_enabled() or torch.compiler.is_exporting()):
        best: Tensor = SlotMax.apply(rows, groups.sizes)  # type: ignore[no-untyped-call]
        return best
    return rows[groups.rows_of_slots()].amax(0)


def layer_max(layer: SharedLayer, rows: Tensor, groups: Groups) -> Tensor:
    """`layer` (with batch norm) without its ReLU on rows `(R, K)`, then the max over every group: `(G, F)`."""
    norm, weight = layer.norm, layer.linear.weight
    if layer.training:
        pooled, mean, variance = LinearNormSlotMax.apply(  # type: ignore[no-untyped-call]
            rows, weight, norm.scale, norm.bias, norm.eps, groups.sizes
        )
        with torch.no_grad():
            norm.update(mean, variance, len(rows))
        fused: Tensor = pooled
        return fused
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        return group_max(layer.normed(rows), groups, False)
    factor, shift = norm.affine()
    extremes, _ = extreme_slots(rows, weight, torch.where(factor >= 0, 1.0, -1.0).to(rows.dtype), groups.sizes)
    return extremes * factor + shift


class SetAbstraction(nn.Module):
    """Points around centres to a feature of every centre (PointNet++, Qi et al. 2017, section 3.2).

    Shared layers on `[coordinates relative to the centre, features]` of up to k neighbours in a ball, then
    their maximum, without a last ReLU.

    Args:
        inputs: features per point (beside the coordinates).
        widths: of the shared layers, at least two.
        radius, k: of the ball query; k is clipped to the points there are.
        unit: divide relative coordinates by the radius (PointNeXt).
    """

    def __init__(self, inputs: int, widths: Sequence[int], radius: float, k: int, unit: bool = False) -> None:
        super().__init__()
        self.radius, self.k = radius, k
        self.unit = unit
        sizes = [3 + inputs, *widths]
        self.layers = nn.ModuleList(SharedLayer(sizes[i], sizes[i + 1], "batch") for i in range(len(widths)))

    def forward(self, points: Tensor, features: Tensor | None, centres: Tensor, factor: float) -> Tensor:
        """`(B, N, 3)` points, `(B, N, inputs)` features, `(B, M, 3)` centres to `(B, M, widths[-1])`.

        `factor` is that of the radius (`reach`).
        """
        clouds, size = points.shape[:2]
        length = factor * self.radius if self.unit else 1.0
        groups = groups_of(ball_query(centres, points, factor * self.radius, min(self.k, size)), size)
        first, *middle, last = cast(list[SharedLayer], list(self.layers))
        weight = first.linear.weight
        scaled = points / length
        inputs = scaled if features is None else torch.cat([scaled, features], -1)
        rows = edge_layer(first.norm, inputs, weight, centres / -length @ weight[:, :3].T, groups)
        for layer in middle:
            rows = layer.fused(rows)
        return groups.restore(layer_max(last, rows, groups), clouds)

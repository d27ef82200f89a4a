"""DGCNN (Wang, Sun, Liu, Sarma, Bronstein, Solomon, ACM TOG 2019), with edges that cost as much as points.

The linear layer of an edge `[x_i ; x_j - x_i]` is `(W1 - W2) x_i + W2 x_j`: two products per point instead of one
per edge. Batch norm needs the mean and covariance of `[x_i ; x_j]` over edges only, which follow from the sums over
every point's neighbours. Folded into the weights it leaves a sum of two terms and a function that grows with it,
whatever the sign of its scale, so that the max over neighbours is that of the second term. Results equal those of
edge by edge layers up to rounding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcdistill.geometry import nearest_indices
from pcdistill.models.base import Network, networks
from pcdistill.models.layers.fused import CACHED_ELEMENTS, LinearNormPool, bf16_available, occurrences
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import PointNorm, SharedLayer

SLOPE = 0.2
DEVICE_ELEMENTS = 2**28  # values of neighbours laid out at once on a device


class EdgeConv(nn.Module):
    """`max over neighbours j of leaky_relu(batch_norm(W [x_i ; x_j - x_i]))`, `(B, N, C)` to `(B, N, F)`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * inputs, outputs, bias=False)
        self.norm = PointNorm("batch", outputs)

    def forward(self, points: Tensor, index: Tensor) -> Tensor:
        """`index` `(B, N, k)` int64 are the neighbours."""
        clouds, size = points.shape[:2]
        rows, flat = points.flatten(0, 1), _flat(index)
        centre, difference = self.linear.weight.chunk(2, dim=1)
        weight = torch.cat([centre - difference, difference], dim=1)  # of [x_i ; x_j]
        if self.training:
            factor, shift = self._trained(rows, flat, weight)
        else:
            factor, shift = self.norm.affine()
        own, near = (weight * factor[:, None]).chunk(2, dim=1)
        values = rows @ near.T
        if torch.compiler.is_exporting():
            values = values[flat].amax(1)
        else:
            values = values.gather(0, largest_neighbours(values.detach(), flat))
        values = nn.functional.leaky_relu(torch.addmm(shift, rows, own.T) + values, SLOPE)
        return values.view(clouds, size, -1)

    def _trained(self, rows: Tensor, flat: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Factor and shift of batch norm over all edges; moves the running statistics."""
        centre, covariance = edge_moments(rows, flat)
        mean, variance = weight @ centre, ((weight @ covariance) * weight).sum(1).clamp_min(0)
        with torch.no_grad():
            self.norm.update(mean, variance, flat.numel())
        factor = self.norm.scale / (variance + self.norm.eps).sqrt()
        return factor, self.norm.bias - factor * mean


def edge_moments(rows: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `(2C,)` and biased covariance `(2C, 2C)` of `[x_i ; x_j]` over edges, once differentiable.

    Args:
        rows: `(M, C)` points.
        flat: `(M, k)` int64, rows that are neighbours of each.
    """
    # About the mean, so that no digits are lost; the covariance does not depend on what it is taken about.
    origin = rows.detach().mean(0)
    rows = rows - origin
    uses = occurrences(flat.flatten(), len(rows)).to(rows.dtype) / flat.shape[1]
    near: Tensor = NeighbourMean.apply(rows, flat, uses)  # type: ignore[no-untyped-call]
    own_own, own_near, near_near = (rows.T @ torch.cat([rows, near, rows * uses[:, None]], 1) / len(rows)).chunk(3, 1)
    centre = torch.cat([rows.mean(0), near.mean(0)])
    second = torch.cat([torch.cat([own_own, own_near], 1), torch.cat([own_near.T, near_near], 1)])
    return centre + torch.cat([origin, origin]), second - torch.outer(centre, centre)


class NeighbourMean(torch.autograd.Function):
    """Means `(M, C)` of the rows `(M, C)` that `flat` `(M, k)` lists; `uses` `(M,)`: how often each is listed, by k."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, flat: Tensor, uses: Tensor) -> Tensor:
        ctx.save_for_backward(flat, uses)
        return nn.functional.embedding_bag(flat, rows, mode="sum") / flat.shape[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        flat, uses = ctx.saved_tensors
        count = flat.shape[1]
        users = flat.flatten().argsort().div_(count, rounding_mode="floor")
        ends = (uses * count).round().long().cumsum(0)
        starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        sums = nn.functional.embedding_bag(users, gradients[0].contiguous(), starts, mode="sum")
        return sums / count, None, None


@torch.no_grad()
def largest_neighbours(values: Tensor, flat: Tensor) -> Tensor:
    """For each of `(M, F)` entries the row `(M, F)` int64 that holds the largest value among the row's neighbours.

    The first one listed in `flat` `(M, k)` of equal ones. Written with comparisons that give numbers, products and
    maxima, which torch vectorises on a processor; choices by a mask take 20 times as long. On a device that would be
    many small operations: there the values of all neighbours are laid out.
    """
    if values.device.type != "cpu":
        parts = flat.split(max(1, DEVICE_ELEMENTS // (values.shape[1] * flat.shape[1])))
        return torch.cat([part.gather(1, values[part].argmax(1)) for part in parts])
    found = torch.empty(values.shape, dtype=torch.int64, device=values.device)
    step = max(1, CACHED_ELEMENTS // values.shape[1])
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        largest = values.index_select(0, part[:, 0])
        rank, larger = torch.zeros_like(largest), torch.empty_like(largest)
        for number in range(1, part.shape[1]):
            value = values.index_select(0, part[:, number])
            torch.gt(value, largest, out=larger)  # 0 or 1: what is larger than all before has the highest number
            torch.maximum(rank, larger.mul_(number), out=rank)
            torch.maximum(largest, value, out=largest)
        found[start : start + step] = part.gather(1, rank.long())
    return found


def _flat(index: Tensor) -> Tensor:
    """`(B, N, k)` numbers within clouds as `(B * N, k)` numbers of rows of all clouds."""
    clouds, size = index.shape[:2]
    return (index + torch.arange(clouds, device=index.device)[:, None, None] * size).view(clouds * size, -1)


class DGCNN(Network):
    """The paper's classifier: neighbours are found anew in the features of every layer.

    Of clouds with fewer points than k, all points are neighbours.

    Args:
        num_classes: number of logits.
        neighbours: k, the point itself among them.
        widths: of the edge convolutions.
        embedding: channels of the shared layer on all of their features; max and mean of it are the global feature.
        head: widths of the fully connected layers, dropout behind each.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        neighbours: int = 20,
        widths: Sequence[int] = (64, 64, 128, 256),
        embedding: int = 1024,
        head: Sequence[int] = (512, 256),
    ) -> None:
        super().__init__()
        self.neighbours = self.least_points = neighbours
        sizes = [3, *widths]
        self.edges = nn.ModuleList(EdgeConv(sizes[i], sizes[i + 1]) for i in range(len(widths)))
        self.embedding = SharedLayer(sum(widths), embedding, "batch", slope=SLOPE)
        self.head = classifier(2 * embedding, head, num_classes, slope=SLOPE)

    def point_features(self, points: Tensor) -> list[Tensor]:
        features = edge_features(self.edges, points, self.neighbours)
        return [*features, self.embedding(torch.cat(features, 2))]

    def pooled(self, points: Tensor) -> Tensor:
        hidden = torch.cat(edge_features(self.edges, points, self.neighbours), 2)
        if not self.training:
            values = self.embedding(hidden)
            return torch.cat([values.amax(1), values.mean(1)], 1)
        norm = self.embedding.norm
        largest, average, mean, variance = LinearNormPool.apply(  # type: ignore[no-untyped-call]
            hidden, self.embedding.linear.weight, norm.scale, norm.bias, norm.eps, SLOPE, self.bf16 and bf16_available()
        )
        with torch.no_grad():
            norm.update(mean, variance, hidden.shape[0] * hidden.shape[1])
        return torch.cat([largest, average], 1)


def edge_features(edges: nn.ModuleList, points: Tensor, neighbours: int) -> list[Tensor]:
    """Features `(B, N, F_l)` after each edge convolution, whose neighbours are found in the features before it."""
    features = []
    for layer in edges:
        points = layer(points, nearest_indices(points, points, min(neighbours, points.shape[1])))
        features.append(points)
    return features


@networks.register("dgcnn", cites=("wang2019dgcnn",))
def dgcnn(num_classes: int) -> Network:
    """DGCNN with k = 20 (1.8 M parameters)."""
    return DGCNN(num_classes)

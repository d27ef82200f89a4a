"""Point Transformer (Zhao, Jiang, Jia, Torr, Koltun, ICCV 2021): vector attention among neighbours."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcdistill.geometry import farthest_points, gather_points, nearest_indices
from pcdistill.models.base import Network, networks
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import PointNorm, SharedLayer

SHARED = 8  # channels that one attention weight is for


class Attention(nn.Module):
    """`sum over j of softmax_j(g(k_j - q_i + d_ij)) * (v_j + d_ij)`, with `d_ij` a function of the offset (eq. 3).

    As released, a weight is shared by 8 channels, and both small networks have batch norm.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.position = nn.Sequential(SharedLayer(3, 3, "batch"), nn.Linear(3, width))
        self.norm = PointNorm("batch", width)
        self.hidden = SharedLayer(width, width // SHARED, "batch")
        self.weights = nn.Linear(width // SHARED, width // SHARED)

    def forward(self, offsets: Tensor, features: Tensor, index: Tensor) -> Tensor:
        """`(B, N, C)` features to the same, with offsets `(B, N, k, 3)` to the neighbours `index` `(B, N, k)`."""
        position = self.position(offsets)
        key, value = gather_points(self.key_value(features), index).chunk(2, dim=3)
        relation = key - self.query(features)[:, :, None] + position
        weights = self.weights(self.hidden.fused(self.norm(relation).relu())).softmax(2)
        shared = (value + position).unflatten(3, (-1, SHARED)) * weights[..., None]
        summed: Tensor = shared.sum(2).flatten(2)
        return summed


class Block(nn.Module):
    """Attention between two linear layers, with a residual."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = SharedLayer(width, width, "batch")
        self.attention = Attention(width)
        self.norm = PointNorm("batch", width)
        self.last = SharedLayer(width, width, "batch", activate=False)

    def forward(self, offsets: Tensor, features: Tensor, index: Tensor) -> Tensor:
        values = self.norm(self.attention(offsets, self.first.fused(features), index)).relu()
        out: Tensor = (features + self.last(values)).relu()
        return out


def quarter(points: int) -> int:
    """Points that are left of a stage's, rounded up."""
    return -(-points // 4)


class PointTransformer(Network):
    """The paper's classifier with one attention block a stage, where the paper has up to six: an affordable one.

    Five stages of a quarter of the points each, rounded up, as in the paper: N points have N, N / 4, ..., N / 256. A
    stage begins with a max over the 16 nearest points of the one before; of fewer, all are taken. The mean over the
    last stage is the global feature.
    """

    gathers = True

    def __init__(
        self, num_classes: int, *, widths: Sequence[int] = (32, 64, 128, 256, 512), neighbours: int = 16
    ) -> None:
        super().__init__()
        self.neighbours = neighbours
        self.first = SharedLayer(3, widths[0], "batch")
        self.down = nn.ModuleList(
            SharedLayer(widths[i] + 3, widths[i + 1], "batch", activate=False) for i in range(len(widths) - 1)
        )
        self.blocks = nn.ModuleList(Block(width) for width in widths)
        self.head = classifier(widths[-1], (256, 128), num_classes)

    def point_features(self, points: Tensor) -> list[Tensor]:
        features, out = self.first.fused(points), []
        # Each prefix of a farthest point sample is one itself: all later stages are prefixes of the first sample.
        spread = farthest_points(points, quarter(points.shape[1]))
        for number, block in enumerate(self.blocks):
            if number:
                centres = spread[:, : quarter(points.shape[1])]
                points, features = centres, self._thinned(points, centres, features, self.down[number - 1])
            index = nearest_indices(points, points, min(self.neighbours, points.shape[1]))
            features = block(gather_points(points, index) - points[:, :, None], features, index)
            out.append(features)
        return out

    def pooled(self, points: Tensor) -> Tensor:
        return self.point_features(points)[-1].mean(1)

    def _thinned(self, points: Tensor, centres: Tensor, features: Tensor, layer: nn.Module) -> Tensor:
        """Features of the centres: the max over neighbours among the points of a layer on offset and features."""
        assert isinstance(layer, SharedLayer)
        index = nearest_indices(centres, points, min(self.neighbours, points.shape[1]))
        offsets = gather_points(points, index) - centres[:, :, None]
        edges = torch.cat([offsets, gather_points(features, index)], 3)
        pooled = layer.max_pool(edges.flatten(0, 1), False).relu()
        return pooled.view(points.shape[0], centres.shape[1], -1)


@networks.register("point-transformer", cites=("zhao2021pointtransformer",))
def point_transformer(num_classes: int) -> Network:
    """Point Transformer, one block a stage, k = 16 (2.2 M parameters)."""
    return PointTransformer(num_classes)

"""PointMLP (Ma, Qin, You, Ran, Fu, ICLR 2022): residual layers on nearest neighbours behind a geometric affine module.

Numbers of centres are those of `models.layers.grouping`. The geometric affine module divides the differences of
features by their root mean square over a cloud, as the paper has it (its first code takes that over the whole batch, so
that clouds see one another). Its shift, which the batch norm behind it takes out again, is left out, and so are biases
in front of batch norm.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcdistill.geometry import gather_points, knn
from pcdistill.models.base import Network, networks
from pcdistill.models.layers.fused import occurrences
from pcdistill.models.layers.grouping import (
    Groups,
    centre_counts,
    centres_first,
    edge_layer,
    group_max,
    groups_of,
    neighbour_sums,
    residual_layer,
)
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import SharedLayer

STRIDES = (2, 2, 2, 2)
NEIGHBOURS = 24


class Residual(nn.Module):
    """Two shared layers with a narrow one between, added to their input."""

    def __init__(self, width: int, bottleneck: float) -> None:
        super().__init__()
        self.narrow = SharedLayer(width, int(width * bottleneck), "batch")
        self.wide = SharedLayer(int(width * bottleneck), width, "batch")

    def forward(self, values: Tensor) -> Tensor:
        return residual_layer(self.wide, self.narrow.fused(values), values)


class Stage(nn.Module):
    """Geometric affine module, layers on every neighbour, the maximum, and layers on every centre."""

    def __init__(self, inputs: int, outputs: int, blocks: int, bottleneck: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(inputs))
        self.transfer = SharedLayer(2 * inputs, outputs, "batch")
        self.before = nn.Sequential(*(Residual(outputs, bottleneck) for _ in range(blocks)))
        self.after = nn.Sequential(*(Residual(outputs, bottleneck) for _ in range(blocks)))

    def forward(self, features: Tensor, own: Tensor, groups: Groups) -> Tensor:
        """`(B, N, inputs)` features of points, those of centres, and their groups to `(B, M, outputs)`."""
        size = spread(features, own, groups, self.training)
        factor = self.scale / size[:, None, None]
        relative, absolute = self.transfer.linear.weight.chunk(2, 1)
        targets = own @ absolute.T - (own * factor) @ relative.T
        rows = edge_layer(self.transfer.norm, features * factor, relative, targets, groups)
        pooled = group_max(self.before(rows), groups, self.training)
        after: Tensor = self.after(groups.restore(pooled, features.shape[0]))
        return after


def spread(features: Tensor, own: Tensor, groups: Groups, training: bool) -> Tensor:
    """Root mean square `(B,)` of features of neighbours, `(B, N, C)`, minus those of their centres, `(B, M, C)`.

    Out of sums over points and centres; the mean is taken off first, for precision.
    """
    clouds, centres, channels = own.shape
    mean = features.mean(1, keepdim=True)
    features, own = features - mean, own - mean
    uses = occurrences(groups.neighbours, clouds * features.shape[1]).view(clouds, -1, 1)
    sums = neighbour_sums(features, groups, training).view(own.shape)
    k = groups.padded.shape[1]
    total = (uses * features.square()).sum((1, 2)) + k * own.square().sum((1, 2)) - 2 * (own * sums).sum((1, 2))
    return ((total / (centres * k * channels)).clamp_min(0) + 1e-10).sqrt()


class PointMLP(Network):
    """An embedding and four stages.

    Args:
        num_classes: number of logits.
        embedding: width of the first layer.
        widths: of the stages.
        blocks: residual blocks before, and as many after, the maximum of every stage.
        bottleneck: width of the narrow layers, as a part of the stage's.
    """

    gathers = True

    def __init__(
        self, num_classes: int, embedding: int, widths: Sequence[int], blocks: Sequence[int], bottleneck: float
    ) -> None:
        super().__init__()
        self.embedding = SharedLayer(3, embedding, "batch")
        sizes = [embedding, *widths]
        self.stages = nn.ModuleList(Stage(sizes[i], sizes[i + 1], count, bottleneck) for i, count in enumerate(blocks))
        self.head = classifier(widths[-1], (512, 256), num_classes)

    def point_features(self, points: Tensor) -> list[Tensor]:
        """Features of all points after the embedding, and of the centres after each stage."""
        counts = centre_counts(points.shape[1], STRIDES)
        index, centres = centres_first(points, counts[0])
        found = [self.embedding.fused(points)]
        own = gather_points(found[0], index)
        for stage, count in zip(self.stages, counts, strict=True):
            centres, size = centres[:, :count], points.shape[1]
            groups = groups_of(knn(centres, points, min(NEIGHBOURS, size))[1], size)
            own = stage(found[-1], own[:, :count], groups)
            found.append(own)
            points = centres
        return found


@networks.register("pointmlp-elite", cites=("ma2022pointmlp",))
def pointmlp_elite(num_classes: int) -> Network:
    """PointMLP-elite (0.71 M parameters with 40 classes; 0.72 M with the shifts and biases that are left out)."""
    return PointMLP(num_classes, embedding=32, widths=(64, 128, 256, 256), blocks=(1, 1, 2, 1), bottleneck=0.25)

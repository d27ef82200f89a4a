"""Networks that label points: PointNet, PointNet++ and DGCNN as published for parts, each called `-seg`.

All end alike: what is known of a point, of its cloud and of the class goes through shared layers to logits of the
point. The first layer is a sum of a term of the point and one of the cloud, which is worked out once a cloud, and gives
the same numbers as the published copies of it at every point.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pcdistill.geometry import gather_points, knn
from pcdistill.models.base import Segmenter, segmenters
from pcdistill.models.dgcnn import SLOPE, EdgeConv, edge_features
from pcdistill.models.layers.fused import bf16_available
from pcdistill.models.layers.grouping import SetAbstraction, centre_counts, centres_first, reach
from pcdistill.models.layers.shared import PointNorm, SharedLayer, TNet, Trunk
from pcdistill.models.pointnet2 import STRIDES

NEIGHBOURS = 3  # centres that features are interpolated between
NEIGHBOURS_OF_EDGES = 20


class Mixed(nn.Module):
    """A shared layer on features of points and of their cloud: `(B, N, P)` and `(B, G)` to `(B, N, F)`."""

    def __init__(self, points: int, cloud: int, outputs: int, slope: float = 0.0) -> None:
        super().__init__()
        self.of_points = nn.Linear(points, outputs, bias=False)
        self.of_cloud = nn.Linear(cloud, outputs, bias=False)
        self.norm = PointNorm("batch", outputs)
        self.slope = slope

    def forward(self, points: Tensor, cloud: Tensor) -> Tensor:
        values: Tensor = self.norm(self.of_points(points) + self.of_cloud(cloud)[:, None])
        return nn.functional.leaky_relu(values, self.slope)


class PointHead(nn.Module):
    """Features of points and of their cloud to the last features of points: a mixed layer, and shared ones."""

    def __init__(self, points: int, cloud: int, widths: Sequence[int], slope: float = 0.0) -> None:
        super().__init__()
        self.mixed = Mixed(points, cloud, widths[0], slope)
        self.layers = nn.ModuleList(
            SharedLayer(widths[i], widths[i + 1], "batch", slope=slope) for i in range(len(widths) - 1)
        )

    def forward(self, points: Tensor, cloud: Tensor) -> Tensor:
        values: Tensor = self.mixed(points, cloud)
        for layer in self.layers:
            values = layer(values)
        return values


class PointNetSeg(Segmenter):
    """PointNet for parts (Qi, Su, Mo, Guibas, CVPR 2017), without the feature T-Net, as its classifier here.

    Args:
        num_classes, num_parts: of the set.
        widths: of the shared layers; the last one is the global feature's.
        head: widths of the layers of points behind it.
        tnet: predict and apply a 3 x 3 input transform.
    """

    def __init__(
        self, num_classes: int, num_parts: int, widths: Sequence[int], head: Sequence[int], tnet: bool = False
    ) -> None:
        super().__init__(num_classes)
        self.tnet = TNet("batch") if tnet else None
        self.trunk = Trunk(3, widths, "batch")
        self.points = PointHead(sum(widths[:-1]), widths[-1] + num_classes, head)
        self.head = nn.Linear(head[-1], num_parts)

    def labelling(self, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        bf16 = self.bf16 and bf16_available()
        values, found = points if self.tnet is None else points @ self.tnet(points, bf16), list[Tensor]()
        *shared, last = cast(list[SharedLayer], list(self.trunk.layers))
        for layer in shared:
            values = layer.fused(values)
            found.append(values)
        pooled = last.max_pool(values, bf16).relu()
        return self.points(torch.cat(found, 2), torch.cat([pooled, classes], 1)), pooled


class Propagation(nn.Module):
    """Features of centres brought to points (PointNet++, section 3.4): between the nearest, beside the points' own.

    Of fewer than three centres all are near.
    """

    def __init__(self, centres: int, points: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [centres + points, *widths]
        self.layers = nn.ModuleList(SharedLayer(sizes[i], sizes[i + 1], "batch") for i in range(len(widths)))

    def forward(self, points: Tensor, own: Tensor, centres: Tensor, features: Tensor) -> Tensor:
        """`(B, N, 3)` points with `(B, N, P)` features, `(B, M, 3)` centres with `(B, M, C)`, to `(B, N, F)`."""
        distance, index = knn(points, centres, min(NEIGHBOURS, centres.shape[1]))
        shares = 1 / distance.clamp_min(1e-8)  # a sum with so little is taken for nothing where an export is simplified
        shares = shares / shares.sum(2, keepdim=True)
        values = torch.cat([(gather_points(features, index) * shares[..., None]).sum(2), own], 2)
        for layer in cast(list[SharedLayer], list(self.layers)):
            values = layer.fused(values)
        return values


class PointNet2Seg(Segmenter):
    """PointNet++ with one scale, and feature propagation back to all points (Qi, Yi, Su, Guibas, NeurIPS 2017).

    The global feature and the class join at the last centres and at the points, once a cloud.
    """

    gathers = True

    def __init__(self, num_classes: int, num_parts: int) -> None:
        super().__init__(num_classes)
        self.fine = SetAbstraction(0, (64, 64, 128), 0.2, 32)
        self.coarse = SetAbstraction(128, (128, 128, 256), 0.4, 64)
        self.trunk = Trunk(3 + 256, (256, 512, 1024), "batch")
        self.down = Mixed(256, 1024, 256)
        self.middle = Propagation(256, 128, (256, 128))
        self.up = Propagation(128, 3, (128, 128))
        self.points = PointHead(128, num_classes, (128,))
        self.head = nn.Linear(128, num_parts)

    def labelling(self, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        counts, factor = centre_counts(points.shape[1], STRIDES), reach(points.shape[1])
        _, centres = centres_first(points, counts[0])
        last = centres[:, : counts[1]]
        fine = self.fine(points, None, centres, factor).relu()
        coarse = self.coarse(centres, fine, last, factor).relu()
        pooled = self.trunk(torch.cat([last, coarse], 2), False)
        found = self.middle(centres, fine, last, self.down(coarse, pooled))
        found = self.up(points, points, centres, found)
        return self.points(found, classes), pooled


class DGCNNSeg(Segmenter):
    """DGCNN for parts (Wang et al., ACM TOG 2019), three edge convolutions, without the input transform."""

    least_points = NEIGHBOURS_OF_EDGES

    def __init__(self, num_classes: int, num_parts: int) -> None:
        super().__init__(num_classes)
        widths = (64, 64, 64)
        self.edges = nn.ModuleList(EdgeConv(3 if i == 0 else widths[i - 1], widths[i]) for i in range(len(widths)))
        self.embedding = SharedLayer(sum(widths), 1024, "batch", slope=SLOPE)
        self.points = PointHead(sum(widths), 1024 + num_classes, (256, 256, 128), SLOPE)
        self.head = nn.Linear(128, num_parts)

    def labelling(self, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.cat(edge_features(self.edges, points, NEIGHBOURS_OF_EDGES), 2)
        pooled = self.embedding.fused(found).amax(1)
        return self.points(found, torch.cat([pooled, classes], 1)), pooled


@segmenters.register("pointnet-seg", cites=("qi2017pointnet",))
def pointnet_seg(num_classes: int, num_parts: int) -> Segmenter:
    """PointNet with input T-Net that labels points (1.4 M parameters): the default of sets whose points are parts."""
    return PointNetSeg(num_classes, num_parts, widths=(64, 128, 1024), head=(256, 256, 128), tnet=True)


@segmenters.register("pointnet-plain-seg", cites=("qi2017pointnet",))
def pointnet_plain_seg(num_classes: int, num_parts: int) -> Segmenter:
    """`pointnet-seg` without T-Net."""
    return PointNetSeg(num_classes, num_parts, widths=(64, 128, 1024), head=(256, 256, 128))


@segmenters.register("pointnet-linear-seg", cites=("qi2017pointnet",))
@segmenters.register("pointnet-small-seg", cites=("qi2017pointnet",))
def pointnet_small_seg(num_classes: int, num_parts: int) -> Segmenter:
    """Narrow one without T-Net: the surrogate of objectives, whose classifier is a linear one as it is."""
    return PointNetSeg(num_classes, num_parts, widths=(64, 128, 256), head=(128, 128))


@segmenters.register("pointnet-tiny-seg", cites=("qi2017pointnet",))
def pointnet_tiny_seg(num_classes: int, num_parts: int) -> Segmenter:
    """For small devices: no T-Net, 49,000 parameters with ten classes and 26 parts."""
    return PointNetSeg(num_classes, num_parts, widths=(32, 64, 256), head=(64, 64))


@segmenters.register("pointnet2-seg", cites=("qi2017pointnet2",))
def pointnet2_seg(num_classes: int, num_parts: int) -> Segmenter:
    """PointNet++ with one scale that labels points."""
    return PointNet2Seg(num_classes, num_parts)


@segmenters.register("dgcnn-seg", cites=("wang2019dgcnn",))
def dgcnn_seg(num_classes: int, num_parts: int) -> Segmenter:
    """DGCNN with k = 20 that labels points."""
    return DGCNNSeg(num_classes, num_parts)

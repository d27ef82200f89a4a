"""PointConv (Wu, Qi, Fuxin, CVPR 2019): convolution with weights that are a function of where a neighbour lies.

The sum over neighbours of weight times feature is weighed by a function of the inverse density, and is computed in the
paper's efficient form (its section 3.2): a small matrix product per centre, then one linear layer.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from pcdistill.geometry import farthest_points, gather_points, nearest_indices
from pcdistill.models.base import Network, networks
from pcdistill.models.layers.fused import CHUNK_ELEMENTS
from pcdistill.models.layers.grouping import PUBLISHED_POINTS
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import SharedLayer

WEIGHTS = 16  # functions of the position that a weight is a sum of


def scaled(count: int, points: int) -> int:
    """Centres for a cloud of `points` points: `count` from 1024 points on, below in proportion, rounded up."""
    return min(count, -(-count * points // PUBLISHED_POINTS))


class PointConv(nn.Module):
    """Features around centres: `(B, M, k, 3)` offsets and `(B, M, k, C)` features of neighbours to `(B, M, F)`."""

    def __init__(self, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        sizes = [inputs + 3, *widths]
        self.features = nn.ModuleList(SharedLayer(sizes[i], sizes[i + 1], "batch") for i in range(len(widths)))
        self.weights = nn.ModuleList(SharedLayer(i, o, "batch") for i, o in ((3, 8), (8, 8), (8, WEIGHTS)))
        self.density = nn.ModuleList(SharedLayer(i, o, "batch", activate=o > 1) for i, o in ((1, 16), (16, 8), (8, 1)))
        self.linear = SharedLayer(widths[-1] * WEIGHTS, widths[-1], "batch")

    def forward(self, offsets: Tensor, features: Tensor | None, inverse_density: Tensor) -> Tensor:
        """`inverse_density` `(B, M, k)` of the neighbours."""
        clouds, centres, k = inverse_density.shape
        values = offsets if features is None else torch.cat([offsets, features], 3)
        values = _through(self.features, values)
        relative = inverse_density / inverse_density.amax(2, keepdim=True)
        scale = _through(self.density, relative[..., None]).sigmoid()
        weights = (_through(self.weights, offsets) * scale).view(-1, k, WEIGHTS)
        summed = values.view(clouds * centres, k, -1).transpose(1, 2) @ weights
        out: Tensor = self.linear.fused(summed.view(clouds, centres, -1))
        return out


def _through(layers: nn.ModuleList, values: Tensor) -> Tensor:
    for layer in cast(list[SharedLayer], list(layers)):
        values = layer.fused(values)
    return values


def density(points: Tensor, bandwidth: float) -> Tensor:
    """Gaussian kernel estimate `(B, N)` of the density at the points `(B, N, 3)`, up to a factor, as released."""
    if torch.compiler.is_exporting():  # of any number of clouds
        return _kernel(points, bandwidth)
    step = max(1, CHUNK_ELEMENTS // points.shape[1] ** 2)
    return torch.cat([_kernel(part, bandwidth) for part in points.split(step)])


def _kernel(points: Tensor, bandwidth: float) -> Tensor:
    square = points.square().sum(2)
    exponent = points @ points.transpose(1, 2) - (square[:, :, None] + square[:, None]) / 2
    return (exponent / bandwidth**2).exp().mean(2) / (2.5 * bandwidth)


class PointConvNet(Network):
    """The paper's classifier: 512, 128 and 1 centres, of 32, 64 and all points around them.

    A cloud of N < 1024 points has 512 N / 1024 and 128 N / 1024 centres, rounded up, so that it is thinned out as a
    large one is; where fewer points are left than a centre should have around it, all of them are. We start centres
    at the point farthest from the mean instead of at a random one, so that no output hangs on chance.
    """

    gathers = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.centres = (512, 128)
        self.around = (32, 64)
        self.bandwidths = (0.1, 0.2, 0.4)
        self.stages = nn.ModuleList(
            [PointConv(0, (64, 64, 128)), PointConv(128, (128, 128, 256)), PointConv(256, (256, 512, 1024))]
        )
        self.head = classifier(1024, (512, 256), num_classes, p=0.4)

    def point_features(self, points: Tensor) -> list[Tensor]:
        counts, out = [scaled(count, points.shape[1]) for count in self.centres], []
        # A prefix of a farthest point sample is one itself: the second stage's centres are among the first's.
        spread = farthest_points(points, counts[0])
        features: Tensor | None = None
        for number, stage in enumerate(self.stages):
            inverse = 1 / density(points, self.bandwidths[number])
            if number < len(counts):
                centres = spread[:, : counts[number]]
                index = nearest_indices(centres, points, min(self.around[number], points.shape[1]))
            else:
                centres = points.mean(1, keepdim=True)
                index = torch.arange(points.shape[1], device=points.device).expand(points.shape[0], 1, -1)
            offsets = gather_points(points, index) - centres[:, :, None]
            around = None if features is None else gather_points(features, index)
            features = stage(offsets, around, gather_points(inverse[..., None], index)[..., 0])
            points = centres
            out.append(features)
        return out


@networks.register("pointconv", cites=("wu2019pointconv",))
def pointconv(num_classes: int) -> Network:
    """PointConv's classifier (19.6 M parameters, most of them in the last stage's linear layer)."""
    return PointConvNet(num_classes)

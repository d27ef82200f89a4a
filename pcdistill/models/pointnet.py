"""PointNet (Qi, Su, Mo, Guibas, CVPR 2017) in the layout that is fast on a processor.

Shared layers are linear layers on `(B * N, C)`; the widest one is fused with its norm and the max-pool
while training and predicting (`pcdistill.models.layers.fused`). We follow the paper's classifier without the
feature T-Net (as SADM does), with ReLU after the max-pool: the two commute.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcdistill.models.base import Dropout, Network, NetworkFactory, Output, networks
from pcdistill.models.layers.fused import bf16_available
from pcdistill.models.layers.shared import Norm, PointNorm, SharedLayer, TNet, Trunk

PAPER = ("qi2017pointnet",)


class PointNet(Network):
    """PointNet's classifier.

    Args:
        num_classes: number of logits.
        widths: of the shared layers; the last one is the global feature's.
        head: widths of the fully connected layers.
        tnet: predict and apply a 3 x 3 input transform.
        norm: normalisation after every layer but the last.
        dropout: before the last layer.
        pooled_norm: normalise the global feature in front of the head. Max-pooled features are large and all
            positive, which makes plain gradient descent on the head slow and unstable.
    """

    stackable = True

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (64, 128, 1024),
        head: Sequence[int] = (512, 256),
        tnet: bool = True,
        norm: Norm = "batch",
        dropout: float = 0.3,
        pooled_norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.norm = norm
        self.tnet = TNet(norm) if tnet else None
        self.trunk = Trunk(3, widths, norm)
        sizes = [widths[-1], *head]
        first = [] if pooled_norm == "none" else [PointNorm(pooled_norm, widths[-1])]
        self.head = nn.Sequential(
            *first,
            *(SharedLayer(sizes[i], sizes[i + 1], norm) for i in range(len(head))),
            Dropout(dropout, sizes[-1]),
            nn.Linear(sizes[-1], num_classes),
        )

    def align(self, points: Tensor) -> Tensor:
        """The cloud in the frame that the T-Net chose, `(B, N, 3)`."""
        return points if self.tnet is None else points @ self.tnet(points, self._use_bf16())

    def forward(self, points: Tensor) -> Output:
        pooled = self.trunk(self.align(points), self._use_bf16())
        return Output(self.classify(pooled), pooled)

    def point_features(self, points: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.trunk.point_features(self.align(points))
        return features

    def pooled(self, points: Tensor) -> Tensor:
        if self.norm == "batch" and not self.training and points.requires_grad:
            return self.trunk.frozen(self.align(points))
        return super().pooled(points)

    def critical(self, points: Tensor) -> Tensor:
        pointwise = self.norm in ("layer", "none") or (self.norm == "batch" and not self.training)
        if self.tnet is not None or not pointwise:
            return points
        with torch.no_grad():
            chosen = torch.cat([_extreme(self.trunk.point_features(part)[-1]) for part in points.split(32)])
            most = int(chosen.sum(1).max())
            # Clouds with fewer critical points are filled up with others of theirs, which change nothing.
            index = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
        return points.gather(1, index[..., None].expand(-1, -1, 3))

    def _use_bf16(self) -> bool:
        return self.bf16 and bf16_available()


def _extreme(features: Tensor) -> Tensor:
    """`(B, N)` bool: the points of `(B, N, F)` that hold the maximum of some channel; all where that is NaN."""
    return (~(features < features.amax(1, keepdim=True))).any(2)


@networks.register("pointnet", cites=PAPER)
def pointnet(num_classes: int) -> Network:
    """PointNet with input T-Net and batch norm: the network of the papers' tables (1.6 M parameters)."""
    return PointNet(num_classes)


@networks.register("pointnet-plain", cites=PAPER)
def pointnet_plain(num_classes: int) -> Network:
    """PointNet without T-Net ("vanilla" in the paper; 0.8 M parameters)."""
    return PointNet(num_classes, tnet=False)


@networks.register("pointnet-layernorm", cites=(*PAPER, "ba2016layernorm"))
def pointnet_layernorm(num_classes: int) -> Network:
    """PointNet without T-Net and with layer norm: no running statistics."""
    return PointNet(num_classes, tnet=False, norm="layer")


@networks.register("pointnet-small", cites=PAPER)
def pointnet_small(num_classes: int) -> Network:
    """Narrow PointNet without T-Net: the surrogate that the network bank is made of."""
    return PointNet(num_classes, widths=(64, 128, 256), head=(128,), tnet=False, dropout=0.0)


@networks.register("pointnet-tiny", cites=PAPER)
def pointnet_tiny(num_classes: int) -> Network:
    """PointNet for small devices: no T-Net, 57,000 parameters with 40 classes, 19,000 products a point."""
    return PointNet(num_classes, widths=(32, 64, 256), head=(128,), tnet=False, dropout=0.0)


# Sizes of students, from 20,000 parameters to 3 million with 40 classes; two of them stand above. A device spends
# its time on the shared layers, so that it is these that the smallest ones are narrow in.
STUDENTS = ("nano", "tiny", "light", "medium", "plain", "wide")


@networks.register("pointnet-nano", cites=PAPER)
def pointnet_nano(num_classes: int) -> Network:
    """PointNet for the smallest devices: no T-Net, 20,000 parameters with 40 classes, 5,200 products a point."""
    return PointNet(num_classes, widths=(16, 32, 144), head=(72,), tnet=False, dropout=0.0)


@networks.register("pointnet-light", cites=PAPER)
def pointnet_light(num_classes: int) -> Network:
    """PointNet of 98,000 parameters with 40 classes, without T-Net; 29,000 products a point."""
    return PointNet(num_classes, widths=(32, 64, 384), head=(160,), tnet=False, dropout=0.0)


@networks.register("pointnet-medium", cites=PAPER)
def pointnet_medium(num_classes: int) -> Network:
    """PointNet of 290,000 parameters with 40 classes, without T-Net."""
    return PointNet(num_classes, widths=(64, 128, 512), head=(320, 128), tnet=False, dropout=0.1)


@networks.register("pointnet-wide", cites=PAPER)
def pointnet_wide(num_classes: int) -> Network:
    """PointNet of 3 million parameters with 40 classes, without T-Net."""
    return PointNet(num_classes, widths=(128, 256, 2048), head=(1024, 320), tnet=False)


def _small(norm: Norm) -> NetworkFactory:
    return lambda num_classes: PointNet(
        num_classes, widths=(64, 128, 256), head=(128,), tnet=False, norm=norm, dropout=0.0
    )


# The same without running statistics: what gradients and trajectories are matched on.
networks.register("pointnet-small-layernorm", cites=(*PAPER, "ba2016layernorm"))(_small("layer"))
networks.register("pointnet-small-instancenorm", cites=(*PAPER, "ulyanov2016instancenorm"))(_small("instance"))
networks.register("pointnet-small-groupnorm", cites=(*PAPER, "wu2018groupnorm"))(_small("group"))


@networks.register("pointnet-linear", cites=PAPER)
def pointnet_linear(num_classes: int) -> Network:
    """Narrow PointNet with a linear classifier on its normalised global feature: gradients are matched on it best."""
    return PointNet(num_classes, widths=(64, 128, 256), head=(), tnet=False, dropout=0.0, pooled_norm="batch")

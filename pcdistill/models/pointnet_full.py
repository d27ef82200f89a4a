"""PointNet with both transforms (Qi, Su, Mo, Guibas, CVPR 2017): of the coordinates and of the first features."""

from typing import cast

from torch import Tensor, nn

from pcdistill.models.base import Dropout, Network, networks
from pcdistill.models.layers.fused import bf16_available
from pcdistill.models.layers.shared import SharedLayer, TNet, Trunk


class PointNetFull(Network):
    """The paper's classifier, input and feature T-Net.

    The paper's loss has a regulariser that pulls the 64 x 64 matrix towards an orthogonal one (its eq. 2). It is not
    part of our training loop, which sees logits only.
    """

    stackable = True

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.tnet = TNet("batch")
        self.first = nn.ModuleList([SharedLayer(3, 64, "batch"), SharedLayer(64, 64, "batch")])
        self.feature_tnet = TNet("batch", 64)
        self.trunk = Trunk(64, (64, 128, 1024), "batch")
        self.head = nn.Sequential(
            SharedLayer(1024, 512, "batch"),
            SharedLayer(512, 256, "batch"),
            Dropout(0.3, 256),
            nn.Linear(256, num_classes),
        )

    def point_features(self, points: Tensor) -> list[Tensor]:
        first = self._first(points)
        return [*first, *self.trunk.point_features(self._aligned(first[-1]))]

    def pooled(self, points: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(self._aligned(self._first(points)[-1]), self._use_bf16())
        return pooled

    def _first(self, points: Tensor) -> list[Tensor]:
        """Features in front of the feature T-Net, of both layers."""
        values, features = points @ self.tnet(points, self._use_bf16()), []
        for layer in cast(list[SharedLayer], list(self.first)):
            values = layer.fused(values)
            features.append(values)
        return features

    def _aligned(self, features: Tensor) -> Tensor:
        aligned: Tensor = features @ self.feature_tnet(features, self._use_bf16())
        return aligned

    def _use_bf16(self) -> bool:
        return self.bf16 and bf16_available()


@networks.register("pointnet-full", cites=("qi2017pointnet",))
def pointnet_full(num_classes: int) -> Network:
    """PointNet with input and feature T-Net (3.5 M parameters)."""
    return PointNetFull(num_classes)

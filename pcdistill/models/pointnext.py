"""PointNeXt (Qian et al., NeurIPS 2022): PointNet++ with a stem, residual connections and coordinates in units of the radius.

Numbers of centres, neighbourhoods and what batch norm counts are those of `pcdistill.models.grouping`, which says where we differ.
The published code gives the classifier of ModelNet: 32 neighbours, a first radius of 0.15 that grows by half from stage to stage.
"""

import torch
from torch import Tensor, nn

from pcdistill.geometry import gather_points
from pcdistill.models.base import Network, Output, networks
from pcdistill.models.grouping import SetAbstraction, centre_counts, centres_first
from pcdistill.models.heads import classifier
from pcdistill.models.pointnet import Trunk

STRIDES = (2, 2, 2, 2)
RADIUS, GROWTH, NEIGHBOURS = 0.15, 1.5, 32


class Stage(nn.Module):
    """Set abstraction to twice the width, with a residual connection from the centre's own features."""

    def __init__(self, width: int, radius: float) -> None:
        super().__init__()
        self.abstraction = SetAbstraction(width, (width, 2 * width), radius, NEIGHBOURS, unit=True)
        self.skip = nn.Linear(width, 2 * width)

    def forward(self, points: Tensor, features: Tensor, centres: Tensor, own: Tensor) -> Tensor:
        abstracted: Tensor = self.abstraction(points, features, centres)
        return (abstracted + self.skip(own)).relu()


class PointNeXt(Network):
    """A stem, four stages, each followed by no InvResMLP block (B = 0, the "S" of the paper), and a PointNet over the last centres.

    Args:
        num_classes: number of logits.
        width: of the stem; every stage doubles it.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.stages = nn.ModuleList(Stage(width * 2**i, RADIUS * GROWTH**i) for i in range(len(STRIDES)))
        last = width * 2 ** len(STRIDES)
        self.trunk = Trunk(3 + last, (last, last), "batch")
        self.head = classifier(last, (512, 256), num_classes)

    def forward(self, points: Tensor) -> Output:
        stages, centres = self._stages(points)
        pooled = self.trunk(torch.cat([centres, stages[-1]], -1), False)
        return Output(self.classify(pooled), pooled)

    def classify(self, global_feature: Tensor) -> Tensor:
        logits: Tensor = self.head(global_feature)
        return logits

    def point_features(self, points: Tensor) -> list[Tensor]:
        """Features of all points after the stem, of the centres after each stage, and after the last shared layer."""
        stages, centres = self._stages(points)
        return [*stages, self.trunk.point_features(torch.cat([centres, stages[-1]], -1))[-1]]

    def _stages(self, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features `(B, N_l, F_l)` after the stem and each stage, and the last centres `(B, M, 3)`."""
        counts = centre_counts(points.shape[1], STRIDES)
        index, centres = centres_first(points, counts[0])
        found = [self.stem(points)]
        own = gather_points(found[0], index)
        for stage, count in zip(self.stages, counts, strict=True):
            centres = centres[:, :count]
            own = stage(points, found[-1], centres, own[:, :count])
            found.append(own)
            points = centres
        return found, points


@networks.register("pointnext-s")
def pointnext_s(num_classes: int) -> Network:
    """PointNeXt-S."""
    return PointNeXt(num_classes)

"""PointNeXt (Qian et al., NeurIPS 2022): PointNet++ with a stem, residual connections and coordinates in unit balls.

Numbers of centres, neighbourhoods and what batch norm counts are those of `models.layers.grouping`, which says where
we differ. Radii and neighbours are those of the published classifier of ModelNet: 32 in a first radius of 0.15, which
grows by half from stage to stage.
"""

from torch import Tensor, nn

from pcdistill.geometry import gather_points
from pcdistill.models.base import Network, networks
from pcdistill.models.layers.grouping import SetAbstraction, centre_counts, centres_first, reach
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import Trunk
from pcdistill.models.pointnet2 import StagedNetwork

STRIDES = (2, 2, 2, 2)
RADIUS, GROWTH, NEIGHBOURS = 0.15, 1.5, 32


class Stage(nn.Module):
    """Set abstraction to twice the width, with a residual connection from the centre's own features."""

    def __init__(self, width: int, radius: float) -> None:
        super().__init__()
        self.abstraction = SetAbstraction(width, (width, 2 * width), radius, NEIGHBOURS, unit=True)
        self.skip = nn.Linear(width, 2 * width)

    def forward(self, points: Tensor, features: Tensor, centres: Tensor, own: Tensor, factor: float) -> Tensor:
        abstracted: Tensor = self.abstraction(points, features, centres, factor)
        skipped: Tensor = self.skip(own)
        return (abstracted + skipped).relu()


class PointNeXt(StagedNetwork):
    """A stem, four stages, and a PointNet over the last centres: the paper's S, which has no InvResMLP blocks (B = 0).

    Args:
        num_classes: number of logits.
        width: of the stem; every stage doubles it.
    """

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.steps = nn.ModuleList(Stage(width * 2**i, RADIUS * GROWTH**i) for i in range(len(STRIDES)))
        last = width * 2 ** len(STRIDES)
        self.trunk = Trunk(3 + last, (last, last), "batch")
        self.head = classifier(last, (512, 256), num_classes)

    def stages(self, points: Tensor) -> tuple[list[Tensor], Tensor]:
        counts, factor = centre_counts(points.shape[1], STRIDES), reach(points.shape[1])
        index, centres = centres_first(points, counts[0])
        found = [self.stem(points)]
        own = gather_points(found[0], index)
        for stage, count in zip(self.steps, counts, strict=True):
            centres = centres[:, :count]
            own = stage(points, found[-1], centres, own[:, :count], factor)
            found.append(own)
            points = centres
        return found, points


@networks.register("pointnext-s", cites=("qian2022pointnext",))
def pointnext_s(num_classes: int) -> Network:
    """PointNeXt-S (1.37 M parameters with 40 classes, as published)."""
    return PointNeXt(num_classes)

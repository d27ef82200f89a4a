"""PointNet++ (Qi, Yi, Su, Guibas, NeurIPS 2017): PointNets on neighbourhoods, coarser from stage to stage.

Numbers of centres, neighbourhoods and what batch norm counts are those of `models.layers.grouping`, which says where
we differ. Biases in front of batch norm, which takes them out again, are left out.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from pcdistill.models.base import Network, networks
from pcdistill.models.layers.grouping import SetAbstraction, centre_counts, centres_first, reach
from pcdistill.models.layers.heads import classifier
from pcdistill.models.layers.shared import Trunk

STRIDES = (2, 4)  # 512 and 128 centres of 1024 points


class Ball(NamedTuple):
    """One scale of a stage."""

    radius: float
    k: int
    widths: tuple[int, ...]


class StagedNetwork(Network):
    """Stages of ever fewer centres, and a PointNet over the last ones."""

    gathers = True

    trunk: Trunk

    def stages(self, points: Tensor) -> tuple[list[Tensor], Tensor]:
        """Features `(B, N_l, F_l)` after each stage, and the last centres `(B, M, 3)`."""
        raise NotImplementedError

    def point_features(self, points: Tensor) -> list[Tensor]:
        """Features of what points are left after each stage, and after the last shared layer."""
        found, centres = self.stages(points)
        return [*found, self.trunk.point_features(self._end(found, centres))[-1]]

    def pooled(self, points: Tensor) -> Tensor:
        pooled: Tensor = self.trunk(self._end(*self.stages(points)), False)
        return pooled

    def _end(self, found: list[Tensor], centres: Tensor) -> Tensor:
        return torch.cat([centres, found[-1]], -1)


class PointNet2(StagedNetwork):
    """Two stages of one or more balls around centres, and a PointNet over the last centres.

    Args:
        num_classes: number of logits.
        stages: the balls of the two stages; features of several are joined.
        widths: of the PointNet at the end; the last one is the global feature's.
        head: widths of the fully connected layers.
    """

    def __init__(
        self, num_classes: int, stages: Sequence[Sequence[Ball]], widths: Sequence[int], head: Sequence[int]
    ) -> None:
        super().__init__()
        inputs = 0
        self.balls = nn.ModuleList()
        for balls in stages:
            self.balls.append(nn.ModuleList(SetAbstraction(inputs, b.widths, b.radius, b.k) for b in balls))
            inputs = sum(ball.widths[-1] for ball in balls)
        self.trunk = Trunk(3 + inputs, widths, "batch")
        self.head = classifier(widths[-1], head, num_classes)

    def stages(self, points: Tensor) -> tuple[list[Tensor], Tensor]:
        counts, factor = centre_counts(points.shape[1], STRIDES), reach(points.shape[1])
        _, centres = centres_first(points, counts[0])
        found: list[Tensor] = []
        for balls, count in zip(self.balls, counts, strict=True):
            centres = centres[:, :count]
            before = found[-1] if found else None
            scales = [ball(points, before, centres, factor) for ball in cast(nn.ModuleList, balls)]
            found.append(torch.cat(scales, -1).relu())
            points = centres
        return found, points


@networks.register("pointnet2", cites=("qi2017pointnet2",))
def pointnet2(num_classes: int) -> Network:
    """PointNet++ with one scale, SSG (1.47 M parameters with 40 classes; 1.48 M with the biases that are left out)."""
    stages = [[Ball(0.2, 32, (64, 64, 128))], [Ball(0.4, 64, (128, 128, 256))]]
    return PointNet2(num_classes, stages, widths=(256, 512, 1024), head=(512, 256))


@networks.register("pointnet2-msg-half", cites=("qi2017pointnet2",))
def pointnet2_msg_half(num_classes: int) -> Network:
    """PointNet++ with three scales, MSG, all layers half as wide as in the common PyTorch classifier.

    The PointNet++ of SADM's tables (Yim et al. 2025); 0.44 M parameters with 40 classes.
    """
    stages = [
        [Ball(0.1, 16, (16, 16, 32)), Ball(0.2, 32, (32, 32, 64)), Ball(0.4, 128, (32, 48, 64))],
        [Ball(0.2, 32, (32, 32, 64)), Ball(0.4, 64, (64, 64, 128)), Ball(0.8, 128, (64, 64, 128))],
    ]
    return PointNet2(num_classes, stages, widths=(128, 256, 512), head=(256, 128))

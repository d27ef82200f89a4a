"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Dropout, Network, Output, build, networks, seeded
from pcdistill.models.pointmlp import PointMLP
from pcdistill.models.pointnet import PointNet
from pcdistill.models.pointnet2 import PointNet2
from pcdistill.models.pointnext import PointNeXt
from pcdistill.models.stack import Stack

__all__ = [
    "Dropout",
    "Network",
    "Output",
    "PointMLP",
    "PointNeXt",
    "PointNet",
    "PointNet2",
    "Stack",
    "build",
    "networks",
    "seeded",
]

"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Dropout, Network, Output, build, networks, seeded
from pcdistill.models.dgcnn import DGCNN
from pcdistill.models.point_transformer import PointTransformer
from pcdistill.models.pointconv import PointConvNet
from pcdistill.models.pointmlp import PointMLP
from pcdistill.models.pointnet import STUDENTS, PointNet
from pcdistill.models.pointnet2 import PointNet2
from pcdistill.models.pointnet_full import PointNetFull
from pcdistill.models.pointnext import PointNeXt
from pcdistill.models.stack import Stack

__all__ = [
    "DGCNN",
    "STUDENTS",
    "Dropout",
    "Network",
    "Output",
    "PointConvNet",
    "PointMLP",
    "PointNeXt",
    "PointNet",
    "PointNet2",
    "PointNetFull",
    "PointTransformer",
    "Stack",
    "build",
    "networks",
    "seeded",
]

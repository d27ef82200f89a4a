"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Network, Output, build, networks, seeded
from pcdistill.models.dgcnn import DGCNN
from pcdistill.models.point_transformer import PointTransformer
from pcdistill.models.pointconv import PointConvNet
from pcdistill.models.pointnet import PointNet
from pcdistill.models.pointnet_full import PointNetFull

__all__ = [
    "DGCNN",
    "Network",
    "Output",
    "PointConvNet",
    "PointNet",
    "PointNetFull",
    "PointTransformer",
    "build",
    "networks",
    "seeded",
]

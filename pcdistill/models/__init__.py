"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Network, Output, build, networks, seeded
from pcdistill.models.pointmlp import PointMLP
from pcdistill.models.pointnet import PointNet
from pcdistill.models.pointnet2 import PointNet2
from pcdistill.models.pointnext import PointNeXt

__all__ = ["Network", "Output", "PointMLP", "PointNeXt", "PointNet", "PointNet2", "build", "networks", "seeded"]

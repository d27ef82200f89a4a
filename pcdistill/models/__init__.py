"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Network, Output, build, networks, seeded
from pcdistill.models.dgcnn import DGCNN
from pcdistill.models.pointnet import PointNet

__all__ = ["DGCNN", "Network", "Output", "PointNet", "build", "networks", "seeded"]

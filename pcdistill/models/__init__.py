"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Network, Output, build, networks, seeded
from pcdistill.models.pointnet import PointNet

__all__ = ["Network", "Output", "PointNet", "build", "networks", "seeded"]

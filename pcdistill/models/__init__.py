"""Networks by name; each gives logits, a global feature and point features."""

from pcdistill.models.base import Dropout, Network, Output, build, networks, seeded
from pcdistill.models.pointnet import PointNet
from pcdistill.models.stack import Stack

__all__ = ["Dropout", "Network", "Output", "PointNet", "Stack", "build", "networks", "seeded"]

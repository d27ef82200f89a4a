"""Networks by name; each gives logits, a global feature and point features.

What a network is made of stands here; networks themselves are made by name, as `build("pointnet", 40, seed=0)`.
"""

from pcdistill.core.registry import import_modules
from pcdistill.models.base import (
    Dropout,
    Network,
    NetworkFactory,
    Output,
    Segmenter,
    build,
    check_network,
    network_for,
    networks,
    seeded,
    segmenters,
)
from pcdistill.models.layers.shared import Norm, PointNorm, SharedLayer
from pcdistill.models.pointnet import STUDENTS
from pcdistill.models.wrapped import as_network

import_modules(__name__, __path__)

__all__ = [
    "STUDENTS",
    "Dropout",
    "Network",
    "NetworkFactory",
    "Norm",
    "Output",
    "PointNorm",
    "Segmenter",
    "SharedLayer",
    "as_network",
    "build",
    "check_network",
    "network_for",
    "networks",
    "seeded",
    "segmenters",
]

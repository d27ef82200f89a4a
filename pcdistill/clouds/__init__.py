"""`PointClouds`: the value that flows through every room of the package; and what else a labelled set may be."""

from pcdistill.clouds.parts import PartNames
from pcdistill.clouds.point_clouds import PointClouds
from pcdistill.clouds.source import CloudSource, Provenance, Weighted, device_of, parts_of, placed, uniform, weights_of

__all__ = [
    "CloudSource",
    "PartNames",
    "PointClouds",
    "Provenance",
    "Weighted",
    "device_of",
    "parts_of",
    "placed",
    "uniform",
    "weights_of",
]

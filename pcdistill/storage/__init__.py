"""Parameterisations: what is stored, how it decodes into clouds, how many bytes it takes; the artefact file."""

from pcdistill.storage.artefact import Artefact, Metadata, Sizes, utc_now
from pcdistill.storage.base import Budget, Storage, storages
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.points import StoredPoints
from pcdistill.storage.rotated import RotatedPoints

__all__ = [
    "Artefact",
    "Budget",
    "CodedPoints",
    "Metadata",
    "RotatedPoints",
    "Sizes",
    "Storage",
    "StoredPoints",
    "storages",
    "utc_now",
]

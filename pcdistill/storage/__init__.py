"""Parameterisations: what is stored, how it decodes into clouds, how many bytes it takes; the artefact file."""

from pcdistill.storage.artefact import Artefact, Metadata, Sizes, soften_by, trained_on, utc_now
from pcdistill.storage.base import Budget, Storage, storages
from pcdistill.storage.basis import ShapeBasis
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.implicit import ImplicitClouds
from pcdistill.storage.mixture import GaussianMixtures
from pcdistill.storage.morphed import MorphedClouds
from pcdistill.storage.points import StoredPoints
from pcdistill.storage.rotated import RotatedPoints
from pcdistill.storage.symmetric import MirroredHalves

__all__ = [
    "Artefact",
    "Budget",
    "CodedPoints",
    "GaussianMixtures",
    "ImplicitClouds",
    "Metadata",
    "MirroredHalves",
    "MorphedClouds",
    "RotatedPoints",
    "ShapeBasis",
    "Sizes",
    "Storage",
    "StoredPoints",
    "soften_by",
    "storages",
    "trained_on",
    "utc_now",
]

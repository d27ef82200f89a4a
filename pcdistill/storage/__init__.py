"""Parameterisations: what is stored, how it decodes into clouds, how many bytes it takes; what a budget holds.

What a storage is made of stands here; storages themselves are found by name, as `storages["coded"]`.
"""

from pcdistill.core.registry import import_modules
from pcdistill.storage.base import Arrays, Budget, Storage, check_counts, counts_array, storages, stored_labels
from pcdistill.storage.labels import LABEL_PACE, SoftStorage
from pcdistill.storage.parts import Part, PartedStorage, Values

import_modules(__name__, __path__)

__all__ = [
    "LABEL_PACE",
    "Arrays",
    "Budget",
    "Part",
    "PartedStorage",
    "SoftStorage",
    "Storage",
    "Values",
    "check_counts",
    "counts_array",
    "storages",
    "stored_labels",
]

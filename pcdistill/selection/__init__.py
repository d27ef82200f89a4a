"""Coresets: choosing real clouds, class by class, and down-sampling them.

What a selector is made of stands here; selectors themselves are found by name, as `selectors["medoid"]`.
"""

from pcdistill.core.registry import import_modules
from pcdistill.selection.base import Selector, exact_features, selectors
from pcdistill.selection.choose import select
from pcdistill.selection.features import check_features, network_descriptor, raw_descriptor

import_modules(__name__, __path__)

__all__ = [
    "Selector",
    "check_features",
    "exact_features",
    "network_descriptor",
    "raw_descriptor",
    "select",
    "selectors",
]

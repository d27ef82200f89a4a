"""Coresets: choosing real clouds, class by class, and down-sampling them.

What a selector is made of stands here; selectors themselves are found by name, as `selectors["medoid"]`.
"""

from pcdistill.core.registry import import_modules
from pcdistill.selection.base import Selector, check_skip, compares_trained, exact_features, selectors, usual_features
from pcdistill.selection.choose import Watch, describer, remembered, select
from pcdistill.selection.dynamics import Dynamics, watch
from pcdistill.selection.features import check_features, network_descriptor, raw_descriptor
from pcdistill.selection.gain import class_gains, counts_by_gain

import_modules(__name__, __path__)

__all__ = [
    "Dynamics",
    "Selector",
    "Watch",
    "check_features",
    "check_skip",
    "class_gains",
    "compares_trained",
    "counts_by_gain",
    "describer",
    "exact_features",
    "network_descriptor",
    "raw_descriptor",
    "remembered",
    "select",
    "selectors",
    "usual_features",
    "watch",
]

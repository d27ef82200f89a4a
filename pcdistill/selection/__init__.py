"""Coresets: choosing real clouds, class by class, and down-sampling them. Each method is one file."""

from pcdistill.selection.base import Selector, selectors
from pcdistill.selection.choose import select
from pcdistill.selection.features import network_descriptor, raw_descriptor
from pcdistill.selection.herding import select_herding
from pcdistill.selection.kcenter import select_kcenter
from pcdistill.selection.medoid import select_medoid
from pcdistill.selection.random import select_random

__all__ = [
    "Selector",
    "network_descriptor",
    "raw_descriptor",
    "select",
    "select_herding",
    "select_kcenter",
    "select_medoid",
    "select_random",
    "selectors",
]

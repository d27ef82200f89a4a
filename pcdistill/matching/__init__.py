"""Matching objectives and the bank of surrogate networks that they share.

What an objective is made of stands here; objectives themselves are found by name, as `objectives["krr"]`.
"""

from pcdistill.core.registry import import_modules
from pcdistill.matching.bank import Bank
from pcdistill.matching.base import (
    BankObjective,
    BankOptions,
    Objective,
    ObjectiveOptions,
    class_means,
    objectives,
    with_gradients,
)
from pcdistill.matching.draws import augmented, step_generator
from pcdistill.matching.gathering import BankConfig, BankRequest, Member

import_modules(__name__, __path__)

__all__ = [
    "Bank",
    "BankConfig",
    "BankObjective",
    "BankOptions",
    "BankRequest",
    "Member",
    "Objective",
    "ObjectiveOptions",
    "augmented",
    "class_means",
    "objectives",
    "step_generator",
    "with_gradients",
]

"""Matching objectives and the bank of surrogate networks that they share."""

from pcdistill.matching.bank import Bank, BankConfig
from pcdistill.matching.base import Objective, objectives
from pcdistill.matching.dm import DistributionMatching
from pcdistill.matching.gm import GradientMatching
from pcdistill.matching.krr import KernelRidgeRegression
from pcdistill.matching.quantile import QuantileMatching
from pcdistill.matching.tm import TrajectoryMatching

__all__ = [
    "Bank",
    "BankConfig",
    "DistributionMatching",
    "GradientMatching",
    "KernelRidgeRegression",
    "Objective",
    "QuantileMatching",
    "TrajectoryMatching",
    "objectives",
]

"""Matching objectives and the bank of surrogate networks that they share."""

from pcdistill.matching.bank import Bank, BankConfig
from pcdistill.matching.base import Objective, objectives
from pcdistill.matching.cafe import FeatureAlignment
from pcdistill.matching.datadam import AttentionMatching
from pcdistill.matching.dc import DatasetCondensation, SiameseAugmentation
from pcdistill.matching.dm import DistributionMatching
from pcdistill.matching.gm import GradientMatching
from pcdistill.matching.idm import ImprovedDistributionMatching
from pcdistill.matching.krr import KernelRidgeRegression
from pcdistill.matching.m3d import MeanDiscrepancy
from pcdistill.matching.quantile import QuantileMatching
from pcdistill.matching.sadm import SortedKernelMatching, SortedMatching
from pcdistill.matching.tm import TrajectoryMatching

__all__ = [
    "AttentionMatching",
    "Bank",
    "BankConfig",
    "DatasetCondensation",
    "DistributionMatching",
    "FeatureAlignment",
    "GradientMatching",
    "ImprovedDistributionMatching",
    "KernelRidgeRegression",
    "MeanDiscrepancy",
    "Objective",
    "QuantileMatching",
    "SiameseAugmentation",
    "SortedKernelMatching",
    "SortedMatching",
    "TrajectoryMatching",
    "objectives",
]

"""Protocols carried out: accuracies over seeds, and the records that tables are made from."""

from pcdistill.evaluation.conditions import (
    Condition,
    TestSets,
    condition_label,
    of_classes,
    parse_conditions,
    parts_of,
    shared_classes,
    shown,
)
from pcdistill.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_conditions,
    planned_steps,
    score_conditions,
    train,
)
from pcdistill.evaluation.scores import Scores, as_tested, calibration_error, hits, mean_std, peak_mib, score, thinning
from pcdistill.evaluation.sweep import Choice, Trial, chosen, split

__all__ = [
    "Choice",
    "Condition",
    "Evaluation",
    "Scores",
    "TestSets",
    "Trial",
    "as_tested",
    "calibration_error",
    "chosen",
    "condition_label",
    "evaluate",
    "evaluate_conditions",
    "hits",
    "mean_std",
    "of_classes",
    "parse_conditions",
    "parts_of",
    "peak_mib",
    "planned_steps",
    "score",
    "score_conditions",
    "shared_classes",
    "shown",
    "split",
    "thinning",
    "train",
]

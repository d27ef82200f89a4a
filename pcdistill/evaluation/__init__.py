"""Protocols carried out: accuracies over seeds, and the records that tables are made from."""

from pcdistill.evaluation.records import Record, accuracy_cell, markdown_table, read_records, write_record
from pcdistill.evaluation.scores import Evaluation, Scores, as_tested, evaluate, mean_std, peak_mib, score

__all__ = [
    "Evaluation",
    "Record",
    "Scores",
    "accuracy_cell",
    "as_tested",
    "evaluate",
    "markdown_table",
    "mean_std",
    "peak_mib",
    "read_records",
    "score",
    "write_record",
]

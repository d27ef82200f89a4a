"""Protocols carried out: accuracies over seeds, and the records that tables are made from."""

from pcdistill.evaluation.records import (
    Record,
    Run,
    accuracy_cell,
    float32_bytes_per_class,
    markdown_table,
    measure,
    read_records,
    summed_up,
    write_record,
    write_records,
)
from pcdistill.evaluation.scores import (
    Evaluation,
    Scores,
    as_tested,
    calibration_error,
    evaluate,
    hits,
    mean_std,
    peak_mib,
    score,
)

__all__ = [
    "Evaluation",
    "Record",
    "Run",
    "Scores",
    "accuracy_cell",
    "as_tested",
    "calibration_error",
    "evaluate",
    "float32_bytes_per_class",
    "hits",
    "markdown_table",
    "mean_std",
    "measure",
    "peak_mib",
    "read_records",
    "score",
    "summed_up",
    "write_record",
    "write_records",
]

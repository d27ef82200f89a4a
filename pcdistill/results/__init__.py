"""What was measured: records, tables, statistics, plots, and the page of them all."""

from pcdistill.results.measure import as_run, measure, summed_up
from pcdistill.results.plots import Curve, Point, accuracy_bars, accuracy_plot
from pcdistill.results.record import Record, Run, read_records, write_record, write_records
from pcdistill.results.statistics import Difference, difference
from pcdistill.results.table import Cell, Table, accuracy_cell, number, per_cent

__all__ = [
    "Cell",
    "Curve",
    "Difference",
    "Point",
    "Record",
    "Run",
    "Table",
    "accuracy_bars",
    "accuracy_cell",
    "accuracy_plot",
    "as_run",
    "difference",
    "measure",
    "number",
    "per_cent",
    "read_records",
    "summed_up",
    "write_record",
    "write_records",
]

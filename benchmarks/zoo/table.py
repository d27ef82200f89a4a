"""What the sets that come with the package are worth, beside random clouds of as many bytes and the whole sets."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.wording import NAMES
from pcdistill.results.record import WHOLE, Record, read_records
from pcdistill.results.table import Table, accuracy_cell


def zoo(records: Sequence[Record]) -> str:
    """A row for every set that is shipped."""
    rows = []
    for one in records:
        if one.arm == "medoid":
            alike = (other for other in records if other.dataset == one.dataset)
            own = {other.arm: other for other in alike if other.arm == WHOLE or other.variant == one.variant}
            beside = (accuracy_cell(own[arm]) if arm in own else None for arm in ("random", WHOLE))
            rows.append([
                NAMES.get(one.dataset, one.dataset), accuracy_cell(one), f"{one.bytes_per_class:,.0f}",
                f"{one.bytes_per_class * len(one.class_names):,.0f}", f"{one.clouds_per_class or 0:.0f}", *beside,
            ])  # fmt: skip
    header = ["", "accuracy, %", "bytes per class", "bytes", "clouds per class", "random", "whole set"]
    return Table(header, rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder."""
    return {"zoo": zoo(read_records(folder / "records.jsonl"))}

"""Records of any benchmarks joined into tables: arms at their budgets under one protocol, and what is known of each."""

import contextlib
import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pcdistill.config import ReportConfig
from pcdistill.errors import InputError
from pcdistill.evaluation import (
    Difference,
    Record,
    accuracy_cell,
    difference,
    markdown_table,
    mean_std,
    read_records,
    setting,
)
from pcdistill.evaluation.ranking import recovery
from pcdistill.evaluation.records import TEST_FIELDS
from pcdistill.files import atomic
from pcdistill.registry import nearest
from pcdistill.training import Recipe

# What has to be the same within a table.
FIELDS = ("dataset", "split", "view", "test_points", "thin", "network", "protocol")
DASH = "–"
WIDE = 15  # classes of which a confusion matrix can still be read
NEAR = 0.05  # arms are compared at bytes that differ by no more than this share
OFTEN = 10


class Placed(NamedTuple):
    """A record and where it stands."""

    record: Record
    place: str


class Row(NamedTuple):
    """A line of a table; accuracies are fractions, NaN where a record does not have them."""

    record: Record
    recovery: float
    against: Difference | None

    def values(self) -> dict[str, Any]:
        """What a CSV file says of it."""
        record, ece = self.record, _ece(self.record)
        known: dict[str, Any] = {
            **{field: _value(record, field) for field in FIELDS},
            "arm": arm_of(record),
            "storage": record.storage,
            "clouds_per_class": record.clouds_per_class,
            "points": record.points,
            "bits": record.bits,
            "bytes_per_class": record.bytes_per_class,
            "accuracy_mean": record.accuracy_mean,
            "accuracy_std": record.accuracy_std,
            "n": len(record.accuracy),
            "class_accuracy_mean": record.class_accuracy_mean,
            "ece": None if math.isnan(ece) else ece,
            "recovery": None if math.isnan(self.recovery) else self.recovery,
        }
        other = self.against
        known |= {name: getattr(other, key, None) for name, key in AGAINST.items()}
        return known


AGAINST = {"difference": "mean", "difference_low": "low", "difference_high": "high", "p": "p"}


def run_report(config: ReportConfig) -> tuple[str, list[str]]:
    """The report as text, written to `output` if there is one, and the files of folders that hold no records.

    Raises:
        InputError: nothing to report, records that cannot stand in one table, or an unknown arm or field.
        OSError: a file that cannot be read or written.
    """
    if config.csv and config.per_class:
        raise InputError("report", "--csv with --per-class", "one of them")
    for field in config.by:
        if field not in FIELDS:
            raise InputError("by", nearest(field, FIELDS), "some of " + ", ".join(FIELDS))
    placed, skipped = gathered(config.results)
    tables = [(group, rows(group, config.against)) for group in grouped(placed, config.by)]
    if config.against is not None and config.against not in (known := {arm_of(one.record) for one in placed}):
        raise InputError("against", nearest(config.against, known), "one of " + ", ".join(sorted(known)))
    if config.csv:
        text = _csv([row for _, own in tables for row in own])
    else:
        text = "\n".join(_markdown(own, config) for _, own in tables)
    if config.output is not None:
        with atomic(config.output) as temporary:
            temporary.write_text(text)
    return text, skipped


def gathered(results: Sequence[Path]) -> tuple[list[Placed], list[str]]:
    """All records of files and folders, each once, and the .jsonl files of folders whose lines are something else.

    Raises:
        InputError: a file that is not there or not of records, or no record at all.
    """
    found: list[Placed] = []
    skipped: list[str] = []
    for path in results:
        if not path.exists():
            raise InputError(path, "no such file or folder", "records (.jsonl)")
        for file in sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]:
            if path.is_dir() and not _has_records(file):
                skipped.append(str(file))
                continue
            for number, record in enumerate(read_records(file), 1):
                if all(record != one.record for one in found):
                    found.append(Placed(record, f"{file}:{number}"))
    if not found:
        raise InputError(" ".join(map(str, results)), "no records", "at least one")
    return found, skipped


def _has_records(file: Path) -> bool:
    with file.open() as lines:
        try:
            Record.model_validate_json(lines.readline())
        except (ValidationError, UnicodeDecodeError):
            return False
    return True


def grouped(placed: Sequence[Placed], by: Sequence[str]) -> list[list[Placed]]:
    """A group per table: records that agree in `by`.

    Raises:
        InputError: two of a group disagree in another of `FIELDS`, or were tested on other clouds of the same name.
    """
    groups: dict[tuple[str, ...], list[Placed]] = {}
    for one in placed:
        groups.setdefault(tuple(str(_value(one.record, field)) for field in by), []).append(one)
    for group in groups.values():
        first = group[0]
        for other in group[1:]:
            for field in FIELDS:
                left, right = (_value(one.record, field) for one in (first, other))
                if left != right:
                    found = f"{field} '{left}', but '{right}' in {other.place}"
                    raise InputError(first.place, found, f"the same in one table (--by {field} makes several)")
        _check_test_sets(group)
    return list(groups.values())


def _check_test_sets(group: Sequence[Placed]) -> None:
    """Refuse other test clouds under the same name, where records say which they were of."""
    known = [(digest, one.place) for one in group if (digest := setting(one.record, "test_set")) is not None]
    for digest, place in known[1:]:
        if digest != known[0][0]:
            raise InputError(known[0][1], f"other test clouds than {place}", "the same test set in one table")


def _value(record: Record, field: str) -> Any:
    if field == "protocol":
        return f"{record.protocol} {digest}" if (digest := recipe_digest(record)) else record.protocol
    if field == "thin":
        return bool((record.model_extra or {}).get("thin"))
    return setting(record, field)


def recipe_digest(record: Record) -> str:
    """Eight digits that stand for a record's recipe and grid, fields that it does not have at their defaults."""
    facts = record.model_extra or {}
    recipe = facts.get("recipe")
    if recipe is None:
        return ""
    with contextlib.suppress(ValidationError):  # of another release
        recipe = Recipe.model_validate(recipe).model_dump(mode="json")
    text = json.dumps([recipe, facts.get("grid")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def arm_of(record: Record) -> str:
    """The name of a record's arm: as asked for, and whether more is trained on than is stored."""
    facts = record.model_extra or {}
    variant = facts.get("variant")
    name = variant if isinstance(variant, str) and variant.startswith("preset:") else record.arm
    return f"{name} expanded" if facts.get("expansion") else name


def rows(group: Sequence[Placed], against: str | None) -> list[Row]:
    """The lines of a table, by bytes, then by accuracy; the whole set last."""
    records = sorted((one.record for one in group), key=_order)
    whole = next((record.accuracy_mean for record in reversed(records) if record.arm == "whole"), math.nan)
    return [
        Row(record, recovery(record.accuracy_mean, whole), _against(record, records, against)) for record in records
    ]


def _order(record: Record) -> tuple[bool, float, float]:
    return record.arm == "whole", record.bytes_per_class, -record.accuracy_mean


def _against(record: Record, records: Sequence[Record], arm: str | None) -> Difference | None:
    """The difference to the record of an arm at the same bytes, or nearly; None where there is none to compare."""
    if arm is None or arm_of(record) == arm or not _has_outcomes(record):
        return None
    size = record.bytes_per_class
    near = [
        other
        for other in records
        if arm_of(other) == arm
        and _has_outcomes(other)
        and (arm == "whole" or abs(other.bytes_per_class - size) <= NEAR * size)
    ]
    if not near:
        return None

    def distance(other: Record) -> tuple[bool, float]:
        return (other.points, other.bits) != (record.points, record.bits), abs(other.bytes_per_class - size)

    return difference(record, min(near, key=distance))


def _has_outcomes(record: Record) -> bool:
    facts = record.model_extra or {}
    return bool(facts.get("right")) and bool(facts.get("confusion"))


def _ece(record: Record) -> float:
    values = (record.model_extra or {}).get("ece")
    return mean_std(values)[0] if values else math.nan


def _csv(lines: Sequence[Row]) -> str:
    stream = io.StringIO()
    values = [row.values() for row in lines]
    writer = csv.DictWriter(stream, list(values[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    return stream.getvalue()


def _markdown(own: Sequence[Row], config: ReportConfig) -> str:
    first = own[0].record
    split = f"{setting(first, 'split')} split" if setting(first, "split") == "test" else setting(first, "split")
    view = "" if setting(first, "view") == TEST_FIELDS["view"] else f", view {setting(first, 'view')}"
    points = f"{setting(first, 'test_points')} points{', thinned' if _value(first, 'thin') else ''}"
    text = (
        f"{first.dataset} ({split}, {points}{view}): {first.network}, protocol {_value(first, 'protocol')}; "
        f"per cent, mean ± standard deviation over n networks.\n\n"
    )
    header = ["arm", "storage", "clouds x points @ bits", "bytes per class", "accuracy", "n", "class mean", "ECE",
              "of whole set"]  # fmt: skip
    if config.against is not None:
        header.append(f"less {config.against} (95 %)")
    text += markdown_table(header, [_cells(row, config.against) for row in own])
    return text + "".join(_classes(own)) if config.per_class else text


def _cells(row: Row, against: str | None) -> list[str]:
    record, more = row.record, []
    if against is not None:
        found = row.against
        more = [DASH if found is None else f"{_signed(found.mean)} ({_signed(found.low)} to {_signed(found.high)}), "
                f"p = {found.p:.2g}"]  # fmt: skip
    return [
        arm_of(record), record.storage or DASH, size_of(record), f"{record.bytes_per_class:,.0f}",
        accuracy_cell(record), str(len(record.accuracy)), _per_cent(record.class_accuracy_mean),
        _per_cent(_ece(record)), _per_cent(row.recovery), *more,
    ]  # fmt: skip


def size_of(record: Record) -> str:
    """`4 x 128 @ 8`; of a whole set `all x 1024`."""
    if record.clouds_per_class is None:
        return f"all x {record.points}"
    return f"{record.clouds_per_class:g} x {record.points} @ {record.bits}"


def _per_cent(fraction: float) -> str:
    return DASH if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _classes(own: Sequence[Row]) -> Iterator[str]:
    """Accuracy by class of all records that have a confusion matrix, and of each the matrix or its largest numbers."""
    records = [row.record for row in own if (row.record.model_extra or {}).get("confusion")]
    if not records:
        yield "\nNo record has a confusion matrix.\n"
        return
    names = _names(records)
    columns = [_recalls(record) for record in records]
    header = ["class", *(f"{arm_of(record)}, {size_of(record)}" for record in records)]
    lines = [[name, *(_per_cent(column[i]) for column in columns)] for i, name in enumerate(names)]
    yield "\nAccuracy by class, per cent:\n\n" + markdown_table(header, lines)
    for record in records:
        title = f"\n{arm_of(record)}, {size_of(record)}: "
        matrix = _confusion(record)
        if len(names) <= WIDE:
            cells = [[name, *map(str, line)] for name, line in zip(names, matrix, strict=True)]
            yield title + "clouds of a class (line) taken for one (column), all networks together:\n\n"
            yield markdown_table(["class", *names], cells)
        else:
            pairs = [(matrix[i][j] / max(1, sum(matrix[i])), i, j) for i in range(len(names)) for j in range(len(names))
                     if i != j and matrix[i][j]]  # fmt: skip
            worst = sorted(pairs, key=lambda pair: -pair[0])[:OFTEN]
            yield title + "what is most often taken for something else:\n\n"
            yield markdown_table(["class", "taken for", "per cent"], [[names[i], names[j], _per_cent(share)]
                                                                      for share, i, j in worst])  # fmt: skip


def _names(records: Sequence[Record]) -> list[str]:
    """Of the classes; their numbers where no record says."""
    sizes = {len(_confusion(record)) for record in records}
    if len(sizes) > 1:
        raise InputError("report", f"records of {' and '.join(map(str, sorted(sizes)))} classes", "the same classes")
    known = [names for record in records if (names := (record.model_extra or {}).get("class_names"))]
    return list(known[0]) if known else [str(number) for number in range(sizes.pop())]


def _confusion(record: Record) -> list[list[int]]:
    matrix: list[list[int]] = (record.model_extra or {})["confusion"]
    return matrix


def _recalls(record: Record) -> list[float]:
    return [line[i] / sum(line) if sum(line) else math.nan for i, line in enumerate(_confusion(record))]

"""Records of any benchmarks joined into tables: arms at their budgets under one protocol, and what is known of each."""

import contextlib
import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

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

# What has to be the same within a table. So do the test clouds, where records say which they were.
FIELDS = ("dataset", "split", "view", "test_points", "thin", "network", "protocol")
BY = (*FIELDS, "test_set")
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
    place: str
    name: str  # of the arm, and what of its variant tells it from lines of the same arm and size
    recovery: float
    against: Difference | None

    @property
    def title(self) -> str:
        """Name and size."""
        return f"{self.name}, {size_of(self.record)}"

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
    check_fields(config)
    placed, skipped = gathered(config.results)
    if not placed:
        raise InputError(" ".join(map(str, config.results)), "no records", "at least one")
    tables = tables_of(placed, config)
    if config.csv:
        text = csv_text([row for own in tables for row in own])
    else:
        text = "\n".join(_markdown(own, config) for own in tables)
    if config.output is not None:
        with atomic(config.output) as temporary:
            temporary.write_text(text)
    return text, skipped


def check_fields(config: ReportConfig) -> None:
    """Refuse to make tables by a field that there is not."""
    for field in config.by:
        if field not in BY:
            raise InputError("by", nearest(field, BY), "some of " + ", ".join(BY))


def tables_of(placed: Sequence[Placed], config: ReportConfig) -> list[list[Row]]:
    """The lines of every table.

    Raises:
        InputError: records that cannot stand in one table, or none of the arm to compare with.
    """
    tables = [rows(group, config.against) for group in grouped(placed, config.by)]
    if config.against is not None and config.against not in (known := {arm_of(one.record) for one in placed}):
        wanted = "one of " + ", ".join(sorted(known)) if known else "records to compare with, of which there are none"
        raise InputError("against", nearest(config.against, known), wanted)
    return tables


def gathered(results: Sequence[Path]) -> tuple[list[Placed], list[str]]:
    """All records of files and folders, each once, and the .jsonl files of folders whose lines are something else.

    Raises:
        InputError: a file that is not there or not of records.
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
            wanted = "the same test set in one table (--by test_set makes several)"
            raise InputError(known[0][1], f"other test clouds than {place}", wanted)


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
    placed = sorted(group, key=lambda one: _order(one.record))
    records = [one.record for one in placed]
    whole = next((record.accuracy_mean for record in reversed(records) if record.arm == "whole"), math.nan)
    return [
        Row(record, one.place, name, recovery(record.accuracy_mean, whole), _against(record, records, against))
        for one, record, name in zip(placed, records, _names(records), strict=True)
    ]


def _names(records: Sequence[Record]) -> list[str]:
    """What the lines of a table are called: of those of equal arm and size by what differs in their variants."""
    kinds = [(arm_of(record), record.storage, size_of(record)) for record in records]
    variants = [str((record.model_extra or {}).get("variant") or "").split() for record in records]
    names = []
    for kind, variant in zip(kinds, variants, strict=True):
        shared = set.intersection(*(set(other) for own, other in zip(kinds, variants, strict=True) if own == kind))
        told = " ".join(word for word in variant if word not in shared)
        names.append(f"{kind[0]} ({told})" if told else kind[0])
    return names


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


def csv_text(lines: Sequence[Row]) -> str:
    """Lines of all tables as comma-separated values, fractions."""
    stream = io.StringIO()
    values = [row.values() for row in lines]
    writer = csv.DictWriter(stream, list(values[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(values)
    return stream.getvalue()


def _markdown(own: Sequence[Row], config: ReportConfig) -> str:
    text = f"{heading(own[0].record, config.by)}; per cent, mean ± standard deviation over n networks.\n\n"
    text += markdown_table(header(config.against), [cells(row, config.against) for row in own])
    return text + "".join(_classes(own)) if config.per_class else text


def heading(first: Record, by: Sequence[str]) -> str:
    """What the records of a table have in common with its first one."""
    split = f"{setting(first, 'split')} split" if setting(first, "split") == "test" else setting(first, "split")
    view = "" if setting(first, "view") == TEST_FIELDS["view"] else f", view {setting(first, 'view')}"
    points = f"{setting(first, 'test_points')} points{', thinned' if _value(first, 'thin') else ''}"
    clouds = f", test clouds {setting(first, 'test_set') or 'unknown'}" if "test_set" in by else ""
    return f"{first.dataset} ({split}, {points}{view}{clouds}): {first.network}, protocol {_value(first, 'protocol')}"


def header(against: str | None) -> list[str]:
    """Of the columns of a table."""
    names = ["arm", "storage", "clouds x points @ bits", "bytes per class", "accuracy", "n", "class mean", "ECE",
             "of whole set"]  # fmt: skip
    return names if against is None else [*names, f"less {against} (95 %)"]


def cells(row: Row, against: str | None) -> list[str]:
    """A line of a table, under its `header`."""
    record, more = row.record, []
    if against is not None:
        found = row.against
        more = [DASH if found is None else f"{_signed(found.mean)} ({_signed(found.low)} to {_signed(found.high)}), "
                f"p = {found.p:.2g}"]  # fmt: skip
    return [
        row.name, record.storage or DASH, size_of(record), f"{record.bytes_per_class:,.0f}",
        accuracy_cell(record), str(len(record.accuracy)), per_cent(record.class_accuracy_mean),
        per_cent(_ece(record)), per_cent(row.recovery), *more,
    ]  # fmt: skip


def size_of(record: Record) -> str:
    """`4 x 128 @ 8`; of a whole set `all x 1024`."""
    if record.clouds_per_class is None:
        return f"all x {record.points}"
    return f"{record.clouds_per_class:g} x {record.points} @ {record.bits}"


def per_cent(fraction: float) -> str:
    """`84.3`; a dash for NaN."""
    return DASH if math.isnan(fraction) else f"{100 * fraction:.1f}"


def _signed(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"


def _classes(own: Sequence[Row]) -> Iterator[str]:
    """Accuracy by class of all records that have a confusion matrix, and of each the matrix or its largest numbers."""
    found = [(row.title, confusion) for row in own if (confusion := confusion_of(row.record, row.place))]
    if not found:
        yield "\nNo record has a confusion matrix.\n"
        return
    names = _common_names([confusion for _, confusion in found])
    columns = [confusion.recalls for _, confusion in found]
    lines = [[name, *(per_cent(column[i]) for column in columns)] for i, name in enumerate(names)]
    yield "\nAccuracy by class, per cent:\n\n" + markdown_table(["class", *(title for title, _ in found)], lines)
    for title, confusion in found:
        if len(names) <= WIDE:
            cells = [[name, *map(str, line)] for name, line in zip(names, confusion.matrix, strict=True)]
            yield f"\n{title}: clouds of a class (line) taken for one (column), all networks together:\n\n"
            yield markdown_table(["class", *names], cells)
        else:
            yield f"\n{title}: what is most often taken for something else:\n\n"
            worst = [[names[i], names[j], per_cent(share)] for share, i, j in confusion.mistakes()[:OFTEN]]
            yield markdown_table(["class", "taken for", "per cent"], worst)


class Confusion(NamedTuple):
    """How many test clouds of class i were taken for class j, at [i][j] of a square, by all networks of a record."""

    class_names: list[str]  # their numbers where the record does not say
    matrix: list[list[int]]
    named: bool

    @property
    def recalls(self) -> list[float]:
        """Of every class the share that is right; NaN without test clouds."""
        return [line[i] / sum(line) if sum(line) else math.nan for i, line in enumerate(self.matrix)]

    def mistakes(self) -> list[tuple[float, int, int]]:
        """Shares of classes i that are taken for j, the largest first."""
        found = [
            (count / sum(line), i, j)
            for i, line in enumerate(self.matrix)
            for j, count in enumerate(line)
            if i != j and count
        ]
        return sorted(found, key=lambda pair: -pair[0])


def confusion_of(record: Record, place: str) -> Confusion | None:
    """The confusions of a record that has them.

    Raises:
        InputError: they are no square of counts, or there are not as many class names.
    """
    facts = record.model_extra or {}
    matrix, names = facts.get("confusion"), facts.get("class_names")
    if not matrix:
        return None
    try:
        checked = _SQUARE.validate_python(matrix)
        named = _NAMES.validate_python(names or [str(number) for number in range(len(checked))])
    except ValidationError:
        raise InputError(place, "'confusion' or 'class_names' of another kind", "counts and names") from None
    if any(len(line) != len(checked) for line in checked) or len(named) != len(checked):
        found = f"{len(checked)} lines and {len(named)} class names in 'confusion'"
        raise InputError(place, found, "a square, and a name for each")
    return Confusion(named, checked, bool(names))


_SQUARE = TypeAdapter(list[list[Annotated[int, Field(ge=0, strict=True)]]])
_NAMES = TypeAdapter(list[str])


def _common_names(found: Sequence[Confusion]) -> list[str]:
    """Of the classes; their numbers where no record says."""
    sizes = {len(confusion.matrix) for confusion in found}
    if len(sizes) > 1:
        raise InputError("report", f"records of {' and '.join(map(str, sorted(sizes)))} classes", "the same classes")
    return next((confusion.class_names for confusion in found if confusion.named), found[0].class_names)

"""Records of any benchmarks joined into tables: arms at their budgets under one protocol, and what is known of each."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pcdistill.core.errors import InputError
from pcdistill.core.files import visible
from pcdistill.core.registry import nearest
from pcdistill.evaluation import mean_std
from pcdistill.evaluation.ranking import recovery
from pcdistill.results.confusion import Confusion, common_names
from pcdistill.results.record import PRESET, WHOLE, Record, begins_with_record, read_records
from pcdistill.results.statistics import Difference, difference, has_outcomes
from pcdistill.results.table import Cell, Strong, Table, accuracy_cell, number, per_cent, runs_of, size_of, split_of
from pcdistill.training.recipe import Recipe

# What has to be the same within a table. So do the test clouds, where records say which they were.
FIELDS = ("dataset", "split", "condition", "test_points", "thin", "network", "protocol")
BY = (*FIELDS, "test_set")
RENAMED = {"view": "condition"}  # fields that older records have under another name
WIDE = 15  # classes of which a confusion matrix can still be read
NEAR = 0.05  # arms are compared at bytes that differ by no more than this share


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

    @property
    def ece(self) -> float:
        """Mean over the networks."""
        return mean_std(self.record.ece)[0] if self.record.ece else math.nan

    def values(self) -> dict[str, Any]:
        """What a CSV file says of it: fractions, and None where there is nothing to say."""
        record, other = self.record, self.against
        return {
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
            "sets": len(record.distill_seeds),
            "class_accuracy_mean": record.class_accuracy_mean,
            "ece": None if math.isnan(self.ece) else self.ece,
            "recovery": None if math.isnan(self.recovery) else self.recovery,
            "difference": other and other.mean,
            "difference_low": other and other.low,
            "difference_high": other and other.high,
            "p": other and other.p,
        }


def fields(by: Sequence[str]) -> tuple[str, ...]:
    """Fields that tables may be made by, under the names that they have now.

    Raises:
        InputError: there is no such field.
    """
    names = tuple(RENAMED.get(field, field) for field in by)
    for field in names:
        if field not in BY:
            raise InputError("by", nearest(field, BY), "some of " + ", ".join(BY))
    return names


def gathered(results: Sequence[Path]) -> tuple[list[Placed], list[str]]:
    """All records of files and folders, each once, and the .jsonl files of folders whose lines are something else.

    Raises:
        InputError: a file that is not there or not of records.
    """
    placed: list[Placed] = []
    skipped: list[str] = []
    for path in results:
        if not path.exists():
            raise InputError(path, "no such file or folder", "records (.jsonl)")
        for file in visible(path, ".jsonl") if path.is_dir() else [path]:
            if path.is_dir() and not begins_with_record(file):
                skipped.append(str(file))
                continue
            for line, record in enumerate(read_records(file), 1):
                if all(record != one.record for one in placed):
                    placed.append(Placed(record, f"{file}:{line}"))
    return placed, skipped


def tables_of(placed: Sequence[Placed], by: Sequence[str] = (), against: str | None = None) -> list[list[Row]]:
    """The lines of every table: records that agree in the fields `by`, compared with the arm `against`.

    Raises:
        InputError: records that cannot stand in one table, or none of the arm to compare with.
    """
    tables = [rows(group, against) for group in grouped(placed, by)]
    arms = {arm_of(one.record) for one in placed}
    if against is not None and against not in arms:
        choice = "one of " + ", ".join(sorted(arms)) if arms else "records to compare with, of which there are none"
        raise InputError("against", nearest(against, arms), choice)
    return tables


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
                    clash = f"{field} '{left}', but '{right}' in {other.place}"
                    raise InputError(first.place, clash, f"the same in one table (--by {field} makes several)")
        _check_test_sets(group)
    return list(groups.values())


def _check_test_sets(group: Sequence[Placed]) -> None:
    """Refuse other test clouds under the same name, where records say which they were of."""
    named = [one for one in group if one.record.test_set is not None]
    for other in named[1:]:
        if other.record.test_set != named[0].record.test_set:
            rule = "the same test set in one table (--by test_set makes several)"
            raise InputError(named[0].place, f"other test clouds than {other.place}", rule)


def _value(record: Record, field: str) -> Any:
    if field == "protocol":
        return " ".join([record.protocol, *filter(None, [recipe_digest(record)])])
    return getattr(record, field)


def recipe_digest(record: Record) -> str:
    """Eight digits that stand for a record's recipe and grid, fields that it does not have at their defaults."""
    recipe = record.recipe
    if recipe is None:
        return ""
    with contextlib.suppress(ValidationError):  # of another release
        recipe = Recipe.model_validate(recipe).model_dump(mode="json")
    text = json.dumps([recipe, record.grid], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def arm_of(record: Record) -> str:
    """The name of a record's arm: as asked for, and whether more is trained on than is stored."""
    preset = record.variant is not None and record.variant.startswith(PRESET)
    name = record.variant if preset else record.arm
    return f"{name} expanded" if record.expansion else str(name)


def rows(group: Sequence[Placed], against: str | None) -> list[Row]:
    """The lines of a table, by bytes, then by accuracy; the whole set last."""
    placed = sorted(group, key=lambda one: _order(one.record))
    records = [one.record for one in placed]
    whole = next((record.accuracy_mean for record in reversed(records) if record.arm == WHOLE), math.nan)
    return [
        Row(record, one.place, name, recovery(record.accuracy_mean, whole), _against(record, records, against))
        for one, record, name in zip(placed, records, _names(records), strict=True)
    ]


def _names(records: Sequence[Record]) -> list[str]:
    """What the lines of a table are called: of those of equal arm and size by what differs in their variants."""
    kinds = [(arm_of(record), record.storage, size_of(record)) for record in records]
    variants = [(record.variant or "").split() for record in records]
    names = []
    for kind, variant in zip(kinds, variants, strict=True):
        alike = [set(words) for other, words in zip(kinds, variants, strict=True) if other == kind]
        apart = " ".join(word for word in variant if word not in set.intersection(*alike))
        names.append(f"{kind[0]} ({apart})" if apart else kind[0])
    return names


def _order(record: Record) -> tuple[bool, float, float]:
    return record.arm == WHOLE, record.bytes_per_class, -record.accuracy_mean


def _against(record: Record, records: Sequence[Record], arm: str | None) -> Difference | None:
    """The difference to the record of an arm at the same bytes, or nearly; None where there is none to compare."""
    if arm is None or arm_of(record) == arm or not has_outcomes(record):
        return None
    size = record.bytes_per_class
    near = [
        other
        for other in records
        if arm_of(other) == arm
        and has_outcomes(other)
        and (arm == WHOLE or abs(other.bytes_per_class - size) <= NEAR * size)
    ]
    if not near:
        return None

    def distance(other: Record) -> tuple[bool, float]:
        return (other.points, other.bits) != (record.points, record.bits), abs(other.bytes_per_class - size)

    return difference(record, min(near, key=distance))


def heading(first: Record, by: Sequence[str] = ()) -> str:
    """What the records of a table have in common with its first one."""
    condition = "" if first.condition == "clean" else f", condition {first.condition}"
    points = f"{first.test_points} points{', thinned' if first.thin else ''}"
    clouds = f", test clouds {first.test_set or 'unknown'}" if "test_set" in by else ""
    tested = f"{split_of(first)}, {points}{condition}{clouds}"
    return f"{first.dataset} ({tested}): {first.network}, protocol {_value(first, 'protocol')}"


def table(own: Sequence[Row], against: str | None = None) -> Table:
    """Lines as people read them, in per cent; with an arm to compare with there is a column more.

    Bold is an accuracy that is clearly above that of the arm to compare with.
    """
    header = ["arm", "storage", "clouds x points @ bits", "bytes per class", "accuracy", "over", "class mean", "ECE",
              "of whole set"]  # fmt: skip
    lines = [_cells(row) for row in own]
    if any(row.record.class_miou for row in own):  # of points that are labelled
        header += ["instance mIoU", "class mIoU"]
        lines = [[*line, *_mious(row.record)] for line, row in zip(lines, own, strict=True)]
    if against is None:
        return Table(header, lines)
    lines = [[*line, row.against and interval(row.against)] for line, row in zip(lines, own, strict=True)]
    return Table([*header, f"less {against} (95 %)"], lines)


def _mious(record: Record) -> list[object]:
    return [Cell.of(values) if values else None for values in (record.instance_miou, record.class_miou)]


def _cells(row: Row) -> list[object]:
    record, accuracy = row.record, accuracy_cell(row.record)
    return [
        row.name, record.storage, size_of(record), f"{record.bytes_per_class:,.0f}",
        Strong(accuracy) if row.against and row.against.clear else accuracy,
        runs_of(record), per_cent(record.class_accuracy_mean), per_cent(row.ece), per_cent(row.recovery),
    ]  # fmt: skip


def interval(apart: Difference) -> str:
    """A difference in per cent, its interval and p: `+2.6 (+0.7 to +4.4), p = 0.0054`."""
    mean, low, high = (number(100 * value, "+.1f") for value in (apart.mean, apart.low, apart.high))
    return f"{mean} ({low} to {high})" + ("" if apart.p is None else f", p = {apart.p:.2g}")


def raw_table(own: Sequence[Row]) -> Table:
    """Lines of any tables as programs read them: fractions, under the names of fields."""
    values = [row.values() for row in own]
    return Table(list(values[0]), [list(one.values()) for one in values])


def markdown(own: Sequence[Row], by: Sequence[str] = (), against: str | None = None, per_class: bool = False) -> str:
    """A table under its heading, and accuracies by class and confusions below.

    Raises:
        InputError: classes that are not the same.
    """
    text = f"{heading(own[0].record, by)}; per cent, mean ± standard deviation.\n\n"
    if against is not None:
        text = text.rstrip() + f" Bold: better than {against}, the 95 % interval of the difference above zero.\n\n"
    return text + table(own, against).markdown() + ("".join(_classes(own)) if per_class else "")


def _classes(own: Sequence[Row]) -> Iterator[str]:
    """Accuracy by class of all records that have a confusion matrix, and of each the matrix or its largest numbers."""
    shown = [(row.title, confusion) for row in own if (confusion := Confusion.of(row.record))]
    if not shown:
        yield "\nNo record has a confusion matrix.\n"
        return
    names = common_names([confusion for _, confusion in shown])
    recalls = zip(names, *(confusion.recalls for _, confusion in shown), strict=True)
    header = ["class", *(title for title, _ in shown)]
    by_class = Table(header, [[name, *map(per_cent, shares)] for name, *shares in recalls])
    yield f"\nAccuracy by class, per cent:\n\n{by_class.markdown()}"
    for title, confusion in shown:
        named = confusion._replace(class_names=names)
        if len(names) <= WIDE:
            yield f"\n{title}: clouds of a class (line) taken for one (column), all networks together:\n\n"
            yield named.table().markdown()
        else:
            yield f"\n{title}: what is most often taken for something else:\n\n"
            yield named.mistakes_table().markdown()

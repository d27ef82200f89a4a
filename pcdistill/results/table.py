"""Tables: how a number is printed, and how rows under a header are written as Markdown, CSV and HTML."""

import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

from pcdistill.artefact.metadata import Metadata
from pcdistill.core.errors import harmless
from pcdistill.evaluation import mean_std
from pcdistill.results.document import Markup, element, region
from pcdistill.results.record import Record

DASH = "–"
FORMULA = ("=", "+", "-", "@")  # what one begins with, in spreadsheets
NUMBER = re.compile(r"[-+]\d+(\.\d+)?( %)?( ± \d+(\.\d+)?)?")


def number(value: float | None, form: str) -> str:
    """A number as a format says, `.2f`; a dash for none and for NaN."""
    return DASH if value is None or math.isnan(value) else format(value, form)


def per_cent(fraction: float) -> str:
    """`84.3`; a dash for NaN."""
    return number(100 * fraction, ".1f")


class Cell(NamedTuple):
    """The mean of fractions, their standard deviation and how many they are: in per cent, `84.3 ± 0.6`.

    There is no spread of a single one, and a dash stands for a mean that is NaN.
    """

    mean: float
    spread: float
    n: int

    @classmethod
    def of(cls, fractions: Sequence[float]) -> Self:
        """Of at least one."""
        return cls(*mean_std(fractions), len(fractions))

    def __str__(self) -> str:
        return self.text()

    def text(self, unit: str = "") -> str:
        """With a unit behind the mean: `84.3 % ± 0.6`."""
        if math.isnan(self.mean):
            return DASH
        return per_cent(self.mean) + unit + (f" ± {100 * self.spread:.1f}" if self.n > 1 else "")


class Strong(NamedTuple):
    """A cell in bold."""

    cell: Cell | str

    def __str__(self) -> str:
        return str(self.cell)


class Table(NamedTuple):
    """Rows under a header: a cell is text, a number, a `Cell`, one in bold, or None where there is nothing to say."""

    header: Sequence[str]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """First column left, the others right."""
        rule = [":--", *["--:"] * (len(self.header) - 1)]
        lines = [[_in_line(cell) for cell in line] for line in (self.header, *self.rows)]
        return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))

    def text(self) -> str:
        """For a terminal: in columns, the first left, the others right."""
        lines = [[harmless(str(_shown(cell))) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                f"{cell:{'>' if at else '<'}{width}}" for at, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )

    def csv(self) -> str:
        """Comma-separated values; None is nothing."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(map(_flat, (self.header, *self.rows)))
        return stream.getvalue()

    def html(self, name: str, caption: str, long: Collection[str] = ()) -> Markup:
        """A table that scrolls where there is no room; the first cell of a row names it.

        Args:
            name: of the region, as told to those who do not see it.
            caption: above the table.
            long: columns of long text, in a table of text instead of numbers.
        """

        kinds = [{"class_": "long"} if column in long else {} for column in self.header]
        lines = [
            element(
                "tr",
                element("th", _shown(row[0]), scope="row"),
                *(element("td", _shown(cell), **kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
            )
            for row in self.rows
        ]
        heads = element("thead", element("tr", *(element("th", column, scope="col") for column in self.header)))
        kind = {"class_": "words"} if long else {}
        caption_above = element("caption", element("span", caption))
        return region(name, element("table", caption_above, heads, element("tbody", *lines), **kind))


def _shown(cell: object) -> object:
    if isinstance(cell, Strong):
        return element("strong", str(cell))
    return DASH if cell is None else cell if isinstance(cell, Markup) else str(cell)


def _in_line(cell: object) -> str:
    """A cell that no line break and no bar breaks, and that no page takes for HTML."""
    if isinstance(cell, Strong):
        return f"**{_in_line(cell.cell)}**"
    text = harmless(" ".join(str(_shown(cell)).split("\n")))
    return text.replace("|", "\\|").replace("<", "&lt;")


def _flat(row: Iterable[object]) -> list[object]:
    return [_no_formula(str(cell)) if isinstance(cell, Cell | Strong | str) else cell for cell in row]


def _no_formula(text: str) -> str:
    """A text that spreadsheets take for one: names come from files."""
    return f"'{text}" if text.lstrip().startswith(FORMULA) and not NUMBER.fullmatch(text) else text


def mean_per_cent(fractions: Sequence[float]) -> str:
    """`84.3 % ± 0.6`, for a line of text."""
    return Cell.of(fractions).text(" %")


def accuracy_cell(record: Record) -> Cell:
    """The accuracy of a record, as it says it."""
    return Cell(record.accuracy_mean, record.accuracy_std, len(record.accuracy))


def size_of(made: Record | Metadata) -> str:
    """`4 x 128 @ 8`; of a whole set `all x 1024`."""
    if made.clouds_per_class is None:
        return f"all x {made.points}"
    return f"{made.clouds_per_class:g} x {made.points} @ {made.bits}"


def split_of(record: Record) -> str:
    """What was tested on: `test split`, or the words for another."""
    return "test split" if record.split == "test" else record.split


def runs_of(record: Record) -> str:
    """What a spread is one of: `3 sets x 3 networks`; `3 networks` of a whole set, and of what is no set."""
    sets, networks = len(record.distill_seeds), len(record.accuracy)
    if record.clouds_per_class is None or not sets or networks % sets:
        return _counted(networks, "network")
    return f"{_counted(sets, 'set')} x {_counted(networks // sets, 'network')}"


def all_runs_of(records: Iterable[Record]) -> str:
    """Those of records that differ in them: `3 networks or 3 sets x 3 networks`."""
    by_number = sorted(records, key=lambda one: (len(one.accuracy), -len(one.distill_seeds)))
    *others, last = dict.fromkeys(map(runs_of, by_number))
    return " or ".join(filter(None, [", ".join(others), last]))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def note_of(records: Iterable[Record]) -> str:
    """What the numbers of a table or plot of records are, as the beginning of a sentence."""
    return f"Mean ± standard deviation over {all_runs_of(records)}"

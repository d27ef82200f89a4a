"""`pcdistill report`: join records into tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from pcdistill.commands.base import Command, warn
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_output
from pcdistill.core.options import Force, Positional
from pcdistill.core.progress import Say
from pcdistill.results import arms
from pcdistill.results.arms import Row
from pcdistill.results.page import write_page


class Report(Command):
    """Join records of compare, evaluate --output and benchmarks into a table: a line per arm and budget.

    What does not belong into one table is refused, unless --by says which field makes tables of their own.
    """

    results: Annotated[
        tuple[Path, ...], Positional, Field(min_length=1, description="files of records (.jsonl), or folders of them")
    ]
    output: Annotated[Path | None, Field(description="file to write (default: print)")] = None
    html: Annotated[
        Path | None,
        Field(
            description="page to write instead, whole in one file: tables, plots, confusions, and artefacts that are "
            "found; its figures also in a folder of its name"
        ),
    ] = None
    csv: Annotated[bool, Field(description="comma-separated values, fractions instead of per cent")] = False
    against: Annotated[
        str | None,
        Field(
            description="arm, as medoid, that the others are compared with at equal bytes (within 5 %), "
            "with a paired 95 % interval"
        ),
    ] = None
    by: Annotated[
        tuple[str, ...],
        AfterValidator(arms.fields),
        Field(description="a table for every value of these fields: " + ", ".join(arms.BY)),
    ] = ()
    per_class: Annotated[bool, Field(description="accuracy by class and confusions, where they are recorded")] = False
    force: Force = False

    def _check(self) -> None:
        clashes = {"--csv with --per-class": self.csv and self.per_class}
        if self.html is not None:
            clashes = {"--html with --csv": self.csv, "--html with --output": self.output is not None}
        for clash in (words for words, given in clashes.items() if given):
            raise InputError("report", clash, "one of them")
        for path in (self.output, self.html):
            if path is not None:
                check_output(path, self.force)

    def run(self, say: Say) -> None:
        self._check()
        if self.html is not None:
            figures, skipped = write_page(self.html, self.results, self.by, self.against)
            say(f"wrote {self.html}: {self.html.stat().st_size:,} bytes, its figures in {figures}")
        else:
            placed, skipped = arms.gathered(self.results)
            if not placed:
                raise InputError(" ".join(map(str, self.results)), "no records", "at least one")
            self._put(self._text(arms.tables_of(placed, self.by, self.against)), say)
        for file in skipped:
            warn(f"left out, as it holds no records: {file}")

    def _text(self, tables: Sequence[Sequence[Row]]) -> str:
        if self.csv:
            return arms.raw_table([row for own in tables for row in own]).csv()
        return "\n".join(arms.markdown(own, self.by, self.against, self.per_class) for own in tables)

    def _put(self, text: str, say: Say) -> None:
        if self.output is None:
            say(text.rstrip("\n"))
            return
        with atomic(self.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
        say(f"wrote {self.output}")

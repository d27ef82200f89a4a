"""Figures of a page, which are also files in a folder beside it: drawings as SVG and PNG, their numbers as CSV."""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pcdistill.core.errors import InputError
from pcdistill.results.document import Markup, element, plot
from pcdistill.results.table import Table

FIGURE = re.compile(r"(table|frontier|classes|confusion|losses|gallery)-\d+(-\d+)?\.(csv|png|svg)")


class Folder(NamedTuple):
    """Where figures are written, and what it is called by the page."""

    path: Path
    link: str

    def files(self, name: str, *endings: str) -> Markup:
        """Links to the files of a figure."""
        links = [element("a", f"{name}.{ending}", href=f"{self.link}/{name}.{ending}") for ending in endings]
        return Markup(" · ".join(links))

    def write(self, name: str, numbers: Table) -> None:
        """Those of a figure, as CSV."""
        (self.path / f"{name}.csv").write_text(numbers.csv(), encoding="utf-8", errors="replace")


class Plot(NamedTuple):
    """What is drawn, as words, and as numbers."""

    name: str
    draw: Callable[[Path], None]
    title: str
    description: str
    numbers: Table

    def figure(self, folder: Folder) -> Markup:
        """Draw it, write its files, and show it."""
        svg = folder.path / f"{self.name}.svg"
        for path in (svg, svg.with_suffix(".png")):
            self.draw(path)
        folder.write(self.name, self.numbers)
        caption = folder.files(self.name, "svg", "png", "csv")
        return plot(svg.read_text(encoding="utf-8"), self.name, self.title, self.description, caption)


def check_replaceable(folder: Path) -> None:
    """Refuse a folder that holds something else than figures: it could be that of the results."""
    if folder.exists():
        other = next((name for name in sorted(os.listdir(folder)) if not FIGURE.fullmatch(name)), None)
        if other is not None:
            raise InputError(folder, f"'{other}', which is no figure of a report", "another name for the page")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Text of plots stays text, which a page can be searched for, and shows if matplotlib's own font lacks a sign."""
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def put(new: Path, target: Path, aside: Path) -> None:
    """Rename a folder to `target`; what stands there goes `aside`, and comes back if that fails."""
    if not target.exists():
        new.rename(target)
        return
    target.rename(aside)
    try:
        new.rename(target)
    except BaseException:  # Ctrl-C too
        aside.rename(target)
        raise

"""How far a run is: a bar with time left on a terminal, elsewhere a line of the logger every half minute."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pcdistill.core.log import LOG

Report = Callable[[int, str], None]
Say = Callable[[str], None]  # where lines of output go
EVERY = 30.0  # seconds from line to line


@contextmanager
def progress(title: str, total: int, start: int = 0) -> Iterator[Report]:
    """Yield `report(done, note)`.

    Lines are of level INFO, those on begin and end of DEBUG; with the logger's own level above INFO there is no bar.
    """
    began = time.monotonic()
    LOG.debug("%s: %d to do", title, total - start)
    drawn = sys.stderr.isatty() and LOG.level <= logging.INFO
    shown: AbstractContextManager[Report] = (_bar if drawn else _lines)(title, total, start)
    with shown as report:
        yield report
    LOG.debug("%s: done in %.1f s", title, time.monotonic() - began)


@contextmanager
def _bar(title: str, total: int, start: int) -> Iterator[Report]:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn(), TextColumn("left"),
        console=Console(stderr=True),
    )  # fmt: skip
    with bar:
        task = bar.add_task(title, total=total, completed=start, note="")
        yield lambda done, note: bar.update(task, completed=done, note=note)


@contextmanager
def _lines(title: str, total: int, start: int) -> Iterator[Report]:
    began = said = time.monotonic()
    first: tuple[int, float] | None = None  # what is prepared before the first report says nothing of the rest

    def report(done: int, note: str) -> None:
        nonlocal said, first
        now = time.monotonic()
        first = first or (done, now)
        if now - said < EVERY:
            return
        said, gone = now, now - began
        known, since = first
        left = f", about {(now - since) * (total - done) / (done - known):.0f} s left" if done > known else ""
        LOG.info("%s: %d of %d%s, %.0f s gone%s", title, done, total, f", {note}" if note else "", gone, left)

    yield report

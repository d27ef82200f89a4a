"""The logger of the package: what is said of a run besides its results.

Who uses the package from Python sees warnings, as of any library, and more with a level and a handler of their own:
`logging.getLogger("pcdistill")`.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pcdistill.core.errors import harmless

LOG = logging.getLogger("pcdistill")


class _Stderr(logging.Handler):
    """A line per message on what standard error is at the moment: a progress bar takes its place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # who closed standard error wants no lines, and the work goes on
            sys.stderr.write(f"pcdistill: {harmless(record.getMessage())}\n")


@contextmanager
def said(level: int) -> Iterator[None]:
    """In here, what is logged from `level` on is said on standard error."""
    handler, before = _Stderr(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(level)
    try:
        yield
    finally:
        LOG.setLevel(before)
        LOG.removeHandler(handler)

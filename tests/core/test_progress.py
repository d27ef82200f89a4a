"""How far a run is: a bar on a terminal, lines elsewhere, nothing for who asks for nothing."""

import io
import logging
import sys

import pytest

from pcdistill.cli import main
from pcdistill.core import progress as module
from pcdistill.core.log import LOG, said
from pcdistill.core.progress import progress


class Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the lines, which stands still unless it is changed."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def counted(clock: list[float]) -> None:
    """Nine steps of eleven seconds, ten things each."""
    with progress("drawing", 100) as report:
        for step in range(1, 10):
            clock[0] += 11
            report(10 * step, f"loss {step}")


def test_a_line_every_half_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with said(logging.INFO):
        counted(clock)
    assert capsys.readouterr().err.splitlines() == [
        "pcdistill: drawing: 30 of 100, loss 3, 33 s gone, about 77 s left",
        "pcdistill: drawing: 60 of 100, loss 6, 66 s gone, about 44 s left",
        "pcdistill: drawing: 90 of 100, loss 9, 99 s gone, about 11 s left",
    ]


def test_what_was_there_at_the_start_took_no_time(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with said(logging.INFO), progress("comparing", 20, 10) as report:
        clock[0] = 40.0
        report(10, "")
        clock[0] = 80.0
        report(15, "")
    assert capsys.readouterr().err.splitlines() == [
        "pcdistill: comparing: 10 of 20, 40 s gone",
        "pcdistill: comparing: 15 of 20, 80 s gone, about 40 s left",
    ]


def test_what_was_prepared_before_the_first_step_is_not_counted_on(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with said(logging.INFO), progress("distilling", 800) as report:
        clock[0] = 96.0
        report(1, "")
        clock[0] = 136.0
        report(401, "")
    assert capsys.readouterr().err.splitlines() == [
        "pcdistill: distilling: 1 of 800, 96 s gone",
        "pcdistill: distilling: 401 of 800, 136 s gone, about 40 s left",
    ]


def test_more_and_less_of_it(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with said(logging.WARNING):
        counted(clock)
    assert capsys.readouterr().err == ""
    with said(logging.DEBUG):
        counted(clock)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert (first, last) == ("pcdistill: drawing: 100 to do", "pcdistill: drawing: done in 99.0 s")


def test_python_hears_of_it_by_a_logger(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    counted(clock)
    assert caplog.messages == []  # as of any library, unless one asks
    with caplog.at_level(logging.INFO, "pcdistill"):
        counted(clock)
    assert len(caplog.messages) == 3


@pytest.mark.parametrize(("level", "drawn"), [(logging.INFO, True), (logging.WARNING, False)])
def test_a_terminal_has_a_bar_unless_it_is_to_be_quiet(
    level: int, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with said(level), progress("drawing", 2) as report:
        report(2, "")
    assert ("drawing" in sys.stderr.getvalue()) == drawn  # type: ignore[attr-defined]


def test_what_files_say_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with said(logging.INFO):
        LOG.warning("a name: %s", "\x1b[31m")
    assert capsys.readouterr().err == "pcdistill: a name: \\x1b[31m\n"


def test_a_closed_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    with said(logging.INFO):
        LOG.info("a line")


def test_the_command_line_sets_the_level(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr("pcdistill.cli._run", lambda words: levels.append(LOG.level) or len(words))
    assert main(["show", "a.h5"]) == main(["--quiet", "show", "a.h5"]) == main(["show", "a.h5", "--verbose"]) == 2
    assert levels == [logging.INFO, logging.WARNING, logging.DEBUG]
    assert LOG.level == logging.NOTSET
    assert main(["show", "--quiet", "--verbose", "a.h5"]) == 2
    assert capsys.readouterr().err == "pcdistill: error: pcdistill: --quiet and --verbose, expected one of them\n"

"""SIGTERM does what Ctrl-C does, and while a command starts both end it at once."""

import os
import signal
import subprocess
import sys

import pytest

from pcdistill import cli
from pcdistill.core.signals import leaving_at_once, terminable


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_command_that_runs_ends_in_one_line(
    number: signal.Signals, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(cli, "_run", lambda words: os.kill(os.getpid(), number))
    assert cli.main(["distill"]) == code
    assert capsys.readouterr().err == "pcdistill: interrupted\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_sigterm_is_heard_where_ctrl_c_is_ignored() -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with terminable() as asked:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert len(asked) == 1
    finally:
        signal.signal(signal.SIGINT, usual)


def test_handlers_of_others_stay() -> None:
    heard: list[int] = []
    usual = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with terminable() as asked:
            signal.raise_signal(signal.SIGTERM)
        assert (len(heard), asked) == (1, [])
    finally:
        signal.signal(signal.SIGTERM, usual)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_nothing_swallows_a_signal_while_a_command_starts(number: str, code: int) -> None:
    script = f"""
import signal
from pcdistill.core.signals import leaving_at_once
signal.signal(signal.SIGINT, signal.default_int_handler)
with leaving_at_once():
    try:
        signal.raise_signal(signal.{number})
    except BaseException:
        pass
print("lost")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "pcdistill: interrupted\n")


def test_who_ignores_ctrl_c_is_not_ended_by_it() -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with leaving_at_once():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_ctrl_c_while_the_program_is_imported_is_one_line() -> None:
    script = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pcdistill.cli":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("pcdistill", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "pcdistill: interrupted\n")

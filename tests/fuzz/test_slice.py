"""A slice of the fuzzing and the killing; `python -m tests.fuzz.run N` and `tests.fuzz.kill N` do more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.run import faults


def test_mutated_files_are_read_or_refused() -> None:
    assert faults(60) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="only Unix forks processes")
def test_what_is_killed_and_gone_on_with_has_the_same_bits() -> None:
    """In a process of its own: it forks."""
    words = [sys.executable, "-m", "tests.fuzz.kill", "3", "points"]
    ran = subprocess.run(words, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, "0 faults\n"), ran.stderr

"""A slice of the fuzzing; `python -m tests.fuzz.run N` does more."""

from tests.fuzz.run import faults


def test_mutated_files_are_read_or_refused() -> None:
    assert faults(60) == []

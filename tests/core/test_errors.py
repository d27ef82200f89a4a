"""Messages and output: one line, no longer than it can be read, with nothing that a terminal obeys."""

import pytest

from pcdistill import cli
from pcdistill.core.errors import LONGEST, InputError, harmless


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;PWNED\x07\x1b[31m", r"\x1b]0;PWNED\x07\x1b[31m"),
        ("a\x9bb\x7f", r"a\x9bb\x7f"),
        ("left\u202eright\u2066", r"left\u202eright\u2066"),
        ("b\udcffd", r"b\udcffd"),
        ("line\r", r"line\r"),
        ("a\tb\nc", "a\tb\nc"),
        ("Stühle 椅子 कुर्सी – ± ", "Stühle 椅子 कुर्सी – ± "),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_errors_are_one_line_of_a_sensible_length() -> None:
    assert str(InputError("a\x1b.h5", "b\nc", "d")) == r"a\x1b.h5: b c, expected d"
    message = str(InputError("begin", "x" * 10**6, "end"))
    assert len(message) < LONGEST + 20
    assert message.startswith("begin: xx")
    assert message.endswith("expected end")


def test_the_command_line_says_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "\x1b[31m.onnx", "\x1b[32m.off"]) == 2
    assert cli.main(["select", "--config", "\x1b[31m.toml"]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert said.err.count(r"\x1b[31m") == 2

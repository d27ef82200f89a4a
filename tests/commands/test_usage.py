"""The list that help and typing errors are answered from, and what comes of it: help, and completion."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pcdistill.cli import main
from pcdistill.commands import COMMANDS
from pcdistill.commands.usage import FILE, usages
from pcdistill.core.errors import InputError

REPOSITORY = Path(__file__).parents[2]
WRITER = REPOSITORY / "scripts" / "write_usage.py"
HELP = """
import contextlib, io, sys
from pcdistill.cli import main
for name in sys.argv[1:]:
    for words in ([name, "--help"], [name, "--no-such-flag"]):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
            assert main(words) == 2
        assert not words[1] == "--help" or f"usage: pcdistill {name}" in shown.getvalue()
assert "pcdistill.commands.usage" in sys.modules
print(*sys.modules)
"""


@pytest.mark.skipif(not WRITER.is_file(), reason="the scripts are not part of the installed package")
def test_the_list_is_what_the_commands_and_their_pages_say(script: Callable[[Path], ModuleType]) -> None:
    assert FILE.read_text(encoding="utf-8") == script(WRITER).listed(), "write it anew: make usage"


def test_help_and_typing_errors_of_every_command_import_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "numpy", "pydantic", "rich", "h5py", "scipy"} & set(done.stdout.split())
    assert done.stderr.count("unknown argument '--no-such-flag'") == len(COMMANDS)


def test_help_begins_with_what_is_required_and_ends_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["distill", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "usage: pcdistill distill --data NAME --output PATH [FLAGS]"
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings[0] == "required:"
    assert {"data:", "size:", "method:"} < set(headings)
    assert headings[-1] == "every command:"
    assert lines[-1].startswith("example: pcdistill distill --data shapes ")


def test_a_flag_without_its_value_is_an_error() -> None:
    with pytest.raises(InputError, match="pcdistill select: argument --data: expected one argument"):
        main(["--debug", "select", "--data"])


def test_examples_are_of_their_commands() -> None:
    assert all(usage.example.startswith(f"pcdistill {name}") for name, usage in usages().items())


def test_the_package_is_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "pcdistill", "distil"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 2
    assert "did you mean 'distill'?" in done.stderr

"""The command line. It finds the command, hands it its flags, and turns errors into one line.

Nothing heavy is imported before a command line is known to be one: help, versions and typing errors are answered at
once.
"""

import os
import signal
import sys
from collections.abc import Sequence

from pcdistill.commands import COMMANDS, RENAMED, command
from pcdistill.core.errors import InputError, harmless
from pcdistill.core.registry import nearest
from pcdistill.core.signals import leaving_at_once, terminable
from pcdistill.core.threads import settle

USAGE = "usage: pcdistill [--help] [--version] [--debug] COMMAND ..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    terminated = False
    try:
        with terminable() as asked:
            try:
                return _run([word for word in words if word != "--debug"])
            finally:
                terminated = bool(asked)
    except (InputError, OSError) as error:
        if debug:
            raise
        print(f"pcdistill: error: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        hint = " (the same command with --resume goes on from there)" if "saved" in str(stop) else ""
        print(f"pcdistill: {harmless(str(stop)) or 'interrupted'}{hint}", file=sys.stderr)
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


def _run(words: Sequence[str]) -> int:
    if not words:
        print(_help())
        return 2
    name, *rest = words
    if name in ("-h", "--help"):
        print(_help())
    elif name == "--version":
        from pcdistill.core.environment import versions

        print(f"pcdistill {versions()['pcdistill']}")
    elif name in RENAMED:
        raise InputError("pcdistill", f"'{name}' is called '{RENAMED[name]}' now")
    elif name not in COMMANDS:
        kind = "argument" if name.startswith("-") else "command"
        raise InputError("pcdistill", f"unknown {kind} {nearest(name, COMMANDS)}", "one of " + ", ".join(COMMANDS))
    else:
        from pcdistill.commands.usage import parse, usages

        given = parse(name, usages()[name], rest)
        settle()  # before torch is imported
        with leaving_at_once():
            found = command(name)
        from pcdistill.commands.flags import settled

        settled(name, found, given).run(lambda text: print(harmless(text), flush=True))
    return 0


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {purpose}" for name, purpose in COMMANDS.items()]
    return "\n".join(
        [
            USAGE, "", "Condense labelled sets of 3D point clouds.", "", *lines, "",
            "`pcdistill COMMAND --help` lists what a command takes; --debug shows tracebacks.",
        ]
    )  # fmt: skip


def _one_line(error: InputError | OSError) -> str:
    if isinstance(error, InputError):
        return str(error)
    reason = error.strerror or " ".join(str(error).split())
    return harmless(f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason)


if __name__ == "__main__":
    sys.exit(main())

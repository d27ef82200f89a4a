"""The command line. It finds the command, hands it its flags, and turns errors into one line.

Nothing heavy is imported before a command line is known to be one: help, versions and typing errors are answered at
once.
"""

import io
import logging
import os
import signal
import sys
from collections.abc import Collection, Sequence

from pcdistill.commands import COMMANDS, EVERYWHERE, RENAMED, command
from pcdistill.core.errors import InputError, harmless
from pcdistill.core.log import said
from pcdistill.core.registry import nearest
from pcdistill.core.signals import leaving_at_once, terminable
from pcdistill.core.threads import settle

USAGE = "usage: pcdistill [--help] [--version] [--quiet | --verbose] [--debug] COMMAND ..."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    It is 0, 1 where what came out is no good, 2 for bad input, 130 after Ctrl-C, and 143 after SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = {word for word in words if word in EVERYWHERE}
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of few letters must not cost hours of work
    terminated = False
    try:
        with terminable() as asked, said(_level(given)):
            try:
                return _run([word for word in words if word not in EVERYWHERE])
            finally:
                terminated = bool(asked)
    except BrokenPipeError:
        # Python writes what is left when it ends, and would complain of that once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print("pcdistill: error: nobody reads the output any more", file=sys.stderr)
        return 2
    except (InputError, OSError) as error:
        if "--debug" in given:
            raise
        print(f"pcdistill: error: {_one_line(error)}", file=sys.stderr)
        return error.code if isinstance(error, InputError) else 2
    except KeyboardInterrupt as stop:
        hint = " (the same command with --resume goes on from there)" if "saved" in str(stop) else ""
        print(f"pcdistill: {harmless(str(stop)) or 'interrupted'}{hint}", file=sys.stderr)
        return 128 + (signal.SIGTERM if terminated else signal.SIGINT)


def _level(given: Collection[str]) -> int:
    """From which level on the logger is heard."""
    if {"--quiet", "--verbose"} <= set(given):
        raise InputError("pcdistill", "--quiet and --verbose", "one of them")
    return logging.WARNING if "--quiet" in given else logging.DEBUG if "--verbose" in given else logging.INFO


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
            "`pcdistill COMMAND --help` lists what a command takes. --quiet shows no progress, --verbose more of it,",
            "--debug tracebacks.",
        ]
    )  # fmt: skip


def _one_line(error: InputError | OSError) -> str:
    if isinstance(error, InputError):
        return str(error)
    reason = error.strerror or " ".join(str(error).split())
    return harmless(f"{os.fsdecode(error.filename)}: {reason}" if error.filename else reason)


if __name__ == "__main__":
    sys.exit(main())

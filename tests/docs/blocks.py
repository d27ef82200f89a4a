"""The fenced blocks of a page of documentation; run as a program, it carries those of a page out, in order.

    python tests/docs/blocks.py docs/howto/method.md

Blocks with a caption are files and are written, BibTeX at the end of its file; Python is executed; commands of consoles
are run: those of pcdistill by its command line in this process, as starting it anew for every command would take most
of the time, others by a shell. It works in the current folder.
"""

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Block(NamedTuple):
    """A fenced block."""

    language: str
    caption: str  # the name of a file, or empty
    text: str
    line: int

    def commands(self) -> list[str]:
        """Of a console block, what is typed."""
        joined = self.text.replace("\\\n", "")
        return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def blocks(page: Path) -> Iterator[Block]:
    """All blocks of programs, files and commands, in order."""
    text = page.read_text(encoding="utf-8")
    fences = r"^(```+)(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^\1$"
    for found in re.finditer(fences, text, flags=re.MULTILINE | re.DOTALL):
        yield Block(found[2], found[3] or "", found[4], text[: found.start()].count("\n") + 1)


def run(page: Path) -> None:
    """Carry out a page; its Python is one session."""
    session = {"__name__": "__main__"}
    for block in blocks(page):
        if block.caption:
            with Path(block.caption).open("a" if block.language == "bibtex" else "w", encoding="utf-8") as file:
                file.write(("\n" if block.language == "bibtex" else "") + block.text)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), session)
        elif block.language == "console":
            for command in block.commands():
                _command(command)


def _command(command: str) -> None:
    program, *words = shlex.split(command)
    if program != "pcdistill":
        subprocess.run(command, shell=True, check=True)
        importlib.invalidate_caches()
        return
    from pcdistill.cli import main

    if main(words) != 0:
        raise SystemExit(f"failed: {command}")


if __name__ == "__main__":
    sys.path[0] = ""  # the current folder, as for a program that is typed in
    run(Path(sys.argv[1]))

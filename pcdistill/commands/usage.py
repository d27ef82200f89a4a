"""How commands are called: help and typing errors, answered from a list, so that nothing heavy is imported for them.

The list is `usage.json`, which `scripts/write_usage.py` (`make usage`) makes of the fields of commands and of the
examples on their pages; a test fails where it is not what they say.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

from pcdistill.commands import EVERYWHERE
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest

FILE = Path(__file__).with_name("usage.json")
REQUIRED = "required"
Kind = Literal["word", "words", "one", "several", "table", "switch"]


class Flag(NamedTuple):
    """A flag, or a word that stands without one.

    Attributes:
        key: of the field.
        heading: what it is listed under.
        kind: a positional word or several, a flag with one value, with several, with NAME=VALUE, or with none.
        metavar: what stands for a value.
        meaning: its help, with the default.
    """

    key: str
    heading: str
    kind: Kind
    metavar: str
    meaning: str

    @property
    def name(self) -> str:
        """As it is typed; of a word what stands for it."""
        return self.metavar if self.kind in ("word", "words") else flag(self.key)


class Usage(NamedTuple):
    """How a command is called.

    Attributes:
        about: what it does.
        example: a command line.
        renamed: keys of an earlier release, and what they are called now.
        flags: in order.
    """

    about: str
    example: str
    renamed: Mapping[str, str]
    flags: Sequence[Flag]


@cache
def usages() -> Mapping[str, Usage]:
    """All commands' by name."""
    listed = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Usage(about, example, renamed, [Flag(*one) for one in flags])
        for name, (about, example, renamed, flags) in listed.items()
    }


def flag(key: str) -> str:
    """How a field is called on the command line."""
    return "--" + key.replace("_", "-")


def parse(name: str, usage: Usage, arguments: Sequence[str]) -> dict[str, Any]:
    """The words of a command line by the keys that they are for; `--help` prints and exits.

    Raises:
        InputError: an unknown flag (with a suggestion), or one without its value.
    """
    return vars(_parser(name, usage).parse_args(list(arguments)))


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with a suggestion for unknown flags."""

    def __init__(self, known: Usage, **keywords: Any) -> None:
        super().__init__(**keywords, allow_abbrev=False, add_help=False)
        self.known = known

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, left = self.parse_known_args(args, namespace)
        if left:
            word = left[0].partition("=")[0]
            names = [one.name for one in self.known.flags if one.name.startswith("--")]
            keys = {one.key for one in self.known.flags}
            renamed = {flag(old): flag(new) if new in keys else new for old, new in self.known.renamed.items()}
            if word in renamed:
                raise InputError(self.prog, f"'{word}' is called '{renamed[word]}' now")
            raise InputError(self.prog, f"unknown argument {nearest(word, [*names, '--config', *EVERYWHERE])}")
        return given

    def error(self, message: str) -> NoReturn:
        raise InputError(self.prog, message)


def _parser(name: str, usage: Usage) -> argparse.ArgumentParser:
    place = f"pcdistill {name}"
    needed = [_called(one) for one in usage.flags if one.heading == REQUIRED or one.kind in ("word", "words")]
    parser = _Parser(
        usage, prog=place, usage=" ".join([place, *needed, "[FLAGS]"]), description=usage.about,
        epilog=f"example: {usage.example}", formatter_class=_Formatter,
    )  # fmt: skip
    headings = dict.fromkeys(one.heading for one in usage.flags)
    groups = {heading: parser.add_argument_group(heading) for heading in sorted(headings, key=REQUIRED.__ne__)}
    for one in usage.flags:
        _add(groups[one.heading], one)
    every = parser.add_argument_group("every command")
    every.add_argument(
        "--config", metavar="TOML", default=argparse.SUPPRESS, help="file with any of these keys; flags win"
    )
    for word, meaning in EVERYWHERE.items():
        every.add_argument(word, action="store_true", default=argparse.SUPPRESS, help=meaning)
    every.add_argument("-h", "--help", action="help", help="show this")
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The description in lines, the example as it is typed."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("example: "):
            return text
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def _called(one: Flag) -> str:
    """As it stands in the first line of the help."""
    word = f"{one.metavar} ..." if one.kind in ("words", "several") else one.metavar
    if one.kind in ("word", "words"):
        return word if one.heading == REQUIRED else f"[{word}]"
    return f"{one.name} {word}"


def _add(group: argparse._ArgumentGroup, one: Flag) -> None:
    keywords: dict[str, Any] = {"help": one.meaning.replace("%", "%%"), "default": argparse.SUPPRESS}
    if one.kind in ("word", "words"):  # never required here: a TOML file may give it
        group.add_argument(one.key, nargs="*" if one.kind == "words" else "?", metavar=one.metavar, **keywords)
    elif one.kind == "switch":
        group.add_argument(one.name, dest=one.key, action="store_true", **keywords)
    else:
        nargs = None if one.kind == "one" else "+"
        group.add_argument(one.name, dest=one.key, nargs=nargs, metavar=one.metavar, **keywords)

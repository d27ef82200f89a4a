"""Flags of a command, made from its fields."""

import argparse
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from pcdistill.commands import EVERYWHERE
from pcdistill.commands.base import Command
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options, merged, nested, read_toml, unknown


def read(name: str, kind: type[Command], arguments: Sequence[str]) -> Command:
    """A command with its settings: defaults, then the TOML file of `--config`, then flags.

    Raises:
        InputError: a flag or key that is unknown, missing or ill-typed.
        OSError: the TOML file cannot be read.
    """
    place = f"pcdistill {name}"
    given = vars(_parser(place, kind).parse_args(list(arguments)))
    tables = {key for key, field in kind.by_key().items() if is_table(field)}
    for key in tables & given.keys():
        given[key] = nested(given[key], flag(key))
    file = given.pop("config", None)
    values = {} if file is None else read_toml(Path(file), kind)
    places = dict.fromkeys(values.keys() - given.keys(), file)
    for key in tables & values.keys() & given.keys():
        given[key] = merged(values[key], given[key])
    return kind.checked({**values, **given}, place, places)


def _parser(place: str, kind: type[Command]) -> argparse.ArgumentParser:
    parser = _Parser(kind, prog=place, description=" ".join((kind.__doc__ or "").split()))
    _add_fields(parser, kind)
    return parser


class _Parser(argparse.ArgumentParser):
    """Errors in one line, with a suggestion for unknown flags."""

    def __init__(self, kind: type[Command], **keywords: Any) -> None:
        super().__init__(**keywords, allow_abbrev=False)
        self.kind = kind

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, left = self.parse_known_args(args, namespace)
        if left:
            word = left[0].partition("=")[0]
            keys = self.kind.by_key()
            flags = [flag(key) for key, field in keys.items() if not is_positional(field)]
            renamed = {flag(old): flag(new) if new in keys else new for old, new in self.kind.renamed.items()}
            raise InputError(self.prog, unknown("argument", word, [*flags, "--config", *EVERYWHERE], renamed))
        return given

    def error(self, message: str) -> NoReturn:
        raise InputError(self.prog, message)


def flag(key: str) -> str:
    """How a field is called on the command line."""
    return "--" + key.replace("_", "-")


def is_positional(field: FieldInfo) -> bool:
    """Whether a field is a word of its own."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("positional"))


def in_files_only(field: FieldInfo) -> bool:
    """Whether a field is no flag, but a key of TOML files."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("file"))


def is_table(field: FieldInfo) -> bool:
    """Whether a field is written as `NAME=VALUE ...`."""
    return get_origin(field.annotation) is dict


def _add_fields(parser: argparse.ArgumentParser, kind: type[Options]) -> None:
    for key, field in kind.by_key().items():
        if in_files_only(field):
            continue
        silent = field.default is None or field.default is False or field.default == () or field.default_factory
        default = "" if silent else f" (default: {field.default})"
        note = " (required)" if field.is_required() else default
        keywords: dict[str, Any] = {"help": f"{field.description or ''}{note}".replace("%", "%%")}
        keywords["default"] = argparse.SUPPRESS
        if is_positional(field):
            # Never required here: a TOML file may give it.
            several = get_origin(field.annotation) is tuple
            parser.add_argument(key, nargs="*" if several else "?", metavar=key.upper(), **keywords)
        elif is_table(field):
            parser.add_argument(flag(key), dest=key, nargs="+", metavar="NAME=VALUE", **keywords)
        elif get_origin(field.annotation) in (tuple, list):
            word = metavar(get_args(field.annotation)[0])
            parser.add_argument(flag(key), dest=key, nargs="+", metavar=word, **keywords)
        elif field.annotation is bool:
            parser.add_argument(flag(key), dest=key, action="store_true", **keywords)
        else:
            parser.add_argument(flag(key), dest=key, metavar=metavar(field.annotation), **keywords)
    parser.add_argument(
        "--config", metavar="TOML", default=argparse.SUPPRESS, help="file with any of these keys; flags win"
    )
    for word, meaning in EVERYWHERE.items():
        parser.add_argument(word, action="store_true", default=argparse.SUPPRESS, help=meaning)


def metavar(annotation: Any) -> str:
    """What stands for a field's value in the help."""
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) in (types.UnionType, Union):
        return metavar(get_args(annotation)[0])
    return {int: "N", float: "X", Path: "PATH"}.get(annotation, "NAME")

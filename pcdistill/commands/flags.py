"""From the fields of a command to its flags, and from flags to a command."""

import types
from collections.abc import Mapping, Sequence
from inspect import get_annotations
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from pcdistill.commands import EVERYWHERE
from pcdistill.commands.base import Command
from pcdistill.commands.usage import REQUIRED, Flag, Kind, Usage, flag, parse
from pcdistill.core.options import Options, merged, nested, read_toml


def read(name: str, kind: type[Command], arguments: Sequence[str]) -> Command:
    """A command with its settings: defaults, then the TOML file of `--config`, then flags.

    Raises:
        InputError: a flag or key that is unknown, missing or ill-typed.
        OSError: the TOML file cannot be read.
    """
    return settled(name, kind, parse(name, usage(kind), arguments))


def settled(name: str, kind: type[Command], parsed: Mapping[str, Any]) -> Command:
    """As `read`, of what `usage.parse` made of the arguments."""
    given = dict(parsed)
    tables = {key for key, field in kind.by_key().items() if is_table(field)}
    for key in tables & given.keys():
        given[key] = nested(given[key], flag(key))
    file = given.pop("config", None)
    for word in EVERYWHERE:  # the command line takes them out; who calls `read` may not
        given.pop(word.removeprefix("--"), None)
    values = {} if file is None else read_toml(Path(file), kind)
    places = dict.fromkeys(values.keys() - given.keys(), file)
    for key in tables & values.keys() & given.keys():
        given[key] = merged(values[key], given[key])
    return kind.checked({**values, **given}, f"pcdistill {name}", places)


def usage(kind: type[Options], example: str = "") -> Usage:
    """How a command is called, from its fields."""
    flags = [_flag(kind, key, field) for key, field in kind.by_key().items() if not in_files_only(field)]
    return Usage(" ".join((kind.__doc__ or "").split()), example, dict(kind.renamed), flags)


def _flag(kind: type[Options], key: str, field: FieldInfo) -> Flag:
    word = key.upper() if is_positional(field) else _word(field)
    heading = REQUIRED if field.is_required() else _heading(kind, key)
    return Flag(key, heading, _kind(field), word, (field.description or "") + _default(field))


def _heading(kind: type[Options], key: str) -> str:
    """That of the class that the field is declared in, first of all."""
    name = next(name for name, field in kind.model_fields.items() if key == (field.alias or name))
    owner = next(one for one in reversed(kind.__mro__) if name in get_annotations(one))
    return str(owner.__dict__.get("heading", Options.heading))


def _kind(field: FieldInfo) -> Kind:
    several = get_origin(field.annotation) in (tuple, list)
    if is_positional(field):
        return "words" if several else "word"
    if is_table(field):
        return "table"
    if field.annotation is bool:
        return "switch"
    return "several" if several else "one"


def _word(field: FieldInfo) -> str:
    if is_table(field):
        return "NAME=VALUE"
    several = get_origin(field.annotation) in (tuple, list)
    return metavar(get_args(field.annotation)[0] if several else field.annotation)


def _default(field: FieldInfo) -> str:
    """Nothing where nothing is what a flag stands at."""
    default = field.default
    if field.is_required() or field.default_factory or default is None or default is False or default == ():
        return ""
    words = " ".join(map(str, default)) if isinstance(default, tuple | list) else default
    return f" (default: {words})"


def is_positional(field: FieldInfo) -> bool:
    """Whether a field is a word of its own."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("positional"))


def in_files_only(field: FieldInfo) -> bool:
    """Whether a field is no flag, but a key of TOML files."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("file"))


def is_table(field: FieldInfo) -> bool:
    """Whether a field is written as `NAME=VALUE ...`."""
    return get_origin(field.annotation) is dict


def metavar(annotation: Any) -> str:
    """What stands for a field's value in the help."""
    if get_origin(annotation) is Literal:
        return "{" + ",".join(map(str, get_args(annotation))) + "}"
    if get_origin(annotation) in (types.UnionType, Union):
        return metavar(get_args(annotation)[0])
    return {int: "N", float: "X", Path: "PATH"}.get(annotation, "NAME")

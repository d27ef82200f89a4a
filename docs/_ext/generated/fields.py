"""Settings as rows of tables: the fields of pydantic models, with what their classes say of them."""

import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

# The command line's own rules, so that pages say what `--help` says.
from pcdistill.commands.flags import in_files_only, is_positional, is_table, metavar
from pcdistill.commands.usage import flag
from pcdistill.core.options import Options, every

LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TYPES = {int: "integer", float: "number", str: "text", bool: "boolean", dict: "table", Path: "path"}
REQUIRED = "required"


class Setting(NamedTuple):
    """A field of a model, as Markdown."""

    name: str
    default: str
    values: str
    meaning: str


def synopsis(command: str, kind: type[Options]) -> str:
    """How a command is called: what it cannot do without, and whether there is more."""
    fields = kind.by_key()
    needed = [_word(key, field) for key, field in fields.items() if is_positional(field) or field.is_required()]
    return " ".join(["pcdistill", command, *needed, *["[FLAGS]"] * (len(needed) < len(fields))])


def flags(kind: type[Options]) -> list[Setting]:
    """The words and flags that a command takes."""
    return [
        Setting(
            f"`{_word(key, field)}`",
            "" if field.annotation is bool else _default(field, _class_default(field), _as_words),
            _limits(field),
            field.description or "",
        )
        for key, field in kind.by_key().items()
        if not in_files_only(field)
    ]


def options(kind: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel], list[Setting]]]:
    """The settings of a model, then those of each model in it, whose names begin with a prefix and a dot."""
    yield from _nested("", kind, every(kind()))


def _nested(prefix: str, kind: type[BaseModel], defaults: Mapping[str, Any]) -> Iterator[Any]:
    inner = {name: model for name, field in kind.model_fields.items() if (model := _model_in(field.annotation))}
    yield prefix, kind, [row for name, row in settings(kind, defaults, prefix).items() if name not in inner]
    for name, model in inner.items():
        yield from _nested(f"{prefix}{name}.", model, defaults[name])


def settings(kind: type[BaseModel], defaults: Mapping[str, Any] | None = None, prefix: str = "") -> dict[str, Setting]:
    """The fields of one model, with the defaults given, or else those of its class."""
    said = attributes(kind)
    return {
        name: Setting(
            f"`{prefix}{name}`",
            _default(field, (defaults or {}).get(name, _class_default(field)), _in_toml),
            " ".join(filter(None, [_type(field.annotation), _limits(field)])),
            field.description or said.get(name, ""),
        )
        for name, field in kind.model_fields.items()
    }


def attributes(kind: type) -> dict[str, str]:
    """What the `Attributes:` of a class's docstring, and of those that it inherits from, say of each name."""
    found: dict[str, str] = {}
    for base in (base for base in reversed(kind.__mro__) if base is not BaseModel):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()
        names: list[str] = []
        for line in lines[lines.index("Attributes:") + 1 :] if "Attributes:" in lines else []:
            if line and not line.startswith(" "):
                break
            if start := re.match(r"    (\w+(?:, \w+)*): (.*)", line):
                names = start[1].split(", ")
                found.update(dict.fromkeys(names, start[2]))
            elif line.strip():
                found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def _word(key: str, field: FieldInfo) -> str:
    """A field as it is written in a command."""
    several = get_origin(field.annotation) in (tuple, list)
    if is_positional(field):
        word = f"{key.upper()} ..." if several else key.upper()
        return word if field.is_required() else f"[{word}]"
    if is_table(field):
        return f"{flag(key)} NAME=VALUE ..."
    if field.annotation is bool:
        return flag(key)
    kind = get_args(field.annotation)[0] if several else field.annotation
    return f"{flag(key)} {metavar(kind)}" + (" ..." if several else "")


def _type(annotation: Any) -> str:
    """A type in the words of the pages."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (types.UnionType, Union):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    if origin in (tuple, list):
        kinds = [_type(part) for part in parts if part is not Ellipsis]
        return ", ".join(kinds) + (" ..." if Ellipsis in parts or origin is list else "")
    return TYPES.get(origin or annotation) or getattr(annotation, "__name__", "value")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _limits(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {bound:,}"
        for rule in field.metadata
        for name, sign in LIMITS.items()
        if isinstance(bound := getattr(rule, name, None), int | float)
    ]
    return ", ".join(bounds)


def _class_default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def _default(field: FieldInfo, value: Any, written: Callable[[Any], str]) -> str:
    if field.is_required() or value is PydanticUndefined:
        return REQUIRED
    return "" if value is None or value in ((), {}, [], "") else f"`{written(value)}`"


def _in_toml(value: Any) -> str:
    """A value as an option has it; text may stand without quotes."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_in_toml, value))}]"
    if isinstance(value, BaseModel):
        changed = value.model_dump(exclude_defaults=True)
        return f"{type(value).__name__}({', '.join(f'{name}={each}' for name, each in changed.items())})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_words(value: Any) -> str:
    """A value as a flag has it."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

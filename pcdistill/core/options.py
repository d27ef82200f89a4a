"""Typed options: checked values with one-line refusals, from flags, keywords and TOML."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic.fields import FieldInfo

from pcdistill.core.devices import resolved
from pcdistill.core.errors import InputError
from pcdistill.core.limits import MOST_TEXT, read_whole
from pcdistill.core.registry import nearest

SHOWN = 80  # characters of a value that a refusal repeats: it may come from a file that is not trusted


class Options(BaseModel):
    """Base of what users set, of files' facts, of everything typed: frozen, unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    renamed: ClassVar[Mapping[str, str]] = {}
    """Names that fields had in an earlier release, and those that they have now: who uses an old one is told."""
    heading: ClassVar[str] = "options"
    """What the fields of this class stand under in the help of commands."""
    later: ClassVar[tuple[str, ...]] = ()
    """Fields that came later, not written at their defaults: what was written before, and digests of it, stay. Those of
    the classes above stay so besides."""

    @model_serializer(mode="wrap")
    def _without_later(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        late = {name for base in type(self).__mro__ for name in base.__dict__.get("later", ())}
        same = {name for name in late if getattr(self, name) == fields[name].get_default(call_default_factory=True)}
        return {name: value for name, value in write(self).items() if name not in same}

    @classmethod
    def by_key(cls) -> dict[str, FieldInfo]:
        """The fields under the names that flags, TOML files and keywords have for them."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}

    @classmethod
    def checked(
        cls, values: Mapping[str, Any], place: object = "options", places: Mapping[str, object] | None = None
    ) -> Self:
        """The options with `values`; `places` says where a key came from if that is not `place`.

        Raises:
            InputError: as `refusal` says it.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise refusal(error, place, _dotted(cls), places, cls.renamed) from None

    @classmethod
    def from_json(cls, text: str | bytes, place: object) -> Self:
        """The options that a JSON object holds, which is not trusted.

        Raises:
            InputError: no JSON; else as `refusal` says it.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise refusal(error, place, _dotted(cls), renamed=cls.renamed, kind="field") from None


def every(options: BaseModel) -> dict[str, Any]:
    """All fields of options, those of options in them too, whether they are written or not."""
    return {name: every(value) if isinstance(value, BaseModel) else value for name, value in options}


def refusal(
    error: ValidationError,
    place: object,
    known: Iterable[str] = (),
    places: Mapping[str, object] | None = None,
    renamed: Mapping[str, str] | None = None,
    kind: str = "option",
) -> InputError:
    """The first fault of values in one line: a key that is unknown (with a suggestion), missing, ill-typed or at fault.

    Args:
        error: what pydantic says.
        place: where the values are from: a file, a command, a part.
        known: keys, for the suggestion.
        places: of single keys, where that is not `place`.
        renamed: keys of an earlier release, and what they are called now.
        kind: what a key is called.
    """
    first = error.errors(include_url=False)[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):
        return cause
    key = ".".join(map(str, first["loc"]))[:SHOWN]
    where = (places or {}).get(key, place)
    if first["type"] == "extra_forbidden":
        return InputError(where, unknown(kind, key, known, renamed or {}))
    if first["type"] == "missing":
        return InputError(where, f"'{key}' is missing")
    message = expectation(first["msg"])
    if not key:
        return InputError(where, message)
    if first["type"] == "value_error" and isinstance(first["input"], BaseModel | Mapping):
        return InputError(where, f"{key}: {message}")  # values that do not fit together
    return InputError(where, f"{key} = {first['input']!r:.{SHOWN}}", message)


def _dotted(kind: type[Options]) -> Iterator[str]:
    """Keys of options, and those of options in them with dots."""
    for key, field in kind.by_key().items():
        yield key
        if isinstance(field.annotation, type) and issubclass(field.annotation, Options):
            yield from (f"{key}.{inner}" for inner in _dotted(field.annotation))


def expectation(message: str) -> str:
    """What pydantic expects, of a message such as "Input should be a valid integer"."""
    return re.sub(r"^(Value error, |\w+ should (be |have |match )?)", "", message)[:200]


def unknown(kind: str, name: str, known: Iterable[str], renamed: Mapping[str, str]) -> str:
    """What is said of an unknown name: what it is called now, or the closest one that is known."""
    return f"'{name}' is called '{renamed[name]}' now" if name in renamed else f"unknown {kind} {nearest(name, known)}"


NO_TOML = (ValueError, RecursionError)  # ValueError: no UTF-8, another syntax, or integers of thousands of digits


def read_toml(path: Path, kind: type[Options]) -> dict[str, Any]:
    """The values of a TOML file for options of this kind; types are taken strictly: 400 is no text.

    Raises:
        InputError: not TOML, an unknown key (with a suggestion), or a value of the wrong type.
        OSError: unreadable.
    """
    try:
        values = tomllib.loads(read_whole(path, MOST_TEXT).decode("utf-8-sig"))
    except InputError:
        raise
    except NO_TOML as error:
        raise InputError(path, f"not TOML ({str(error)[:200]})") from None
    fields = kind.by_key()
    for key, value in values.items():
        if key not in fields:
            raise InputError(path, unknown("option", key, fields, kind.renamed))
        annotation: Any = fields[key].annotation
        try:
            TypeAdapter(annotation).validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError as error:
            raise InputError(path, f"{key} = {value!r:.{SHOWN}}", expectation(error.errors()[0]["msg"])) from None
    return values


def nested(words: Sequence[str], place: str = "--options") -> dict[str, Any]:
    """`["ridge=0.2", "bank.networks=5"]` as `{"ridge": 0.2, "bank": {"networks": 5}}`; values as in TOML, else text."""
    options: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(place, f"'{word}'", "name=value")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except NO_TOML:
            value = text
        *outer, last = key.split(".")
        table = options
        for name in outer:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(place, f"'{word}'", f"one value or nested ones for '{name}', not both")
        table[last] = value
    return options


def merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with `changes`; mappings and models change what they name and leave the rest."""
    for key, change in changes.items():
        old = values.get(key)
        change = change.model_dump() if isinstance(change, BaseModel) else change
        values[key] = merged(dict(old), change) if isinstance(old, dict) and isinstance(change, Mapping) else change
    return values


# --- Fields that several commands have.

Positional = Field(json_schema_extra={"positional": True})
Root = Annotated[Path | None, Field(description="folder of data sets (default: PCDISTILL_DATA, else ./data)")]
UpAxis = Annotated[
    Literal["y", "z"] | None,
    Field(description="up axis of the data set's files (default: what they say, or what is usual in their layout)"),
]
LeastPoints = Annotated[int, Field(ge=1, description="points that a cloud must have where it is stored")]
SkipBad = Annotated[
    bool, Field(description="go on without clouds that cannot be read or have too few points, and list them")
]
Streamed = Annotated[bool, Field(description="read the set batch by batch: for sets larger than memory")]
Force = Annotated[bool, Field(description="replace an output that is there")]
DryRun = Annotated[bool, Field(description="say what would be made, how large and how long, and write nothing")]
Seed = Annotated[int, Field(ge=0, lt=2**32, description="of everything random")]
Device = Annotated[
    str, AfterValidator(resolved), Field(description="where it is computed: cpu, cuda, cuda:1, mps, or auto")
]
Workers = Annotated[int, Field(ge=1, description="jobs at work on a machine, which share its threads")]
Engine = Annotated[
    Literal["local", "ray"], Field(description="who does the jobs: processes of this machine, or a Ray cluster")
]
Paths = Annotated[
    tuple[Path, ...], BeforeValidator(lambda value: value if isinstance(value, list | tuple) else [value])
]
"""One path or several; a single one need not be in a list."""


class Reading(Options):
    """Where sets lie, and how they are read: flags that mean the same in every command."""

    heading: ClassVar[str] = "data"

    root: Root = None
    up_axis: UpAxis = None
    least_points: LeastPoints = 1
    skip_bad: SkipBad = False

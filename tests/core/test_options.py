"""Options: whatever is wrong with values is one line that names the place, the key, the value and what was expected."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytest
from pydantic import Field, ValidationError, model_validator

import pcdistill
from pcdistill.core.errors import InputError
from pcdistill.core.options import SHOWN, Options, every, merged, read_toml


class Bank(Options):
    networks: int = Field(default=10, ge=1)
    points: int = 256

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.points < self.networks:
            raise ValueError(f"points = {self.points}, expected at least as many as networks")
        return self


class Settings(Options):
    renamed: ClassVar[Mapping[str, str]] = {"views": "conditions"}

    name: str = Field(min_length=2)
    bank: Bank = Bank()
    kind: Literal["linear", "rbf"] = "linear"
    conditions: tuple[str, ...] = ()
    bytes_: int | None = Field(default=None, alias="bytes")


class Grown(Settings):
    later: ClassVar[tuple[str, ...]] = ("late", "more")

    late: float = 0.5
    more: tuple[int, ...] = Field(default_factory=tuple)


def test_a_later_field_is_written_where_it_differs_only() -> None:
    before = Settings(name="it")
    assert Grown(name="it").model_dump() == before.model_dump()
    assert Grown(name="it", late=0.5).model_dump_json(by_alias=True) == before.model_dump_json(by_alias=True)
    told = Grown(name="it", late=0.0, more=(1,))
    assert told.model_dump(by_alias=True) == {**before.model_dump(by_alias=True), "late": 0.0, "more": (1,)}
    assert Grown.model_validate_json(told.model_dump_json(by_alias=True)) == told
    assert told.model_dump(exclude_defaults=True, exclude={"more"}) == {"name": "it", "late": 0.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "here: 'name' is missing"),
        ({"name": "it", "knd": 1}, "here: unknown option 'knd' (did you mean 'kind'?)"),
        ({"name": "it", "bank": {"netwrks": 1}}, "here: unknown option 'bank.netwrks' (did you mean 'bank.networks'?)"),
        ({"name": "it", "views": ["z"]}, "here: 'views' is called 'conditions' now"),
        ({"name": "x"}, "here: name = 'x', expected at least 2 characters"),
        ({"name": "it", "bank": {"networks": 0}}, "here: bank.networks = 0, expected greater than or equal to 1"),
        ({"name": "it", "bank": {"points": 3}}, "here: bank: points = 3, expected at least as many as networks"),
        ({"name": "it", "bank": 3}, "here: bank = 3, expected a valid dictionary or instance of Bank"),
        ({"name": "it", "kind": "x" * 999}, f"here: kind = '{'x' * (SHOWN - 1)}, expected 'linear' or 'rbf'"),
        (
            {"name": "it", "bytes": "many"},
            "there: bytes = 'many', expected a valid integer, unable to parse string as an",
        ),
        ({"name": "it", "k" * 999: 1}, f"here: unknown option '{'k' * SHOWN}'"),
        ({"name": "it", "two\nlines": 1}, "here: unknown option 'two lines'"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, dict) else None,
)
def test_what_is_wrong_is_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as said:
        Settings.checked(values, "here", {"bytes": "there"})
    assert str(said.value).startswith(message)
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 250


def test_what_values_do_not_fit_together_is_said_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^bank: points = 3, expected at least as many as networks$"):
        Bank.checked({"points": 3}, "bank")


class Refusing(Options):
    name: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        raise InputError("name", self.name, "another")


def test_a_refusal_of_its_own_is_left_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^name: it, expected another$"):
        Refusing.checked({"name": "it"}, "here")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "[" * 100_000, "{" * 100_000, "1e999", "\udc80"])
def test_what_is_no_json_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"^file: ") as said:
        Settings.from_json(text, "file")
    assert len(str(said.value)) < 250


def test_json_and_values_make_the_same() -> None:
    made = Settings.checked({"name": "it", "bank": {"networks": 3}, "bytes": 5})
    assert Settings.from_json(made.model_dump_json(by_alias=True), "file") == made
    assert (made.bank.networks, made.bank.points, made.bytes_) == (3, 256, 5)
    assert list(Settings.by_key()) == ["name", "bank", "kind", "conditions", "bytes"]


def test_what_pydantic_says_becomes_a_line_in_one_place() -> None:
    """Elsewhere it only means that something is skipped, or is no record."""
    package = Path(pcdistill.__file__).parent
    catching = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(r"\b(except|suppress)\b.*ValidationError", path.read_text())
    }
    assert catching == {"core/options.py", "results/arms.py", "results/record.py"}


def test_options_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Bank().points = 3  # type: ignore[misc]


def test_changes_leave_what_they_do_not_name() -> None:
    values = {"ridge": 0.1, "bank": {"networks": 10, "points": 256}}
    found = merged(values, {"bank": {"points": 3}, "more": {"a": 1}})
    assert found == {"ridge": 0.1, "bank": {"networks": 10, "points": 3}, "more": {"a": 1}}
    assert merged({"bank": {"networks": 10}}, {"bank": Bank(networks=2)})["bank"] == {"networks": 2, "points": 256}
    assert merged({"bank": {"networks": 10}}, {"bank": 3}) == {"bank": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not TOML"),
        ("views = 1", "'views' is called 'conditions' now"),
        ("nme = 1", "unknown option 'nme' (did you mean 'name'?)"),
        ("bytes = '400'", "bytes = '400', expected a valid integer"),
        ("name = 3", "name = 3, expected a valid string"),
    ],
)
def test_files_that_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError) as said:
        read_toml(tmp_path / "a.toml", Settings)
    assert str(said.value).startswith(f"{tmp_path / 'a.toml'}: {message}")


def test_fields_that_came_later_stay_unwritten_below() -> None:
    class Late(Options):
        later: ClassVar[tuple[str, ...]] = ("first",)
        first: int = 1

    class Later(Late):
        later: ClassVar[tuple[str, ...]] = ("second",)
        second: int = 2

    assert Later().model_dump() == {}
    assert Later(first=3).model_dump() == {"first": 3}
    assert every(Later()) == {"first": 1, "second": 2}

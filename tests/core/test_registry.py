"""The registry: names to entries, clashes and misspellings."""

import sys
from pathlib import Path

import pytest

from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry, import_modules, nearest


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    for name, value in (("red", 1), ("green", 2), ("blue", 3)):
        registry.register(name)(value)
    return registry


def test_finds_what_was_registered(colours: Registry[int]) -> None:
    assert colours["green"] == 2
    assert "green" in colours
    assert "grey" not in colours
    assert len(colours) == 3


def test_lists_names_sorted_whatever_the_order_of_registration(colours: Registry[int]) -> None:
    assert list(colours) == ["blue", "green", "red"]


def test_register_hands_the_entry_back() -> None:
    registry: Registry[type] = Registry("thing")

    @registry.register("thing")
    class Thing: ...

    assert registry["thing"] is Thing


def test_second_entry_of_one_name_is_an_error_and_changes_nothing(colours: Registry[int]) -> None:
    with pytest.raises(KeyError, match="colour 'red' is registered twice"):
        colours.register("red")(9)
    assert colours["red"] == 1


def test_a_thing_says_what_it_stands_on() -> None:
    registry: Registry[int] = Registry("colour")
    registry.register("red", cites=("newton1704opticks",))(1)
    registry.register("own", cites=())(2)
    registry.register("silent")(3)
    assert [registry.cites(name) for name in ("red", "own", "silent", "grey")] == [
        ("newton1704opticks",), (), None, None,
    ]  # fmt: skip


def test_modules_are_imported_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shades"
    (package / "inner").mkdir(parents=True)
    (package / "__init__.py").write_text("imported = []\n")
    for name in ("dark", "bright"):
        (package / f"{name}.py").write_text(f"from shades import imported\n\nimported.append({name!r})\n")
    (package / "inner" / "__init__.py").write_text("raise AssertionError\n")
    (package / "notes.txt").write_text("no module")
    monkeypatch.syspath_prepend(tmp_path)
    import_modules("shades", [str(package)])
    assert sys.modules["shades"].imported == ["bright", "dark"]


def test_misspelt_name_is_one_line_with_hint_and_choice(colours: Registry[int]) -> None:
    expected = r"^colour: 'gren' \(did you mean 'green'\?\), expected one of blue, green, red$"
    with pytest.raises(InputError, match=expected):
        colours["gren"]


def test_name_like_no_other_gets_no_hint() -> None:
    assert nearest("xyzzy", ["red", "green"]) == "'xyzzy'"


def test_input_error_is_always_one_line() -> None:
    assert str(InputError("a\nfile", "two\n  lines", "one\tline")) == "a file: two lines, expected one line"
    assert str(InputError("file", "broken")) == "file: broken"

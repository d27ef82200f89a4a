"""The map says what the code is: its layers are those that the linter keeps, its rooms those that there are."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
MAP = (REPOSITORY / "docs" / "architecture.md").read_text()


def test_the_layers_are_those_that_the_linter_keeps() -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    (contract,) = settings["tool"]["importlinter"]["contracts"]
    shown = re.search(r"no exceptions \(`make lint`\):\n\n((?: {4}.+\n)+)", MAP)
    assert shown is not None
    assert [line.strip() for line in shown[1].splitlines()] == contract["layers"]
    assert "ignore_imports" not in contract


def test_every_room_is_on_the_map() -> None:
    package = REPOSITORY / "pcdistill"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    files = {path.stem for path in package.glob("*.py")}
    named = set(re.findall(r"^\| (.+?) \|", MAP, flags=re.MULTILINE))
    listed = {name for cell in named for name in re.findall(r"`([\w/]+)`", cell)}
    assert folders <= listed
    assert {name.strip("_") for name in files} == {"cli", "pyg", "init", "main"}
    assert {"cli", "pyg", "__init__", "__main__"} <= listed


def test_no_module_is_long_or_knows_everything() -> None:
    """450 lines, and a third of the rooms, the face for Python apart, which names what others make."""
    rooms = {path.parent.name for path in (REPOSITORY / "pcdistill").glob("*/__init__.py")} | {"cli", "pyg"}
    most = (len(rooms) + 3) // 3  # the package itself, scripts and benchmarks are rooms, too
    for path in (REPOSITORY / "pcdistill").rglob("*.py"):
        text = path.read_text()
        place = path.relative_to(REPOSITORY)
        assert len(text.splitlines()) <= 450, place
        known = set(re.findall(r"^\s*(?:from|import) pcdistill\.(\w+)", text, flags=re.MULTILINE))
        own = place.parts[1].removesuffix(".py")
        assert len(known - {own}) <= most or place.parts[1] == "__init__.py", (place, sorted(known))

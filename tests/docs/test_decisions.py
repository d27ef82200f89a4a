"""Decisions say what they rest on, indexes name every page, and what is said to stand in `docs/` is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PARTS = ["Context.", "Decision.", "Consequence.", "Rests on."]
DECISIONS = sorted((DOCS / "decisions").glob("[0-9]*.md"))


def test_decisions_are_counted_from_one() -> None:
    assert [int(page.name[:2]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_is_short_and_says_what_it_rests_on(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {int(page.name[:2])}. ")
    assert re.findall(r"^\*\*(.*?)\*\* \S", text, flags=re.MULTILINE) == PARTS
    assert len(text.splitlines()) <= 40
    ground = text.partition("**Rests on.**")[2]
    assert re.search(r"\]\(\S+\)|`test_\w+`|[Nn]o record|commit [0-9a-f]{7}", ground)


def test_tests_that_decisions_rest_on_are_there() -> None:
    named = {name for page in DECISIONS for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    tests = "\n".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "tests").rglob("test_*.py"))
    assert named
    assert named <= set(re.findall(r"^def (test_\w+)", tests, flags=re.MULTILINE))


@pytest.mark.parametrize("folder", ["decisions", "notebook"])
def test_an_index_has_a_line_for_every_page(folder: str) -> None:
    index = (DOCS / folder / "index.md").read_text(encoding="utf-8")
    pages = sorted((DOCS / folder).glob("[0-9]*.md"))
    assert re.findall(r"^(?:- |\| )\[.*?\]\(([0-9][\w-]*\.md)\)", index, flags=re.MULTILINE) == [p.name for p in pages]
    for page in pages:
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert f"[{title}]({page.name})" in index


def test_pages_that_the_sources_name_are_there() -> None:
    folders = ("pcdistill", "benchmarks", "scripts", "tests", "docs")
    files = [file for folder in folders for file in (REPOSITORY / folder).rglob("*.*")]
    files += [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
    named = {
        (page, file.name)
        for file in files
        if file.suffix in (".py", ".toml", ".md") and "_build" not in file.parts
        for page in re.findall(r"\bdocs/(?:notebook|decisions)(?:/\d[\w-]*)?\.md", file.read_text(encoding="utf-8"))
    }
    assert named
    assert not [(page, file) for page, file in sorted(named) if not (REPOSITORY / page).exists()]

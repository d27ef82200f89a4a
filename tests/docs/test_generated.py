"""What the pages take from the package: settings, papers, records and docstrings as text."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from pcdistill.artefact.citing import bibliography
from pcdistill.commands.data import Data
from pcdistill.commands.report import Report
from pcdistill.core.options import Options, Positional
from pcdistill.matching import objectives

pytest.importorskip("sphinx", reason="the extra docs is not installed")
pytest.importorskip("myst_parser", reason="the extra docs is not installed")
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """The extension, imported from its folder."""
    sys.path.insert(0, str(REPOSITORY / "docs" / "_ext"))
    try:
        for name in ("fields", "papers", "results", "directives", "autodoc"):
            import_module(f"generated.{name}")
        return import_module("generated")
    finally:
        sys.path.pop(0)


class Inner(BaseModel):
    """Of an outer one.

    Attributes:
        size, weight: two of a kind, said
            in two lines.
    """

    size: int = Field(default=1, ge=1, le=5000)
    weight: float = 0.5


class Outer(BaseModel):
    """Settings.

    Attributes:
        name: of it.
        inner: an inner one.

    More text: that is no attribute.
    """

    name: Literal["a", "b"] = "a"
    steps: tuple[int, int] = (1, 2)
    inner: Inner = Inner(size=7)


class More(Outer):
    """Settings and one more.

    Attributes:
        name: said anew.
    """

    more: bool = False


def test_docstrings_say_what_settings_mean(generated: ModuleType) -> None:
    assert generated.fields.attributes(More) == {"name": "said anew.", "inner": "an inner one."}
    both = "two of a kind, said in two lines."
    assert generated.fields.attributes(Inner) == {"size": both, "weight": both}


def test_settings_of_models_in_models_have_dots_and_the_outer_defaults(generated: ModuleType) -> None:
    (first, kind, rows), (second, inner, inner_rows) = generated.fields.options(More)
    assert (first, kind, second, inner) == ("", More, "inner.", Inner)
    assert rows == [
        ("`name`", "`a`", "`a`, `b`", "said anew."),
        ("`steps`", "`[1, 2]`", "integer, integer", ""),
        ("`more`", "`false`", "boolean", ""),
    ]
    assert inner_rows[0] == ("`inner.size`", "`7`", "integer ≥ 1, ≤ 5,000", "two of a kind, said in two lines.")


def test_every_option_of_every_objective_is_explained(generated: ModuleType) -> None:
    """Otherwise its page has an empty cell."""
    for name in objectives:
        for _, kind, rows in generated.fields.options(objectives[name].Options):
            for row in rows:
                assert row.meaning, f"{kind.__name__}: {row.name}"


def test_flags_are_those_of_the_command_line(generated: ModuleType) -> None:
    class Some(Options):
        """Nothing."""

        source: str = Field(json_schema_extra=Positional.json_schema_extra)  # type: ignore[arg-type]
        files: tuple[Path, ...] = ()
        two_words: Literal["x", "y"] | None = Field(default=None, description="a choice")
        loud: bool = False

    rows = generated.fields.flags(Some)
    assert [(row.name, row.default) for row in rows] == [
        ("`SOURCE`", "required"),
        ("`--files PATH ...`", ""),
        ("`--two-words {x,y}`", ""),
        ("`--loud`", ""),
    ]
    assert generated.fields.synopsis("some", Some) == "pcdistill some SOURCE [FLAGS]"
    assert generated.fields.synopsis("data", Data) == "pcdistill data ACTION [NAME] [FLAGS]"
    assert generated.fields.synopsis("report", Report) == "pcdistill report RESULTS ... [FLAGS]"


def test_every_paper_can_be_cited(generated: ModuleType) -> None:
    papers = generated.papers.papers()
    assert set(papers) == set(bibliography())
    for paper in papers.values():
        assert re.fullmatch(r"(19|20)\d\d", paper.year)
        assert not re.search(r"[{}\\]|--", paper.markdown()), paper.key
        assert paper.title in paper.markdown()
    assert papers["zhao2023dm"].short == "Zhao & Bilen 2023"
    assert papers["welling2009herding"].short == "Welling 2009"
    assert papers["wang2022cafe"].short == "Wang et al. 2022"
    assert papers["zhao2021dc"].markdown() == (
        "Zhao, B., Mopuri, K. R., Bilen, H. (2021). *Dataset Condensation with Gradient Matching*. "
        "International Conference on Learning Representations (ICLR)."
    )
    assert "[arXiv:1503.02531](https://arxiv.org/abs/1503.02531)" in papers["hinton2015distilling"].markdown()


def test_tables_hold_the_records_of_sets_alone(generated: ModuleType) -> None:
    results = generated.results
    lines = [line for file in results.files() for line in file.read_text().splitlines()]
    krr = [record for record in map(json.loads, lines) if record["arm"] == "krr" and "accuracy_mean" in record]
    found = results.records("krr", None)
    assert 0 < len(found) < len(krr)
    assert not [record for record in found if record.teacher]
    assert {record.condition for record in found} == {"clean"}
    assert {record.split for record in found} == {"test"}
    shapes = [record for record in results.records(None, "shapes") if record.benchmark != "zoo"]
    assert [record.arm for record in shapes] == ["random", "medoid", "krr", "whole"]
    table = results.table(shapes, arms=True).splitlines()
    assert len(table) == 2 + 4
    assert table[0].startswith("| data, arm | accuracy, % | n |")
    assert table[4].startswith("| shapes, krr | 8")
    assert "| 561 | 2 x 128 @ 8 | pointnet-small | pointnet-tiny | 128 | tuned* v2, 600 steps |" in table[4]
    assert results.records("no such arm", None) == []


def test_prose_of_docstrings_is_taken_as_written(generated: ModuleType) -> None:
    text = "a * b | c, `x * y`, [1] <tag>\n\n    loss = a * b\n"
    assert generated.directives._prose(text) == ("a \\* b \\| c, `x * y`, \\[1\\] \\<tag\\>\n\n    loss = a * b\n")
    table = generated.directives._table(("a", "b"), [("`x|y`", "p \\| q")])
    assert table == "| a | b |\n| :-- | :-- |\n| `x\\|y` | p \\| q |\n"
    assert generated.directives._sentence("see --two-words and a-b", "≥ 1") == "see `--two-words` and a-b (≥ 1)"


def test_formulas_in_docstrings_are_literal_blocks(generated: ModuleType) -> None:
    lines = [
        "Text with |a| and b_.",
        "",
        "    loss = |a| * b_",
        "",
        "where `|c|`.",
        "",
        "Args:",
        "    a: number,",
        "",
        "        more.",
    ]
    assert list(generated.autodoc._literal(lines)) == [
        "Text with \\|a\\| and b\\_.", "", "::", "", "    loss = |a| * b_", "", "where `|c|`.", "",
        "Args:", "    a: number,", "", "        more.",
    ]  # fmt: skip


def test_classes_of_settings_list_their_fields(generated: ModuleType) -> None:
    lines = ["Settings.", "", "Attributes:", "    name: of it.", "", "More."]
    generated.autodoc.process(None, "class", "Outer", Outer, None, lines)
    assert "Attributes:" not in lines
    assert "More." in lines
    assert "- `name` (`a`, `b`, default `a`): of it." in lines
    assert generated.autodoc.skip(None, "class", "model_dump", Outer.model_dump, False, None) is True
    assert generated.autodoc.skip(None, "class", "draw", print, False, None) is None

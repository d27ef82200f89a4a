"""Cells and tables against what is written by hand."""

import csv
import io
import math
from xml.etree import ElementTree

import pytest

from pcdistill.results.document import Markup
from pcdistill.results.table import Cell, Strong, Table, mean_per_cent, number, per_cent


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (Cell(0.8432, 0.0061, 3), "84.3 ± 0.6"),
        (Cell(0.8432, 0.0, 2), "84.3 ± 0.0"),
        (Cell(0.8432, 0.0061, 1), "84.3"),
        (Cell(1.0, 0.0, 1), "100.0"),
        (Cell(0.00049, 0.0004, 9), "0.0 ± 0.0"),
        (Cell(math.nan, 0.1, 3), "–"),
        (Cell.of([0.7, 0.8]), "75.0 ± 7.1"),
        (Cell.of([0.7]), "70.0"),
    ],
)
def test_a_cell_is_a_mean_and_a_spread_in_per_cent(cell: Cell, text: str) -> None:
    assert str(cell) == f"{cell}" == text


def test_numbers_and_dashes() -> None:
    assert [number(value, ".2f") for value in (0.125, -1.0, None, math.nan)] == ["0.12", "-1.00", "–", "–"]
    assert number(0.5, "+.1f") == "+0.5"
    assert [per_cent(value) for value in (0.84349, 0.0, math.nan)] == ["84.3", "0.0", "–"]
    assert mean_per_cent([0.7, 0.8]) == "75.0 % ± 7.1"
    assert mean_per_cent([0.7]) == "70.0 %"


def test_markdown_has_the_first_column_left_and_the_others_right() -> None:
    made = Table(["arm", "n", "accuracy"], [["a", 3, Cell(0.5, 0.01, 3)], ["b", None, "**7.0**"]]).markdown()
    assert made == (
        "| arm | n | accuracy |\n"
        "| :-- | --: | --: |\n"
        "| a | 3 | 50.0 ± 1.0 |\n"
        "| b | – | **7.0** |\n"
    )  # fmt: skip


def test_no_text_breaks_a_line_of_markdown() -> None:
    (line,) = Table(["a", "b"], [["x|y", "one\ntwo"]]).markdown().splitlines()[2:]
    assert line == "| x\\|y | one two |"


def test_a_cell_in_bold_is_so_where_there_is_bold() -> None:
    table = Table(["arm", "accuracy"], [["a|b", Strong(Cell(0.5, 0.1, 3))], ["c", Strong("x|y")]])
    assert table.markdown().splitlines()[2:] == ["| a\\|b | **50.0 ± 10.0** |", "| c | **x\\|y** |"]
    assert "<td><strong>50.0 ± 10.0</strong></td>" in table.html("name", "caption")
    assert table.csv().splitlines()[1:] == ["a|b,50.0 ± 10.0", "c,x|y"]


def test_csv_is_read_back() -> None:
    rows = [['a "b", c', "one\ntwo", 0.1 + 0.2], ["–", None, Cell(0.5, 0.01, 2)]]
    made = Table(["name", "text", "value"], rows).csv()
    assert list(csv.DictReader(io.StringIO(made))) == [
        {"name": 'a "b", c', "text": "one\ntwo", "value": "0.30000000000000004"},
        {"name": "–", "text": "", "value": "50.0 ± 1.0"},
    ]
    assert made.splitlines()[0] == "name,text,value"


def test_html_names_rows_and_columns_and_escapes_all_but_markup() -> None:
    rows = [["<b>", 3, Cell(0.5, 0.01, 2)], ["c", Markup("<strong>4</strong>"), None]]
    made = Table(["arm & x", "n", "accuracy"], rows).html('"numbers"', "of <what>")
    root = ElementTree.fromstring(made)
    assert root.attrib["aria-label"] == '"numbers"'
    assert "".join(root.find("./table/caption").itertext()) == "of <what>"  # type: ignore[union-attr]
    assert [cell.text for cell in root.findall("./table/thead/tr/th[@scope='col']")] == ["arm & x", "n", "accuracy"]
    assert [cell.text for cell in root.findall("./table/tbody/tr/th[@scope='row']")] == ["<b>", "c"]
    assert ["".join(cell.itertext()) for cell in root.findall("./table/tbody/tr/td")] == ["3", "50.0 ± 1.0", "4", "–"]
    assert [cell.text for cell in root.iter("strong")] == ["4"]
    assert not list(root.iter("b"))
    assert "class" not in root.find("./table").attrib  # type: ignore[union-attr]


def test_html_of_a_table_of_text() -> None:
    made = Table(["a", "command"], [["e", "f"]]).html("name", "caption", long=("command",))
    assert '<table class="words">' in made
    assert '<td class="long">f</td>' in made


def test_no_name_is_a_formula_or_html() -> None:
    table = Table(["=1", "b"], [['=HYPERLINK("http://127.0.0.1/")', "<script>\x1b[31m"], ["-0.5", "@SUM(1)"]])
    assert table.csv() == (
        "'=1,b\n" + """"'=HYPERLINK(""http://127.0.0.1/"")",<script>\x1b[31m\n""" + "-0.5,'@SUM(1)\n"
    )
    assert table.markdown().splitlines()[2] == r'| =HYPERLINK("http://127.0.0.1/") | &lt;script>\x1b[31m |'

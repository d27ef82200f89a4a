"""Parts of a page: what is escaped, and SVG files that live beside one another."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pcdistill.results.document import Markup, element, escaped, inlined, page, plot
from pcdistill.results.plots import Curve, accuracy_plot


def test_text_is_escaped_once_and_markup_not_at_all() -> None:
    assert escaped('<a href="x">&\'') == "&lt;a href=&quot;x&quot;&gt;&amp;&#x27;"
    assert escaped(escaped("<")) == "&lt;"
    assert escaped("a\x00\x85\udcff\ufffe\U0001f600\n") == "a\ufffd\ufffd\ufffd\ufffd\U0001f600\n"
    assert element("p", "<", Markup("<br>"), 3, title='"') == '<p title="&quot;">&lt;<br>3</p>'


def test_a_page_is_a_document_with_its_style() -> None:
    text = page("<>", [element("p", "&")])
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">')
    assert "<title>&lt;&gt;</title>" in text
    assert "<h1>&lt;&gt;</h1>\n<p>&amp;</p>" in text
    assert "prefers-color-scheme: dark" in text


@pytest.fixture
def svg(tmp_path: Path) -> str:
    matplotlib = pytest.importorskip("matplotlib")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        accuracy_plot([Curve("a <b> -- & c", [10.0, 20.0], [0.5, 0.6], [0.1, 0.1])], [], tmp_path / "plot.svg", "title")
    return (tmp_path / "plot.svg").read_text()


def test_an_svg_is_inlined_with_ids_of_its_own(svg: str) -> None:
    one, other = (inlined(svg, name, "<what>", "it & is") for name in ("one", "other"))
    for name, made in (("one", one), ("other", other)):
        root = ElementTree.fromstring(made)
        ids = {node.attrib["id"] for node in root.iter() if "id" in node.attrib}
        assert all(found.startswith(f"{name}-") for found in ids)
        wanted = set(re.findall(r"url\(#([^)]+)\)", made)) | {
            node.attrib["href"][1:] for node in root.iter("use")
        } | set(root.attrib["aria-labelledby"].split())  # fmt: skip
        assert ids == wanted
        assert [root[0].tag, root[0].text, root[1].tag, root[1].text] == ["title", "<what>", "desc", "it & is"]
        assert "".join(root.itertext()).count("a <b> -- & c") == 1
    assert one.replace("one-", "other-") == other


def test_an_inlined_svg_looks_like_the_file(svg: str) -> None:
    """The same marks in the same places, up to a hundredth of a point, and nothing of elsewhere."""
    made = inlined(svg, "x", "title", "description")
    assert len(made) < len(svg) / 2
    assert "http" not in made
    assert "font-family" not in made
    space = "{http://www.w3.org/2000/svg}"
    before, after = ElementTree.fromstring(svg), ElementTree.fromstring(made)
    for tag in ("path", "use", "text", "rect"):
        old, new = list(before.iter(space + tag)), list(after.iter(tag))
        assert len(old) == len(new) > 0
        for left, right in zip(old, new, strict=True):
            for key in ("d", "x", "y"):
                numbers = [
                    [float(n) for n in re.findall(r"-?\d+\.?\d*", node.attrib.get(key, ""))] for node in (left, right)
                ]
                assert numbers[1] == pytest.approx(numbers[0], abs=0.0051)
            colours = [re.findall(r"(?:fill|stroke): \S+", node.attrib.get("style", "")) for node in (left, right)]
            assert colours[0] == colours[1]
    assert before.attrib["viewBox"] == after.attrib["viewBox"]


def test_a_figure_is_named_for_those_who_do_not_see_it(svg: str) -> None:
    made = ElementTree.fromstring(plot(svg, "f", "what", "it is", element("a", "file", href="f.svg")))
    drawn = made.find("./div/svg")
    assert drawn is not None
    assert drawn.attrib["aria-labelledby"] == "f-title f-description"
    assert made.attrib["class"] == "plot"
    assert "".join(made.find("figcaption").itertext()) == "file"  # type: ignore[union-attr]

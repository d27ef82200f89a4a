"""The documentation site: it builds without a warning, is complete, says what the package says, and loads nothing."""

import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

import pcdistill
from pcdistill.cli import main
from pcdistill.commands import COMMANDS
from pcdistill.core.registry import Registry
from pcdistill.matching import objectives
from pcdistill.selection import selectors
from pcdistill.storage import storages

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
COMMON = {"--help", "--config", "--debug", "--quiet", "--verbose"}  # of all; their index says what they do


def build(pages: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build pages as `make docs` does."""
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed, reason="the extra docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    places = ["-d", str(site / "doctrees"), str(pages), str(site / "html")]
    # Colours would come between the words of messages; and nobody answers at that port: there is no network.
    environment = {**os.environ, "NO_COLOR": "1", "HTTPS_PROXY": "http://127.0.0.1:9"}
    return subprocess.run([*command, *places], capture_output=True, text=True, timeout=300, env=environment)


class Links(HTMLParser):
    """What a page has the browser load, where its anchors lead, and the places in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed"):
            self.loaded += [found["src"]] if "src" in found else []
        if tag == "link" and not set(found.get("rel", "").split()) <= {"canonical", "next", "prev", "index", "search"}:
            self.loaded.append(found.get("href", ""))
        if tag == "a" and "href" in found:
            self.anchors.append(found["href"])


@pytest.mark.slow
def test_the_site_builds_and_is_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One build, in one test: it takes most of the time of all tests here."""
    done = build(DOCS, tmp_path)
    assert done.returncode == 0, done.stderr
    site = tmp_path / "html"
    pages = {page: Links(page) for page in site.rglob("*.html")}
    check_that_nothing_is_loaded_from_elsewhere(site, pages)
    check_links(pages)
    for command in COMMANDS:
        check_flags((site / "commands" / f"{command}.html").read_text(), command, capsys)
    for name in objectives:
        check_objective((site / "methods" / f"{name}.html").read_text(), name)
    for kind, names in (("selection", selectors), ("storages", storages)):
        text = (site / "methods" / f"{kind}.html").read_text()
        assert all(f'id="{name}"' in text for name in names)
    check_exports((site / "api" / "index.html").read_text(), pages, site)
    assert "model_config" not in (site / "api" / "training.html").read_text()


def check_that_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Links]) -> None:
    for page, links in pages.items():
        outside = [link for link in links.loaded if re.match(r"(https?:)?//", link)]
        assert not outside, f"{page.name} loads {outside}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*['\"]?(https?:)?//", text), sheet


def check_links(pages: dict[Path, Links]) -> None:
    """Every link to a page of the site leads to a place that is there."""
    for page, links in pages.items():
        for link in links.anchors:
            target, _, place = link.partition("#")
            if re.match(r"\w+:", link):
                continue
            aim = (page.parent / target).resolve() if target else page.resolve()
            assert aim.exists(), f"{page.name}: {link}"
            known = pages.get(aim)
            assert not place or known is None or place in known.ids, f"{page.name}: {link}"


def check_flags(text: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The page has the flags of `--help`, and no others in its table."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    known = set(re.findall(r"^  (--[a-z][a-z0-9-]*)", capsys.readouterr().out, flags=re.MULTILINE)) - COMMON
    table = re.search(r'<table class="flags .*?</table>', text, flags=re.DOTALL)
    assert table is not None
    first_cells = re.findall(r'<tr class="row-\w+"><td[^>]*><p><code[^>]*><span class="pre">(.*?)</span>', table[0])
    assert {word for word in first_cells if word.startswith("--")} == known


def check_objective(text: str, name: str) -> None:
    for option in objectives[name].Options.model_fields:
        assert re.search(rf"<span class=\"pre\">{option}(\.\w+)?</span>", text), f"{name}: option {option}"
    assert "References" in text
    means = list(means_of(name))
    assert ("Not measured." in text) == (not means)
    for mean in means:
        assert re.search(rf"<p>{100 * mean:.1f}[ <]", text), f"{name}: a record of {mean}"


def means_of(objective: str) -> Iterable[float]:
    """Accuracies in the records of those benchmarks that measure sets and nothing else."""
    for benchmark in ("sizes", "frontier", "networks", "shapes", "quality"):
        for line in (REPOSITORY / "benchmarks" / benchmark / "records.jsonl").read_text().splitlines():
            record = json.loads(line)
            if record["objective"] == record["arm"] == objective:
                yield record["accuracy_mean"]


def check_exports(text: str, pages: dict[Path, Links], site: Path) -> None:
    """All that the package offers is described somewhere."""
    where = {name: link for link, name in re.findall(r'href="([\w./-]+#pcdistill[\w.]*\.(\w+))"', text)}
    for name in pcdistill.__all__:
        if isinstance(getattr(pcdistill, name), Registry):  # its entries have pages
            link = rf'<a [^>]*href="[^"#]+"[^>]*>(<span[^>]*>)?<code[^>]*><span class="pre">{name}</span>'
            assert re.search(link, text), name
            continue
        page, _, place = where[name].partition("#")
        assert place in pages[site / "api" / page].ids


def test_types_of_other_libraries_are_links_where_their_lists_can_be_had(tmp_path: Path) -> None:
    """Their words in backticks are not."""
    (tmp_path / "pages").mkdir()
    lines = "".join(
        f"{name} py:{kind} 1 x.html#$ -\n" for name, kind in (("torch.Tensor", "class"), ("random", "module"))
    )
    head = ["Sphinx inventory version 2", "Project: torch", "Version: 2", "The rest is compressed using zlib."]
    packed = "".join(f"# {line}\n" for line in head).encode() + zlib.compress(lines.encode())
    (tmp_path / "objects.inv").write_bytes(packed)
    conf = (DOCS / "conf.py").read_text().replace("HERE = Path(__file__).parent", f"HERE = Path({str(DOCS)!r})")
    known = {"torch": ("https://t.org", str(tmp_path / "objects.inv")), "away": ("https://a.org", None)}
    conf += f"\nintersphinx_mapping = {known!r}\n"
    conf += "html_theme = 'basic'\nhtml_static_path = []\n"
    (tmp_path / "pages" / "conf.py").write_text(conf)
    (tmp_path / "pages" / "index.md").write_text(
        "# Pages\n\n```{py:function} turned(points: torch.Tensor) -> None\n```\n\n{py:obj}`random`\n"
    )
    done = build(tmp_path / "pages", tmp_path)
    text = (tmp_path / "html" / "index.html").read_text()
    assert 'href="https://t.org/x.html#torch.Tensor"' in text
    assert "x.html#random" not in text
    assert "inventories" not in done.stderr


def test_what_is_missing_fails_the_build(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "conf.py").write_text(
        f"import sys\nsys.path[:0] = [{str(DOCS / '_ext')!r}, {str(REPOSITORY)!r}]\n"
        "extensions = ['myst_parser', 'sphinx.ext.autodoc', 'generated']\nhtml_theme = 'basic'\n"
    )
    (pages / "index.md").write_text(
        "# Pages\n\n[there is none](nowhere.md) {cite}`nobody1900`\n\n"
        "```{flags} distill\n```\n\n```{flags} distil\n```\n\n```{about} storage points\n```\n"
    )
    done = build(pages, tmp_path)
    assert done.returncode == 1
    for message in (
        "command 'select' has no page: write docs/commands/select.md",
        "objective 'krr' has no page: write docs/methods/krr.md",
        "selector 'random' has no page",
        "storage 'coded' has no page",
        "no command 'distil'; there are ",
        "no entry 'nobody1900' in references.bib",
        "'nowhere.md'",
    ):
        assert message in done.stderr, message
    assert "'distill' has no page" not in done.stderr
    assert "storage 'points' has no page" not in done.stderr


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_page(name: str) -> None:
    text = (DOCS / "commands" / f"{name}.md").read_text(encoding="utf-8")
    assert f"```{{synopsis}} {name}\n" in text
    assert f"```{{flags}} {name}\n" in text
    assert re.search(rf"^\$ pcdistill {name}\b", text, flags=re.MULTILINE), "an example"


@pytest.mark.parametrize("name", list(objectives))
def test_every_objective_has_a_page_and_its_picture_is_small(name: str) -> None:
    text = (DOCS / "methods" / f"{name}.md").read_text(encoding="utf-8")
    assert f"```{{about}} objective {name}\n" in text
    assert f"```{{options}} {name}\n" in text
    assert f"```{{numbers}}\n:arm: {name}\n" in text
    picture = DOCS / "images" / "methods" / f"{name}.png"
    if picture.name not in text:  # it may have none
        return
    assert picture.stat().st_size < 80_000
    with Image.open(picture) as image:
        assert min(image.size) > 300


def test_pictures_are_drawn_as_committed(script: Callable[[Path], object]) -> None:
    """Of what the script draws, that which takes no time: the classes."""
    drawn = script(REPOSITORY / "scripts" / "docs_pictures.py")
    shapes = pcdistill.load("shapes", "test", points=8)
    kept = drawn.of_classes(shapes)  # type: ignore[attr-defined]
    names = {shapes.class_names[label] for label in kept.hard_labels.tolist()}
    assert names == set(drawn.CLASSES)  # type: ignore[attr-defined]

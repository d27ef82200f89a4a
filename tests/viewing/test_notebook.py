"""An artefact as the value of a notebook's cell."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from pcdistill.artefact.artefact import Artefact
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import load
from tests.viewing.browser import started


@pytest.fixture(scope="module")
def artefact(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    path = tmp_path_factory.mktemp("notebook") / "a.h5"
    size = ["--clouds-per-class", "3", "--points", "32", "--objective", "dm", "--members", "1", "--steps", "3"]
    assert main(["distill", "--data", str(tiny_file), *size, "--snapshots", "1", "--output", str(path)]) == 0
    return Artefact.load(path)


@pytest.fixture(scope="module")
def real(tiny_file: Path) -> PointClouds:
    return load(str(tiny_file), "train")


class Frames(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append({"tag": tag, **dict(attributes)})


def test_a_cell_holds_one_frame_that_cannot_reach_the_notebook(artefact: Artefact) -> None:
    cell = Frames()
    cell.feed(artefact._repr_html_())
    (frame,) = cell.found
    assert frame["tag"] == "iframe"
    assert frame["sandbox"] == "allow-scripts allow-downloads"
    assert (frame["srcdoc"] or "").startswith("<!doctype html>")
    assert "connect-src 'none'" in (frame["srcdoc"] or "")


def test_a_cell_draws_in_a_browser(artefact: Artefact, real: PointClouds, tmp_path: Path) -> None:
    cell = artefact.plot(columns=2, colour="real", real=real, height=500)._repr_html_()
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><title>notebook</title><div class=output>{cell}</div>")
    with started() as browser:
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.goto(notebook.as_uri())
        frame = page.frame_locator("iframe")
        frame.locator("#stage[data-drawn]").wait_for(timeout=30_000)
        assert frame.locator(".cell").count() == 6
        assert frame.locator("#colour").input_value() == "real"
        assert page.locator("iframe").bounding_box()["height"] == 500
        frame.get_by_role("radio", name="Nearest real").click()
        assert frame.get_by_role("radio", name="Nearest real").get_attribute("aria-checked") == "true"
    assert said == []


def test_a_colouring_that_needs_more_is_refused(artefact: Artefact) -> None:
    with pytest.raises(InputError, match="'real' without a real set"):
        artefact.plot(colour="real")

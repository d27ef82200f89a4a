"""A headless Chromium for tests of pages, which notes what a page says and asks for."""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
# WebGL in software, and none of a browser's own errands.
FLAGS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip


@dataclass
class Notes:
    """What a page did besides being looked at."""

    said: list[str] = field(default_factory=list)  # on the console, and uncaught errors
    asked: list[str] = field(default_factory=list)  # addresses


@contextmanager
def started() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = os.environ.get("PCDISTILL_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium (apt-get install chromium, or PCDISTILL_CHROMIUM=/its/path)")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Any, address: str, width: int = 1000, height: int = 700, **options: Any
) -> Iterator[tuple[Any, Notes]]:
    """The page at `address` once it has drawn, and the notes on it."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    notes = Notes()
    page.on("console", lambda message: notes.said.append(message.text))
    page.on("pageerror", lambda error: notes.said.append(str(error)))
    page.on("request", lambda request: notes.asked.append(request.url))
    page.goto(address)
    page.wait_for_selector("#stage[data-drawn]", timeout=30_000)
    yield page, notes
    context.close()


def pixels(page: Any, element: Any) -> np.ndarray:
    """What is to be seen of an element (or the one of a selector), `(H, W, 3)` int."""
    settle(page)
    shot = (page.locator(element) if isinstance(element, str) else element).screenshot()
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), dtype=np.int64)


def settle(page: Any) -> None:
    """Wait until what was changed is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

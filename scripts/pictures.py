"""Makes the pictures of the README and of the documentation that show ModelNet10: `python scripts/pictures.py`.

ModelNet10 is looked for as every command does (`PCDISTILL_DATA`). The set, 10 clouds x 128 points per class at 5 bits,
is distilled with eleven snapshots and kept in `runs/view/`, which git ignores; remove it there to make it anew. Takes
some minutes the first time. The last picture needs playwright and a Chromium.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "view"
IMAGES = ROOT / "docs" / "images"
SET = ("--clouds-per-class", "10", "--points", "128", "--bits", "5", "--storage", "coded", "--snapshots", "11")
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking")


def run(*words: str | Path) -> None:
    subprocess.run([Path(sys.executable).with_name("pcdistill"), *words], check=True)


def main() -> None:
    source, page = FOLDER / "modelnet10.h5", FOLDER / "modelnet10.html"
    network, records = source.with_suffix(".safetensors"), ROOT / "benchmarks" / "results" / "quality.jsonl"
    if not source.exists():
        run("distill", "--data", "modelnet10", *SET, "--output", source)
    if not network.exists():
        run("train", source, "--network", "pointnet-tiny", "--output", network)
    run("view", source, "--initial", "--columns", "6", "--tile", "120", "--png", IMAGES / "modelnet10.png")
    run("view", source, "--columns", "2", "--evolution", IMAGES / "evolution.gif")
    run("view", source, "--real", "modelnet10", "--model", network, "--records", records, "--html", page)
    screenshot(page, IMAGES / "page.png")


def screenshot(page: Path, picture: Path) -> None:
    """The page as a browser shows it, at a moment on the way."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("PCDISTILL_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        shown = browser.new_page(viewport={"width": 1280, "height": 760})
        shown.goto(page.as_uri())
        shown.wait_for_selector("#stage[data-drawn]")
        shown.locator("#colour").select_option("moved")
        shown.wait_for_timeout(500)
        shown.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()

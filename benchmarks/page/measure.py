"""The page for the browser, of a set of forty classes: its size, how soon it is there, and how smoothly it turns.

    python -m benchmarks.page.measure        # writes records.json; some minutes, if the set is not there yet

The set is ModelNet40, 64 clouds x 128 points per class, distilled for 60 steps with five snapshots between (kept in
`runs/view/`, which git ignores), with the nearest real cloud of every one: eight clouds for each of 2,560 cells.
Chromium runs headless and draws in software (SwiftShader): a machine with a graphics card is faster. Frames per second
are those of two hundred frames, turned a little and moved on in time at each; a browser draws at most sixty.
"""

import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic

HERE = Path(__file__).parent
RECORDS = HERE / "records.json"
FOLDER = HERE.parents[1] / "runs" / "view"
SET = ("--clouds-per-class", "64", "--points", "128", "--bits", "5", "--storage", "coded", "--steps", "60",
       "--snapshots", "5")  # fmt: skip
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking")
LOADS, FRAMES = 5, 200
# Turns and plays as a user does, and waits for every frame.
PLAY = """async (frames) => {
  const { orbit, state, redraw, clouds } = viewer;
  const start = performance.now();
  for (let i = 0; i < frames; i++) {
    orbit.by(0.02, 0);
    state.time = ((i % 60) / 60) * (clouds.frames - 1);
    redraw();
    await new Promise((done) => requestAnimationFrame(done));
  }
  return (1000 * frames) / (performance.now() - start);
}"""
SEEN = "() => viewer.stage.renderer.info.render.points"


def main() -> None:
    source, page = FOLDER / "modelnet40.h5", FOLDER / "modelnet40.html"
    if not source.exists():
        run("distill", "--data", "modelnet40", *SET, "--output", str(source))
    start = time.perf_counter()
    run("view", str(source), "--html", str(page), "--real", "modelnet40")
    making = time.perf_counter() - start
    facts = {
        "command": "python -m benchmarks.page.measure", "clouds": 2560, "classes": 40, "points": 128,
        "frames_of_a_cloud": 8, "bytes": page.stat().st_size, "make_seconds": making, **measured(page),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "commit": revision(),
        "versions": versions(), "hardware": hardware(),
    }  # fmt: skip
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))


def run(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("pcdistill")), *words], check=True)


def measured(page: Path) -> dict[str, Any]:
    """Seconds until the first picture, and frames per second with few and many clouds in sight."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("PCDISTILL_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        loads = []
        for _ in range(LOADS):
            shown = browser.new_page(viewport={"width": 1280, "height": 800})
            start = time.perf_counter()
            shown.goto(page.as_uri())
            shown.wait_for_selector("#stage[data-drawn]")
            loads.append(time.perf_counter() - start)
            if len(loads) < LOADS:
                shown.close()
        speed = {}
        for cell in (132, 64):
            shown.locator("#cell").fill(str(cell))
            shown.wait_for_timeout(500)
            speed[str(cell)] = {"points_in_sight": shown.evaluate(SEEN), "fps": shown.evaluate(PLAY, FRAMES)}
        shown.locator(".cell").first.click()
        shown.wait_for_timeout(500)
        speed["one cloud"] = {"points_in_sight": shown.evaluate(SEEN), "fps": shown.evaluate(PLAY, FRAMES)}
        version = browser.version
        browser.close()
    return {"chromium": version, "load_seconds": loads, "cells": speed}


if __name__ == "__main__":
    main()

"""Makes the pictures of the documentation that show ModelNet10: `python scripts/pictures.py`.

ModelNet10 is looked for as every command does (`PCDISTILL_DATA`). The set, 10 clouds x 128 points per class at 5 bits,
is distilled with eleven snapshots and kept in `runs/view/`, which git ignores; remove it there to make it anew. Takes
some minutes the first time. The last picture needs playwright and a Chromium.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from pcdistill.clouds import PointClouds
from pcdistill.data import load
from pcdistill.results.record import read_records, write_records
from pcdistill.storage.voxels import VoxelClouds
from pcdistill.viewing import gallery

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "runs" / "view"
IMAGES = ROOT / "docs" / "images"
SET = ("--clouds-per-class", "10", "--points", "128", "--bits", "5", "--storage", "coded", "--snapshots", "11")
FRONTIER = ROOT / "benchmarks" / "frontier" / "records.jsonl"
MOST = 1300  # bytes per class of the records that are shown beside the clouds
HALVES = (
    ("bathtub", "bed", "chair", "desk", "dresser"),
    ("monitor", "night_stand", "sofa", "table", "toilet"),
)
STORED, SIDES = 20, (16, 10, 6)  # clouds of a class; of grids
FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-background-networking")


def run(*words: str | Path) -> None:
    subprocess.run([Path(sys.executable).with_name("pcdistill"), *words], check=True)


def main() -> None:
    source, page = FOLDER / "modelnet10.h5", FOLDER / "modelnet10.html"
    network, records = source.with_suffix(".safetensors"), source.with_suffix(".jsonl")
    if not source.exists():
        run("distill", "--data", "modelnet10", *SET, "--output", source)
    if not network.exists():
        run("train", source, "--network", "pointnet-tiny", "--output", network)
    for number, names in enumerate(HALVES, 1):
        picture = IMAGES / f"modelnet10-{number}.png"
        run("view", source, "--class", *names, "--initial", "--columns", "4", "--tile", "120", "--png", picture)
    beside = [one for one in read_records(FRONTIER) if one.dataset == "modelnet10"]
    write_records(records, [one for one in beside if one.bytes_per_class < MOST or one.arm == "whole"])
    run("view", source, "--real", "modelnet10", "--model", network, "--records", records, "--html", page)
    screenshot(page, IMAGES / "page.png")
    voxels(IMAGES / "voxels.png")


def voxels(picture: Path) -> None:
    """A cloud of every second class as it is, and from grids of three sizes in which 20 of every class are stored."""
    real = load("modelnet10", "train", points=1024)
    chosen = torch.cat([(real.labels == label).nonzero()[:STORED, 0] for label in range(0, real.num_classes, 2)])
    stored = PointClouds(real.points[chosen], real.labels[chosen] // 2, real.class_names[::2], real.provenance)
    first = torch.arange(STORED - 1, len(stored), STORED)
    with torch.no_grad():
        made = [VoxelClouds.of_all(stored, side, 1024).decode(first).points for side in SIDES]
    columns = torch.stack([stored.points[first], *made], 1).flatten(0, 1)
    labels = torch.arange(len(first)).repeat_interleave(1 + len(SIDES))
    title = "ModelNet10: real, and from grids of 16, 10 and 6 cells a side"
    gallery(PointClouds(columns, labels, stored.class_names, real.provenance), picture, tile=170, title=title)


def screenshot(page: Path, picture: Path) -> None:
    """The page as a browser shows it."""
    from playwright.sync_api import sync_playwright

    program = os.environ.get("PCDISTILL_CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        shown = browser.new_page(viewport={"width": 1280, "height": 900})
        shown.goto(page.as_uri())
        shown.wait_for_selector("#stage[data-drawn]")
        shown.wait_for_timeout(500)
        shown.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()

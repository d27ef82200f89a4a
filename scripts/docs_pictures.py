"""Draws `docs/images/methods/NAME.png`: clouds before and after distillation by every objective.

    python scripts/docs_pictures.py              # all of them, and evolution.gif
    python scripts/docs_pictures.py krr tm
    python scripts/docs_pictures.py evolution    # the README's: clouds on their way, some minutes

Each is what `pcdistill distill` makes of the built-in shapes with the settings below; of its classes two are drawn.
There are few steps and surrogate networks, so that all pictures take some minutes on one core.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from pcdistill.artefact import Artefact, exhibit_of
from pcdistill.cli import main
from pcdistill.clouds import PointClouds
from pcdistill.matching import objectives
from pcdistill.viewing import gallery

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "methods"
CLASSES = ("chair", "airplane")
CLOUDS, POINTS, STEPS, NETWORKS = 4, 256, 80, 2
TILE, COLOURS = 110, 96  # pixels; few colours, as the pictures are part of the repository


def draw(name: str, folder: Path) -> None:
    """Distil with the objective `name`, and write its picture."""
    made, drawn = folder / f"{name}.h5", folder / f"{name}.png"
    settings = ["--clouds-per-class", CLOUDS, "--points", POINTS, "--steps", STEPS, "--snapshots", 1]
    bank = getattr(objectives[name].Options(), "bank", None)
    if hasattr(bank, "networks"):
        settings += ["--members", NETWORKS]
    words = ["distill", "--data", "shapes", "--objective", name, *settings, "--output", made]
    if main([str(word) for word in words]):
        raise SystemExit(f"{name}: no set")
    view = exhibit_of(Artefact.load(made))
    initial = of_classes(view.clouds.with_points(view.frames[0]))
    gallery(of_classes(view.clouds), drawn, columns=CLOUDS, renderer="builtin", initial=initial, tile=TILE)
    with Image.open(drawn) as picture:
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(FOLDER / f"{name}.png", optimize=True)


def evolution() -> None:
    """The way of some clouds of `shapes`, from the first guess to the distilled ones."""
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "shapes.h5"
        size = {"clouds-per-class": 5, "points": 256, "bits": 8, "storage": "coded", "snapshots": 14}
        words = [str(word) for name, value in size.items() for word in (f"--{name}", value)]
        main(["distill", "--data", "shapes", *words, "--output", str(made)])
        shown = ["--class", "airplane", "chair", "lamp", "--columns", "4", "--tile", "110", "--force"]
        main(["view", str(made), *shown, "--evolution", str(FOLDER.parent / "evolution.gif")])


def of_classes(clouds: PointClouds) -> PointClouds:
    """The clouds of `CLASSES`."""
    wanted = torch.tensor([clouds.class_names.index(name) for name in CLASSES])
    return clouds[torch.isin(clouds.hard_labels, wanted)]


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for objective in sys.argv[1:] or [*objectives, "evolution"]:
            if objective == "evolution":
                evolution()
                continue
            start = time.monotonic()
            draw(objective, Path(scratch))
            print(f"{objective}: {time.monotonic() - start:.0f} s")

"""`pcdistill demo`: condense the built-in shapes and compare, in a few minutes on two cores."""

from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

import pcdistill as pcd
from pcdistill.commands.base import Command
from pcdistill.commands.followers import Bar
from pcdistill.commands.making import prepared
from pcdistill.condense.outcome import Outcome
from pcdistill.core.files import check_output
from pcdistill.core.options import Force, Seed
from pcdistill.core.progress import Say, progress

SIZE: dict[str, Any] = {"clouds_per_class": 2, "points": 128, "bits": 8}
STEPS = 300  # per network: the whole set sets the pace


class Demo(Command):
    """Condense the built-in shapes, draw the result, and compare with selection and the whole set."""

    output: Annotated[Path, Field(description="folder for artefacts and pictures")] = Path("demo")
    seed: Seed = 0
    force: Force = False

    def run(self, say: Say) -> None:
        file, picture = self.output / "shapes.h5", self.output / "shapes.png"
        for path in (file, picture):
            check_output(path, self.force)
        say("shapes: ten procedural families of objects")
        train, test = pcd.load("shapes", "train"), pcd.load("shapes", "test")
        outcome = Outcome()
        distilled = pcd.distill(train, **SIZE, snapshots=1, seed=self.seed, followers=[Bar(), outcome])
        distilled.save(file)
        facts = distilled.metadata
        say(f"condensed in {facts.distill_seconds:.0f} s to {file}")
        say(f"(surrogate networks: {prepared(distilled, outcome.kept)})")
        used = _draw(distilled, picture)
        say(f"picture: {picture} (drawn by {used}); more: pcdistill show {file}")
        say(f"\na PointNet is trained for {STEPS} steps on each training set: the slowest part of this demonstration")
        budget = "{clouds_per_class} clouds x {points} points, {bits} bits".format(**SIZE)
        say(f"{'training set':48} {'bytes per class':>16} {'test accuracy':>14}")
        for name in ("random", "medoid"):
            chosen = pcd.select(train, **SIZE, method=name, seed=self.seed)
            say(_row(f"{name} selection, {budget}", chosen.bytes_per_class, self._accuracy(name, chosen, test)))
        say(_row(f"distilled, {budget}", distilled.bytes_per_class, self._accuracy("distilled", distilled, test)))
        each = train.points.numel() * 4 / train.num_classes
        whole = "whole set, 100 clouds x 1024 points, float32"
        say(_row(whole, each, self._accuracy("whole set", train, test)))

    def _accuracy(self, name: str, made: "pcd.Artefact | pcd.PointClouds", test: "pcd.PointClouds") -> float:
        with progress(f"training on {name}", STEPS) as report:
            protocol = pcd.protocol("tuned").changed(steps=STEPS)
            return pcd.evaluate(made, test, protocol, seeds=[self.seed], on_progress=report).runs[0].accuracy


def _row(name: str, nbytes: float, accuracy: float) -> str:
    return f"{name:48} {nbytes:16,.0f} {100 * accuracy:12.1f} %"


def _draw(artefact: "pcd.Artefact", picture: Path) -> str:
    """First guesses beside what became of them, class by class; who drew it."""
    clouds, first = artefact.clouds, artefact.snapshots[0].float()
    each = len(clouds) // clouds.num_classes
    rows = (clouds.num_classes, each, *first.shape[1:])
    pairs = torch.cat([first.view(rows), clouds.points.view(rows)], 1).flatten(0, 1)
    labels = torch.arange(clouds.num_classes).repeat_interleave(2 * each)
    title = "left: real clouds at the start, right: distilled"
    return pcd.gallery(pcd.PointClouds(pairs, labels, clouds.class_names, clouds.provenance), picture, title=title)

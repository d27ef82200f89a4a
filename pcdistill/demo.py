"""The demonstration: condense the built-in shapes and compare, in a few minutes on two cores."""

from collections.abc import Callable
from pathlib import Path

import torch

from pcdistill import jobs
from pcdistill.clouds import PointClouds
from pcdistill.config import DemoConfig, DistillConfig
from pcdistill.data import load
from pcdistill.evaluation import evaluate
from pcdistill.progress import progress
from pcdistill.storage import Artefact
from pcdistill.training import Protocol, protocol, recipe
from pcdistill.viewing import gallery

CLOUDS, POINTS, BITS = 2, 128, 8
STEPS = 300  # per network: the whole set sets the pace


def run_demo(config: DemoConfig, say: Callable[[str], None]) -> None:
    """Condense `shapes`, print what it cost and what it gives beside selection and the whole set, and draw it."""
    folder = Path(config.output)
    plan = protocol("tuned").model_copy(update={"recipe": recipe("tuned", steps=STEPS)})
    say(f"shapes: ten procedural families of objects; a PointNet is trained for {STEPS} steps on each training set")
    train, test = load("shapes", "train"), load("shapes", "test")
    distilled = jobs.run_distill(
        DistillConfig(
            data="shapes", output=folder / "shapes.h5", clouds_per_class=CLOUDS, points=POINTS, bits=BITS, snapshots=1,
            seed=config.seed,
        )
    )  # fmt: skip
    facts = distilled.metadata
    say(f"condensed in {facts.distill_seconds:.0f} s to {folder / 'shapes.h5'}")
    say(f"(surrogate networks took {facts.prepare_seconds:.0f} s when they were made; they are kept for next time)")
    budget = f"{CLOUDS} clouds x {POINTS} points, {BITS} bits"
    say(f"\n{'training set':48} {'bytes per class':>16} {'test accuracy':>14}")
    for name in ("random", "medoid"):
        chosen = jobs.select_artefact(train, distilled.budget, name, plan, config.seed)
        reached = _accuracy(name, chosen.training_clouds, test, plan, config.seed)
        say(_row(f"{name} selection, {budget}", chosen, reached))
    reached = _accuracy("distilled", distilled.training_clouds, test, plan, config.seed)
    say(_row(f"distilled, {budget}", distilled, reached))
    whole = _accuracy("whole set", train, test, plan, config.seed)
    each = train.points[0].numel() * 4 * len(train) / train.num_classes
    say(f"{'whole set, 100 clouds x 1024 points, float32':48} {each:16,.0f} {100 * whole:12.1f} %")
    picture = folder / "shapes.png"
    shape = (train.num_classes, CLOUDS, POINTS, 3)
    pairs = torch.cat([distilled.snapshots[0].float().view(shape), distilled.clouds.points.view(shape)], 1).flatten(
        0, 1
    )
    labels = torch.arange(train.num_classes).repeat_interleave(2 * CLOUDS)
    title = "left: real clouds at the start, right: distilled"
    used = gallery(PointClouds(pairs, labels, train.class_names, distilled.clouds.provenance), picture, title=title)
    say(f"\npicture: {picture} (drawn by {used}); more: pcdistill show {folder / 'shapes.h5'}")


def _accuracy(name: str, clouds: PointClouds, test: PointClouds, plan: Protocol, seed: int) -> float:
    total = plan.recipe.total_steps(len(clouds))
    with progress(f"training on {name}", total) as report:
        found = evaluate(clouds, test, plan, [seed], report)
    return found.runs[0].accuracy


def _row(name: str, artefact: Artefact, accuracy: float) -> str:
    return f"{name:48} {artefact.bytes_per_class:16,.0f} {100 * accuracy:12.1f} %"

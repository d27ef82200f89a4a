"""How far and how long a set is distilled: the learning rate and the number of steps, where nobody names others."""

from pcdistill.condense.loop import DistillSettings
from pcdistill.condense.spec import DistillSpec
from pcdistill.matching import Objective
from pcdistill.storage import Storage

STEP_CLOUDS = 480
"""Clouds per step that the steps of objectives are meant for."""

LR = 0.02
"""Learning rate of coordinates, in units of the unit sphere's radius, at one cloud per class."""


def schedule(spec: DistillSpec, objective: Objective, storage: Storage) -> DistillSettings:
    """The settings of the loop for a storage: what `spec` says, else what follows from its kind and number of clouds.

    What a step of more than `STEP_CLOUDS` clouds costs, fewer steps save. The more clouds a class has, the less each
    has to move: the learning rate falls with the root of their number (docs/notebook/06-learning-rate.md).
    """
    clouds, classes = len(storage), len(storage.class_names)
    batch = step_clouds(classes) if spec.batch is None else spec.batch
    share = storage.patience * min(1.0, STEP_CLOUDS / min(batch, clouds))
    return DistillSettings(
        steps=round(share * objective.steps) if spec.steps is None else spec.steps,
        lr=LR / (clouds / classes) ** 0.5 if spec.lr is None else spec.lr,
        batch=batch,
        ema=spec.ema,
        rate=spec.rate,
        freeze=spec.freeze,
        snapshots=spec.snapshots,
        seed=spec.seed,
    )


def step_clouds(classes: int) -> int:
    """Clouds per step where nobody asks for another number: 40 of every class, `STEP_CLOUDS` at least."""
    return max(STEP_CLOUDS, 40 * classes)

"""Weights & Biases: a run of the project that `WANDB_PROJECT` names, else of `pcdistill`."""

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

from pcdistill.core.tracking.base import Facts, Tracker, needed, run_id, trackers


@trackers.register("wandb", cites=())
class Wandb(Tracker):
    """Losses as history, pictures as media, results in the summary; its own files lie in the folder of the run.

    Who, where and whether at all is said by its environment variables (`WANDB_ENTITY`, `WANDB_MODE=offline`).
    """

    def __init__(self, folder: Path, settings: Facts, goes_on: bool) -> None:
        super().__init__(folder, settings, goes_on)
        self.wandb = needed("wandb", "wandb")
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", "pcdistill"), name=folder.resolve().name, dir=str(folder),
            config=dict(settings), id=run_id(folder, "wandb", goes_on, lambda: uuid.uuid4().hex), resume="allow",
        )  # fmt: skip

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        self.run.log({"clouds": self.wandb.Image(str(path))}, step=step)

    def result(self, name: str, facts: Facts) -> None:
        self.run.summary[name] = dict(facts)

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)

"""TensorBoard: events in the folder of a run."""

import json
from collections.abc import Mapping
from pathlib import Path

from pcdistill.core.signals import interrupts_held
from pcdistill.core.tracking.base import Facts, Tracker, needed, only_numbers, trackers


@trackers.register("tensorboard", cites=())
class Tensorboard(Tracker):
    """Losses and numbers of results as scalars, pictures as images, results as texts.

    Ctrl-C waits until it is told: interrupted within its queue, it would never close.
    """

    def __init__(self, folder: Path, settings: Facts, goes_on: bool) -> None:
        super().__init__(folder, settings, goes_on)
        needed("tensorboard", "tensorboard")
        self.events = needed("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder))

    @interrupts_held()
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.events.add_scalar(name, value, step)

    @interrupts_held()
    def picture(self, step: int, path: Path) -> None:
        import numpy as np
        from PIL import Image

        with Image.open(path) as shown:
            self.events.add_image("clouds", np.asarray(shown.convert("RGB")), step, dataformats="HWC")

    @interrupts_held()
    def result(self, name: str, facts: Facts) -> None:
        for key, value in only_numbers(facts).items():
            self.events.add_scalar(f"{name}/{key}", value)
        self.events.add_text(name, f"```\n{json.dumps(dict(facts), indent=1)}\n```")

    @interrupts_held()
    def close(self, finished: bool) -> None:
        self.events.close()

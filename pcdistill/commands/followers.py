"""Who follows a distillation: a progress bar, a page for the browser."""

from contextlib import ExitStack

from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import Follower, learned_points
from pcdistill.core.progress import progress
from pcdistill.storage import Storage
from pcdistill.viewing import Exhibit, Live, upright

# Times that a page is shown anew.
SHOWN = 20


class Bar(Follower):
    """A progress bar with time left, on a terminal."""

    def begin(self, storage: Storage, steps: int) -> None:
        self.open = ExitStack()
        self.report = self.open.enter_context(progress("distilling", steps))

    def step(self, step: int, loss: float) -> None:
        self.report(step, f"loss {loss:.4g}")

    def end(self, finished: bool) -> None:
        self.open.close()


class Watched(Follower):
    """The clouds of a run on a page for the browser, now and then.

    Args:
        live: shows the page.
        dataset, objective: names.
        up: axis of the set's clouds that points up.
    """

    def __init__(self, live: Live, dataset: str, objective: str, up: str) -> None:
        self.live, self.dataset, self.objective, self.up = live, dataset, objective, up
        self.frames: dict[int, Tensor] = {}
        self.losses: list[float] = []
        self.before = 0

    def begin(self, storage: Storage, steps: int) -> None:
        self.storage, self.steps = storage, steps
        self.moments = {round(steps * part / SHOWN) for part in range(1, SHOWN)}
        self._show(0)

    def step(self, step: int, loss: float) -> None:
        if not self.losses:
            self.before = step - 1  # a run that goes on from a checkpoint
        self.losses.append(loss)
        if step in self.moments:
            self._show(step)

    def end(self, finished: bool) -> None:
        if finished:
            self._show(self.steps)

    def _show(self, step: int) -> None:
        storage = self.storage
        self.frames[step] = upright(learned_points(storage), self.up)
        facts = {
            "run": f"{self.objective} of {self.dataset}, step {step:,} of {self.steps:,}",
            "clouds": f"{len(storage):,} of {len(storage.class_names)} classes",
            "bytes per class": f"{storage.nbytes / len(storage.class_names):,.0f} at this step",
        }
        clouds = PointClouds(self.frames[step], storage.labels, storage.class_names)
        exhibit = Exhibit(
            f"{self.dataset}: {self.objective}", clouds, tuple(self.frames.values()), tuple(self.frames),
            losses=tuple(self.losses), before=self.before, total=self.steps,
            bits=storage.layout().get("bits", 32), facts=facts,
        )  # fmt: skip
        self.live.show(exhibit, ended=step == self.steps)

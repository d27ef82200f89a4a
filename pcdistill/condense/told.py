"""What trackers are told of a distillation: losses, pictures of its snapshots, and how it ended."""

from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import Follower
from pcdistill.core.tracking import Facts, Tracking
from pcdistill.storage import Storage
from pcdistill.viewing import gallery

# Of a snapshot's picture: clouds of every class, and the side of one.
COLUMNS, TILE = 4, 110


class Told(Follower):
    """Tells the trackers of a run.

    Args:
        tracking: all of them.
        up: axis of the set's clouds that points up.
    """

    def __init__(self, tracking: Tracking, up: str) -> None:
        self.tracking, self.up = tracking, up

    def begin(self, storage: Storage, steps: int) -> None:
        self.labels, self.names = storage.labels, storage.class_names

    def step(self, step: int, loss: float) -> None:
        self.tracking.loss(step, loss)

    def snapshot(self, step: int, points: Tensor) -> None:
        if self.tracking.folder is None:
            return
        path = self.tracking.folder / "snapshots" / f"{step:06d}.png"
        clouds = PointClouds(points, self.labels, self.names, {"up_axis": self.up})
        path.parent.mkdir(exist_ok=True)
        gallery(clouds, path, columns=COLUMNS, tile=TILE, renderer="builtin", title=f"step {step:,}")
        self.tracking.picture(step, path)

    def judged(self, before: float, after: float) -> None:
        self.tracking.result("outcome", {"loss_before": before, "loss_after": after})


def facts_of(artefact: Artefact) -> Facts:
    """Of a set that was made, what trackers are told."""
    facts = artefact.metadata
    return {
        "dataset": facts.dataset, "arm": facts.arm, "storage": facts.storage, "points": facts.points,
        "clouds_per_class": facts.clouds_per_class, "bytes_per_class": artefact.bytes_per_class,
        "distill_seconds": facts.distill_seconds, "prepare_seconds": facts.prepare_seconds,
    }  # fmt: skip

"""What a student does not know yet: real clouds weighted by its loss, so that the next set complements the last one."""

from typing import NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor
from torch.nn.functional import cross_entropy

from pcdistill.clouds import CloudSource, Weighted
from pcdistill.core.errors import InputError
from pcdistill.core.progress import progress
from pcdistill.geometry import farthest_points
from pcdistill.teaching.teacher import Teacher

BATCH = 64
FLOOR = 0.5  # of the mean weight, that a cloud without any loss keeps: none is never seen


class Focus(NamedTuple):
    """A trained student whose losses are the weights of real clouds.

    Drawing what a network gets wrong more often goes back to boosting by filtering (Freund, "Boosting a weak learning
    algorithm by majority", 1995); selecting by the loss itself is that of Loshchilov & Hutter ("Online batch selection
    for faster training of neural networks", 2016), who use its rank.

    Attributes:
        student: the network, one alone.
    """

    student: Teacher

    def losses(self, real: CloudSource) -> Tensor:
        """Cross-entropy `(N,)` float32 of the student on every cloud, in evaluation mode.

        A cloud has the points that the student is tested on (`test_points` of its protocol), thinned by farthest point
        sampling to those that it was trained on where these are fewer. Read a batch at a time.

        Raises:
            InputError: soft labels, or a student of other classes.
        """
        self.student.check(real.class_names)
        if real.labels.ndim != 1:
            raise InputError("focus", f"labels of shape {tuple(real.labels.shape)}", "one class index per cloud")
        trained, losses = self.student.members[0], []
        with progress("asking the student", len(real.labels)) as report:
            for index in torch.arange(len(real.labels)).split(BATCH):
                points = real.batch(index)[:, : trained.protocol.test_points]
                if trained.points is not None and trained.points < points.shape[1]:
                    points = farthest_points(points, trained.points)
                logits = self.student.logits(points)[0]
                losses.append(cross_entropy(logits, real.labels[index], reduction="none"))
                report(int(index[-1]) + 1, "")
        return torch.cat(losses)

    def on(self, real: CloudSource) -> Weighted:
        """The set with weights `FLOOR + (1 - FLOOR) * loss / mean loss`, whose mean is 1.

        Raises:
            InputError: as `losses`, or losses that are not finite.
        """
        losses = self.losses(real).double()
        if not losses.isfinite().all():
            raise InputError(self.student.names[0], "losses that are not finite", "a student with finite weights")
        mean = losses.mean()
        share = losses / mean if mean > 0 else torch.ones_like(losses)
        return Weighted(real, FLOOR + (1 - FLOOR) * share)

    def describe(self) -> dict[str, JsonValue]:
        """What an artefact says of it: no folders."""
        facts = self.student.describe()
        return {"student": facts["teacher"], "sha256": facts["sha256"], "network": facts["network"], "floor": FLOOR}

"""The teacher beside the student in training (`training.supervision.Supervision`)."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from pcdistill.models import Network
from pcdistill.teaching.teacher import Teacher
from pcdistill.training.supervision import Batch, OnBatch


class Online(NamedTuple):
    """The teacher labels every cloud as the student sees it, augmented.

    Beyer et al. ("Knowledge distillation: a good teacher is patient and consistent", CVPR 2022): one view for both.
    It costs no byte of the set, but the teacher has to be there, and passes every cloud of every step.
    """

    teacher: Teacher

    @property
    def follows(self) -> bool:
        return False

    def describe(self) -> dict[str, JsonValue]:
        """What a record or a student's file says of it."""
        return self.teacher.describe()

    def begin(self, seeds: Sequence[int]) -> OnBatch:
        def on_batch(batch: Batch, students: Sequence[Network]) -> Batch:
            return batch._replace(labels=self.teacher.probabilities(batch.points))

        return on_batch

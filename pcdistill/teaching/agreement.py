"""How alike a teacher and a student think: on the clouds that the student is shown, and on those it errs on.

That agreement at the states which the student visits goes with a distillation that works, and the top-k overlap as its
measure, are from "Rethinking on-policy distillation" (arXiv 2604.13016), where states are prefixes of texts; here they
are augmented clouds.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.models import Network
from pcdistill.teaching.teacher import Teacher
from pcdistill.training.loop import predict
from pcdistill.training.supervision import Batch, OnBatch, Supervision

TOP = 3


class Agreement(NamedTuple):
    """Of a teacher with a student over some clouds; the last three over those that the student gets wrong.

    Attributes:
        overlap: share of the student's `TOP` most probable classes that are among the teacher's.
        kl: KL(teacher || student), in nats.
        entropy_gap: mean entropy of the teacher less that of the student, in nats.
        mistakes: share of the clouds that the student gets wrong.
        corrected: share of these that the teacher gets right; NaN without mistakes, as the next ones.
        truth: probability that the teacher gives the right class there.
        shared: share of these at which the teacher says what the student says.
    """

    overlap: float
    kl: float
    entropy_gap: float
    mistakes: float
    corrected: float
    truth: float
    shared: float


def agreement(teacher: Tensor, student: Tensor, classes: Tensor, top: int = TOP) -> Agreement:
    """Of probabilities `(N, C)` of a teacher and of a student with the classes `(N,)` of the same clouds.

    With fewer than `top` classes all of them are compared.
    """
    k = min(top, teacher.shape[1])
    teachers, students = (probabilities.topk(k, 1).indices for probabilities in (teacher, student))
    overlap = (teachers[:, :, None] == students[:, None]).any(2).double().mean()
    logs = [probabilities.double().clamp_min(1e-30).log() for probabilities in (teacher, student)]
    kl = (teacher * (logs[0] - logs[1])).sum(1).mean()
    entropy = [-(p * log).sum(1).mean() for p, log in zip((teacher, student), logs, strict=True)]
    wrong = student.argmax(1) != classes
    says, truth = teacher[wrong].argmax(1), classes[wrong]
    return Agreement(
        overlap=overlap.item(),
        kl=kl.item(),
        entropy_gap=(entropy[0] - entropy[1]).item(),
        mistakes=wrong.double().mean().item(),
        corrected=(says == truth).double().mean().item(),
        truth=teacher[wrong].gather(1, truth[:, None]).double().mean().item(),
        shared=(says == student[wrong].argmax(1)).double().mean().item(),
    )


class Watched(NamedTuple):
    """Supervision, watched: every so many steps agreement on the clouds of the step is noted before they are learned.

    Both are compared at the teacher's temperature. What is trained stays the same to the last bit: the student is asked
    in evaluation mode.

    Attributes:
        supervision: what is watched; None for none.
        teacher: who is compared with the student.
        every: steps from one note to the next.
        notes: of all trainings, seed, step and agreement, in order.
    """

    supervision: Supervision | None
    teacher: Teacher
    every: int
    notes: list[tuple[int, int, Agreement]]

    @property
    def follows(self) -> bool:
        return True

    def begin(self, seeds: Sequence[int]) -> OnBatch:
        inner = None if self.supervision is None else self.supervision.begin(seeds)

        def on_batch(batch: Batch, students: Sequence[Network]) -> Batch:
            given = batch if inner is None else inner(batch, students)
            if batch.step % self.every == 0:
                guesses = (predict(students[0], given.points) / self.teacher.temperature).softmax(1)
                students[0].train()
                answers = self.teacher.probabilities(given.points)
                noted = agreement(answers.cpu(), guesses.cpu(), given.classes.cpu())
                self.notes.append((seeds[0], batch.step, noted))
            return given

        return on_batch


def before_training(teacher: Teacher, student: Network, points: Tensor, classes: Tensor) -> Agreement:
    """Of a teacher with a student that was trained without it, on clouds as the student sees them."""
    with torch.no_grad():
        return agreement(teacher.probabilities(points), predict(student, points).softmax(1), classes)

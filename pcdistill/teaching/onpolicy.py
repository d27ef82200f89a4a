"""Teaching where the student is wrong or unsure: clouds are chosen, and made, by what it makes of them.

On-policy distillation of language models (GKD: Agarwal et al., "On-policy distillation of language models: learning
from self-generated mistakes", ICLR 2024) trains a student on what it writes itself, labelled by the teacher, in a
share of the steps. A classifier writes nothing; its policy is what it is asked about. Here a share of every batch is
given to clouds that the student is unsure of, made of those that were drawn, and the teacher says what they are.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import ConfigDict, Field, JsonValue, model_validator
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from pcdistill.core.options import Options
from pcdistill.geometry import gather_points, nearest_indices
from pcdistill.models import Network
from pcdistill.teaching.teacher import Teacher
from pcdistill.training.augment import Augmentation, apply
from pcdistill.training.loop import predict
from pcdistill.training.supervision import Batch, OnBatch

# What `augment` adds to the recipe's own augmentation.
STRONG = Augmentation(scale=1.25, stretch=1.5, shift=0.1, jitter=0.02, tilt=15, drop=0.5)
ASCENTS = 3  # equal moves up the gradient that `move` makes
NEIGHBOURS = 8  # that a tangent plane is laid through

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class OnPolicyOptions(Options):
    """How a student is taught on its own policy.

    Attributes:
        kind: what the clouds are that take places in a batch. `augment`: drawn clouds, changed more than the recipe
            does (`STRONG`); `mix`: a part of one in place of a part of another (`mixed`); `move`: drawn clouds, moved
            to where the student is less sure (`moved`). `relabel` makes none: only the labels of drawn clouds change.
        choose: which candidates: those of the greatest `entropy` of the student's probabilities; of the greatest
            `disagreement` KL(teacher || student), for which the teacher labels all of them; or at `random`, which tells
            what making clouds does from what choosing them does. Relabelled are those first that the student gets
            wrong, and then those of the greatest entropy, or any at random.
        share: of a batch's places (GKD's lambda).
        warm: share of the steps, the first ones, in which nothing is chosen.
        candidates: per place.
        epsilon: how far `move` moves a point at most, in units of the unit sphere's radius.
    """

    model_config = ConfigDict(strict=True)

    kind: Literal["relabel", "augment", "mix", "move"] = "mix"
    choose: Literal["entropy", "disagreement", "random"] = "entropy"
    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.5
    warm: Share = 0.2
    candidates: Annotated[int, Field(ge=1, le=64)] = 2
    epsilon: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.05

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "relabel" and self.choose == "disagreement":
            raise ValueError("choose = disagreement with kind = relabel, expected entropy or random: no teacher before")
        return self


@dataclass
class Calls:
    """What a teacher was asked so far, of all trainings together."""

    clouds: int = 0
    seconds: float = 0.0


class Proposals(NamedTuple):
    """Clouds that may take places in a batch."""

    points: Tensor  # (M, N, 3)
    classes: Tensor  # (M,) class that most of a cloud's points come from


@dataclass(frozen=True)
class OnPolicy:
    """The teacher labels clouds that the student is unsure of; the batch keeps its size.

    The chosen clouds take the last places of a batch, whose order is random. A set with stored soft labels is
    labelled by the teacher in these places only. With hard labels it labels every cloud of every step, as `Online`
    does, unless `kind` is `relabel`: then clouds that were not chosen keep their hard label and its loss.
    """

    teacher: Teacher
    options: OnPolicyOptions
    calls: Calls = field(default_factory=Calls, compare=False)

    @property
    def follows(self) -> bool:
        return True

    def describe(self) -> dict[str, JsonValue]:
        """What a record or a student's file says of it."""
        return {**self.teacher.describe(), "policy": self.options.model_dump(mode="json")}

    def begin(self, seeds: Sequence[int]) -> OnBatch:
        generator = _generator(seeds)

        def on_batch(batch: Batch, students: Sequence[Network]) -> Batch:
            (student,) = students
            warm = batch.step < self.options.warm * batch.total
            places = max(1, round(self.options.share * len(batch.points)))
            if self.options.kind == "relabel":
                return batch if warm else self._relabelled(batch, student, places, generator)
            chosen = torch.zeros(len(batch.points), dtype=torch.bool, device=batch.points.device)
            if not warm:
                batch = self._shown(batch, student, places, generator)
                chosen[-places:] = True
            return self._labelled(batch, chosen | (batch.labels.ndim == 1))

        return on_batch

    def _relabelled(self, batch: Batch, student: Network, places: int, generator: torch.Generator) -> Batch:
        """The teacher's labels for what the student is wrong about, and then unsure of."""
        best = most(self._scores(student, batch.points, generator, batch.classes), places)
        chosen = torch.zeros(len(batch.points), dtype=torch.bool, device=batch.points.device)
        chosen[best.to(chosen.device)] = True
        return self._labelled(batch, chosen)

    def _shown(self, batch: Batch, student: Network, places: int, generator: torch.Generator) -> Batch:
        """The batch with chosen candidates in its last places, their labels not yet given."""
        made = self._proposals(batch, student, places * self.options.candidates, generator)
        best = most(self._scores(student, made.points, generator), places).to(made.points.device)
        points, classes = batch.points.clone(), batch.classes.clone()
        points[-places:], classes[-places:] = made.points[best], made.classes[best]
        return batch._replace(points=points, classes=classes)

    def _proposals(self, batch: Batch, student: Network, count: int, generator: torch.Generator) -> Proposals:
        """Clouds made of the batch's, each cloud in its turn."""
        size, points = len(batch.points), batch.points.shape[1]
        drawn = torch.randperm(size, generator=generator).repeat(-(-count // size))[:count].to(batch.points.device)
        clouds, classes = batch.points[drawn], batch.classes[drawn]
        if self.options.kind == "mix":
            further = torch.randint(1, size, (count,), generator=generator).to(drawn)
            return Proposals(mixed(clouds, batch.points[(drawn + further) % size], generator), classes)
        if self.options.kind == "move":
            clouds, classes = clouds[:size], classes[:size]  # moved twice, a cloud would be there twice
            labels = self._ask(clouds) if self.options.choose == "disagreement" else None
            far = self.options.epsilon
            return Proposals(moved(student, clouds, far, ASCENTS, labels, self.teacher.temperature), classes)
        return Proposals(apply(clouds, STRONG.draw(count, points, generator)), classes)

    def _scores(
        self, student: Network, points: Tensor, generator: torch.Generator, classes: Tensor | None = None
    ) -> Tensor:
        """How much clouds `(M, N, 3)` want to be chosen, `(M,)`; given `classes`, mistakes come first."""
        if self.options.choose == "random":
            return torch.rand(len(points), generator=generator)
        logits = _guesses(student, points)
        if self.options.choose == "disagreement":
            return disagreement(logits, self._ask(points), self.teacher.temperature)
        if classes is None:
            return entropy(logits)
        return entropy(logits) + (logits.argmax(1) != classes) * math.log(logits.shape[1])  # no entropy is greater

    def _labelled(self, batch: Batch, wanted: Tensor) -> Batch:
        """The batch with the teacher's labels where they are `wanted`, `(B,)` bool."""
        if not wanted.any():
            return batch
        answers = self._ask(batch.points[wanted])
        hard = batch.labels.ndim == 1
        labels = one_hot(batch.labels, answers.shape[1]).to(answers) if hard else batch.labels.clone()
        labels[wanted] = answers.to(labels)
        return batch._replace(labels=labels, labelled=wanted if hard and not wanted.all() else None)

    def _ask(self, points: Tensor) -> Tensor:
        start = time.perf_counter()
        answers = self.teacher.probabilities(points)
        self.calls.clouds += len(points)
        self.calls.seconds += time.perf_counter() - start
        return answers


def entropy(logits: Tensor) -> Tensor:
    """Of softmax(logits) `(B, C)`, in nats: `(B,)`. Differentiable."""
    logs = log_softmax(logits, 1)
    return -(logs.exp() * logs).sum(1)


def disagreement(logits: Tensor, labels: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(labels || softmax(logits / temperature)), in nats, of `(B, C)` both: `(B,)`. Differentiable."""
    return torch.xlogy(labels, labels).sum(1) - (labels * log_softmax(logits / temperature, 1)).sum(1)


def most(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` greatest scores `(M,)`, greatest first, the lower index before an equal one."""
    return scores.argsort(descending=True, stable=True)[:count]


def mixed(first: Tensor, second: Tensor, generator: torch.Generator) -> Tensor:
    """Clouds with a part of them replaced by as many points of others.

    PointCutMix (Zhang et al., "PointCutMix: regularization strategy for point cloud classification", 2021) in its two
    forms, drawn with probability one half each: points of both at random, or those nearest to a point of the first
    cloud. We take the nearest of either cloud instead of assigning points to one another, and never more than half of
    the points, so that a cloud's class stays that of its larger part. How many is uniform.

    Args:
        first: `(M, N, 3)`, any frame.
        second: `(M, N, 3)`, in the same.
        generator: of the draws, on the processor.

    Returns:
        `(M, N, 3)`, points in another order.
    """
    clouds, points = first.shape[:2]
    replaced = torch.randint(points // 2 + 1, (clouds, 1), generator=generator)
    centre = torch.randint(points, (clouds, 1), generator=generator).to(first.device)
    local = (torch.rand(clouds, 1, generator=generator) < 0.5).to(first.device)
    middle = gather_points(first, centre)
    order, other = (
        torch.where(local, (part - middle).square().sum(2), torch.rand(clouds, points, generator=generator).to(part))
        for part in (first, second)
    )
    taken = (torch.arange(points) < replaced)[..., None].to(first.device)
    return torch.where(taken, gather_points(second, other.argsort(1)), gather_points(first, order.argsort(1)))


def moved(
    student: Network,
    points: Tensor,
    epsilon: float,
    steps: int = ASCENTS,
    labels: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Clouds with points moved along their surface to where the student is less sure.

    In each of `steps` equal moves every point goes up the gradient of the student's entropy, or of its disagreement
    with `labels`, which are held fixed: normalised point by point, which is the steepest way when the longest move of
    a point counts. Only what lies in the tangent plane of the point is kept of it, the plane in which its `NEIGHBOURS`
    nearest points vary most (Hoppe et al., "Surface reconstruction from unorganized points", SIGGRAPH 1992). Points
    that the student does not look at have no gradient and stay.

    Args:
        student: seen in evaluation mode, with its weights, their gradients and its statistics left alone.
        points: `(B, N, 3)`, in the unit sphere.
        epsilon: bound of every point's move, in the same units.
        steps: moves.
        labels: `(B, C)` probabilities, or None for the entropy.
        temperature: that these are given at.

    Returns:
        `(B, N, 3)`.
    """
    start = points.detach()
    normal, place = normals(start), start
    with _evaluating(student), torch.enable_grad():
        for _ in range(steps):
            leaf = place.clone().requires_grad_()
            logits = student(leaf).logits
            aim = entropy(logits) if labels is None else disagreement(logits, labels, temperature)
            (slope,) = torch.autograd.grad(aim.sum(), leaf)
            along = slope - (slope * normal).sum(2, keepdim=True) * normal
            length = torch.linalg.vector_norm(along, dim=2, keepdim=True)
            place = place + (epsilon / steps) * torch.where(length > 0, along / length, 0)
    return place.detach()


def normals(points: Tensor) -> Tensor:
    """Unit normals `(B, N, 3)` of points `(B, N, 3)`, signs open: the direction in which neighbours vary least."""
    index = nearest_indices(points, points, min(NEIGHBOURS + 1, points.shape[1]))
    around = gather_points(points, index)
    around = around - around.mean(dim=2, keepdim=True)
    axes: Tensor = torch.linalg.eigh(around.transpose(2, 3) @ around).eigenvectors
    return axes[..., 0]


@contextmanager
def _evaluating(student: Network) -> Iterator[None]:
    """Evaluation mode, and back to the mode before."""
    training = student.training
    student.eval()
    try:
        yield
    finally:
        student.train(training)


def _guesses(student: Network, points: Tensor) -> Tensor:
    """The student's logits in evaluation mode."""
    with _evaluating(student):
        return predict(student, points)


def _generator(seeds: Sequence[int]) -> torch.Generator:
    """Apart from that of order and augmentation, which stay as they are without it."""
    digest = hashlib.sha256(f"on policy {list(seeds)}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))

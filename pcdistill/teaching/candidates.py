"""Which teacher: snapshots along the training of several networks, and what is known of each beforehand.

A stronger network is not always the better teacher, and one that was stopped early may teach better than itself at the
end (Cho & Hariharan, "On the efficacy of knowledge distillation", ICCV 2019); for labels of condensed sets Qin et al.
("A label is worth a thousand images in dataset distillation", NeurIPS 2024) found early snapshots best. An assistant of
a size in between may stand between a large teacher and a small student (Mirzadeh et al., "Improved knowledge
distillation via teacher assistant", AAAI 2020).
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.geometry import normalise
from pcdistill.models import STUDENTS, Network, build, networks
from pcdistill.teaching.agreement import Agreement
from pcdistill.training.augment import apply
from pcdistill.training.loop import OnStep, train
from pcdistill.training.recipe import Recipe
from pcdistill.training.supervision import Supervision

# What is rank-correlated with the student's accuracy.
MEASURES = ("teacher_accuracy", *Agreement._fields)


class Candidate(Options):
    """One teacher at one temperature, and the students that it taught.

    Attributes:
        teacher: its name: NETWORK@STEP, two with + as an ensemble, or BIG > MIDDLE for an assistant of the big one.
        files: of its networks, inside `teachers`.
        steps: that its networks were trained, together; an assistant's include those of its own teacher.
        temperature: that its logits are divided by.
        teacher_accuracy: on held-out training clouds.
        before: agreement (at temperature 1) with a student that was briefly trained on hard labels, on its inputs;
            None where that is undefined.
        train_seconds, train_gflops: of its training.
        label_seconds, label_gflops: of labelling every cloud of one student's training.
        nbytes: of its files.
        student_accuracy: on held-out clouds, one per seed; empty where no student was trained.
    """

    teacher: str
    files: tuple[str, ...]
    steps: int
    temperature: float
    teacher_accuracy: float
    before: dict[str, float | None]
    train_seconds: float
    train_gflops: float
    label_seconds: float
    label_gflops: float
    nbytes: int
    student_accuracy: tuple[float, ...] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy of its students; NaN without any."""
        return sum(self.student_accuracy) / len(self.student_accuracy) if self.student_accuracy else float("nan")

    def measure(self, name: str) -> float:
        """One of `MEASURES`; NaN where it is undefined."""
        value = self.teacher_accuracy if name == "teacher_accuracy" else self.before[name]
        return float("nan") if value is None else value


def snapshot_steps(total: int, shares: Sequence[float]) -> tuple[int, ...]:
    """Steps after which a training of `total` steps is kept: these shares of it, at least one step, ascending."""
    return tuple(sorted({max(1, round(share * total)) for share in shares}))


def snapshots(
    name: str,
    clouds: PointClouds,
    recipe: Recipe,
    seed: int,
    steps: Sequence[int],
    on_step: OnStep | None = None,
    supervision: Supervision | None = None,
    device: str = "cpu",
) -> dict[int, Network]:
    """One training of a network, and what it was after each of `steps`, in evaluation mode.

    A snapshot before the end is one in mid-schedule: its learning rate has not fallen yet. That is what "stopped early"
    means here, and in Qin et al.; a shorter schedule of its own would be another training. Batch-norm statistics are
    those gathered so far.

    Args:
        name: registered network.
        clouds, recipe, seed, supervision: as in `training.train`.
        steps: numbers from 1; those after the last step of the recipe are never reached.
        on_step: called as by `train`.
        device: where it is trained; snapshots are on the processor.

    Raises:
        InputError: as `train`, or a recipe with averaged weights, whose snapshots would not be what it returns.
    """
    if recipe.ema:
        raise InputError(f"recipe {recipe.name}", f"ema {recipe.ema} with snapshots", "ema 0")
    network = build(name, clouds.num_classes, seed).to(device)
    states: dict[int, dict[str, Tensor]] = {}

    def keep(step: int, loss: float) -> None:
        if step in steps:
            states[step] = {key: value.detach().clone() for key, value in network.state_dict().items()}
        if on_step is not None:
            on_step(step, loss)

    train(network, clouds, recipe, seed, keep, supervision)
    kept = {}
    for step, state in states.items():
        one = build(name, clouds.num_classes, seed)
        one.load_state_dict(state)
        one.bf16 = network.bf16
        kept[step] = one.eval()
    return kept


def own_inputs(clouds: PointClouds, recipe: Recipe, seed: int, least: int = 512) -> tuple[Tensor, Tensor]:
    """Clouds `(N, P, 3)` as a student in training sees them, augmented, and their classes `(N,)`.

    All points of each, also where a step of the recipe draws some of them. Every cloud comes equally often, as often
    as `least` clouds take.
    """
    times = -(-least // len(clouds))
    generator = torch.Generator().manual_seed(seed)
    points = (normalise(clouds.points) if recipe.normalise else clouds.points).repeat(times, 1, 1)
    draw = recipe.augmentation.draw(len(points), points.shape[1], generator)
    return apply(points, draw), clouds.hard_labels.repeat(times)


def pass_gflops(name: str, classes: int, points: Tensor, backward: bool) -> float:
    """Of a pass of one cloud through a network, and back: 10^9 operations, the mean over clouds `(B, P, 3)`.

    Counted on the separate layers, which have the products that the network is defined by; the fused ones
    (`models.fused`) leave some out. What is not a product is not counted. Networks with balls of neighbours cost
    more on some clouds.
    """
    network = build(name, classes, 0).eval()
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        logits = network.classify(network.pooled(points))
        if backward:
            logits.sum().backward()
    return float(counter.get_total_flops()) / len(points) / 1e9


def size(name: str, classes: int) -> int:
    """Parameters of a network."""
    return sum(value.numel() for value in build(name, classes, 0).parameters())


def assistant(big: str, student: str, classes: int, others: Sequence[str]) -> str | None:
    """The network between teacher and student: that whose size is nearest to the geometric mean of theirs.

    Mirzadeh et al. choose it by accuracy, after training all; sizes are known before. It is one of `others` or of the
    light networks, strictly between the two in parameters; None if there is none.
    """
    high, low = size(big, classes), size(student, classes)
    names = dict.fromkeys([*others, *(f"pointnet-{name}" for name in STUDENTS)])
    sizes = {name: size(name, classes) for name in names if name in networks}
    between = {name: count for name, count in sizes.items() if low < count < high}
    return min(between, key=lambda name: abs(between[name] ** 2 / (high * low) - 1), default=None)


def best(candidates: Sequence[Candidate], cheap: bool = False) -> Candidate:
    """The candidate whose students are best, of equals the one that labels at the least cost; NaN never wins.

    Args:
        candidates: at least one.
        cheap: choose by agreement before training instead: the largest top-k overlap on the student's inputs.
    """

    def merit(candidate: Candidate) -> tuple[float, float]:
        value = candidate.measure("overlap") if cheap else candidate.mean
        return (-1.0 if math.isnan(value) else value, -candidate.label_gflops)

    return max(candidates, key=merit)


def strongest(candidates: Sequence[Candidate]) -> Candidate:
    """The single network that is itself best on held-out clouds, at the first temperature that it was tried at."""
    return max(
        (candidate for candidate in candidates if len(candidate.files) == 1),
        key=lambda candidate: candidate.teacher_accuracy,
    )


def correlations(candidates: Sequence[Candidate]) -> Mapping[str, float]:
    """Spearman's rank correlation of every measure with the student's accuracy; NaN where one of them is constant.

    Rungs at other temperatures than the first are left out, so that every teacher counts once, and for a measure those
    where it is undefined.
    """
    temperature = candidates[0].temperature
    first = [one for one in candidates if one.student_accuracy and one.temperature == temperature]
    correlation = {}
    for name in MEASURES:
        pairs = [(value, candidate.mean) for candidate in first if (value := candidate.measure(name)) == value]
        varied = len(pairs) > 2 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True))
        correlation[name] = float(spearmanr(*zip(*pairs, strict=True)).statistic) if varied else float("nan")
    return correlation


def read_candidates(path: Path) -> list[Candidate]:
    """The candidates that were written to a file; none if it is not there.

    Raises:
        InputError: a line that is no candidate.
    """
    if not path.exists():
        return []
    candidates = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            candidates.append(Candidate.model_validate_json(line))
        except ValueError as error:
            raise InputError(f"{path}, line {number}", "no candidate", "what `pcdistill teachers` writes") from error
    return candidates

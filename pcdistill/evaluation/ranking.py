"""Scores that tell what the data are worth from what the labels and the recipe are: DD-Ranking's, and ratios.

Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation", arXiv:2505.13300, 2025. Two differences from
the released code (0.2.0): accuracies are fractions and not per cent, so that scores stay in [0, 1]; and nothing is
chosen on test clouds, neither an epoch (accuracy is that of the last step) nor a learning rate (of the validation
clouds of a protocol with a grid).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.expansion import expand
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.evaluation.evaluate import evaluate
from pcdistill.evaluation.scores import mean_std
from pcdistill.evaluation.sweep import split
from pcdistill.selection import select
from pcdistill.storage import Storage, storages
from pcdistill.storage.budget import Shape, fill
from pcdistill.storage.labels import soften_by
from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import OnProgress
from pcdistill.training.recipe import RECIPES, EvaluationProtocol

Label = Callable[[Tensor], Tensor]  # points (N, P, 3) -> probabilities (N, C)
ARMS = ("made", "made_hard", "random", "made_plain", "random_plain", "real_hard")  # of `Ranking`, as they are trained


def hard_label_recovery(real: float, synthetic: float) -> float:
    """HLR: what is lost of the whole set's accuracy, both with hard labels; less is better."""
    return real - synthetic


def improvement_over_random(synthetic: float, random: float) -> float:
    """IOR: what is won over randomly chosen clouds of as many bytes, labelled the same way."""
    return synthetic - random


def label_robust_score(hlr: float, ior: float, weight: float = 0.5) -> float:
    """LRS in [0, 1]; 0.27 is a set that is as good as random clouds and as the whole set, alike or on average.

    Args:
        hlr, ior: fractions.
        weight: of `ior`; the rest is that of `hlr`.
    """
    return _squashed(weight * ior - (1 - weight) * hlr)


def augmentation_robust_score(with_augmentation: float, without: float, gamma: float = 0.5) -> float:
    """ARS in [0, 1]: improvements over random trained with and without augmentation, `gamma` the former's weight."""
    return _squashed(gamma * with_augmentation + (1 - gamma) * without)


def _squashed(alpha: float) -> float:
    return (math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1))


def recovery(accuracy: float, whole: float) -> float:
    """Accuracy as a fraction of the whole set's; NaN if that is 0."""
    return accuracy / whole if whole else math.nan


class Compression(NamedTuple):
    """How many times as much the whole set is: clouds, their points, bytes as float32, steps of training on it."""

    clouds: float
    points: float
    nbytes: float
    steps: float


def compression(made: Artefact, real: PointClouds, protocol: EvaluationProtocol) -> Compression:
    """What an artefact saves; steps are those of the protocol's recipe, on what is trained on."""
    stored, total = made.clouds, protocol.recipe.total_steps
    return Compression(
        len(real) / len(stored),
        real.points[..., 0].numel() / stored.points[..., 0].numel(),
        real.points.numel() * 4 / made.nbytes,
        total(len(real)) / total(len(made.training_clouds)),
    )


@dataclass(frozen=True)
class Ranking:
    """Test accuracies of every arm, as fractions, a network each, and what follows from their means.

    Attributes:
        real_hard: the whole set.
        made_hard: the artefact's clouds with hard labels.
        made, random: the artefact's clouds and random ones of as many bytes, with the artefact's kind of labels.
        made_plain, random_plain: the same, trained without augmentation.
    """

    real_hard: tuple[float, ...]
    made_hard: tuple[float, ...]
    made: tuple[float, ...]
    random: tuple[float, ...]
    made_plain: tuple[float, ...]
    random_plain: tuple[float, ...]

    @property
    def hlr(self) -> float:
        return hard_label_recovery(_mean(self.real_hard), _mean(self.made_hard))

    @property
    def ior(self) -> float:
        return improvement_over_random(_mean(self.made), _mean(self.random))

    @property
    def lrs(self) -> float:
        return label_robust_score(self.hlr, self.ior)

    @property
    def ars(self) -> float:
        plain = improvement_over_random(_mean(self.made_plain), _mean(self.random_plain))
        return augmentation_robust_score(self.ior, plain)

    @property
    def recovery(self) -> float:
        return recovery(_mean(self.made), _mean(self.real_hard))


def rank(
    artefact: Artefact,
    train: PointClouds,
    test: PointClouds,
    protocol: EvaluationProtocol,
    seeds: Sequence[int],
    label: Label | None = None,
    on_progress: OnProgress | None = None,
    device: str = "cpu",
) -> Ranking:
    """Train what the scores of an artefact need: up to six sets, each with every seed.

    With a grid, every arm gets its own learning rate and length, and `train` loses the clouds that they are chosen on;
    the artefact has to be made of the others (`sweep.split`). A protocol without augmentation gets that of `tuned`
    where the score is of training with it.

    Args:
        artefact: what is scored.
        train, test: the real set, all of it.
        protocol: how networks are trained and tested.
        seeds: of the networks; the first also draws the random clouds.
        label: gives random clouds the labels that the artefact's have: its teacher's. Needed for soft labels only.
        on_progress: called with the number of the `ARMS` that are trained, and the name of what comes.
        device: as in `evaluate`.

    Raises:
        InputError: a teacher in the file, soft labels and no `label`, or as `evaluate`.
    """
    if artefact.teacher is not None:
        raise InputError("ranking", "a teacher in the file", "a set whose labels stand in it")
    if artefact.clouds.labels.ndim == 1:
        label = None
    elif label is None:
        raise InputError("ranking", "soft labels and no teacher", "one to label random clouds the same way")
    real, validation = split(train, protocol)
    recipe = protocol.recipe
    augmentation = RECIPES["tuned"].augmentation if recipe.augmentation == Augmentation() else recipe.augmentation
    augmented = protocol.model_copy(update={"recipe": recipe.model_copy(update={"augmentation": augmentation})})
    plain = protocol.model_copy(update={"recipe": recipe.model_copy(update={"augmentation": Augmentation()})})

    def reached(arm: str, clouds: PointClouds, trained_by: EvaluationProtocol) -> tuple[float, ...]:
        if on_progress is not None:
            on_progress(ARMS.index(arm), arm)
        return tuple(evaluate(clouds, test, trained_by, seeds=seeds, validation=validation, device=device).accuracies)

    made, random = artefact.training_clouds, random_twin(artefact, real, seeds[0], label)
    accuracies = {"made": reached("made", made, augmented)}
    soft = made.labels.ndim == 2
    accuracies["made_hard"] = reached("made_hard", _hard(made), augmented) if soft else accuracies["made"]
    accuracies["random"] = reached("random", random, augmented)
    accuracies["made_plain"] = reached("made_plain", made, plain)
    accuracies["random_plain"] = reached("random_plain", random, plain)
    accuracies["real_hard"] = reached("real_hard", real, augmented)
    return Ranking(**accuracies)


def random_twin(artefact: Artefact, real: PointClouds, seed: int, label: Label | None = None) -> PointClouds:
    """Random real clouds in as many bytes as an artefact, as they are trained on: labelled, rounded and expanded alike.

    Clouds have as many points and bits as the artefact's, or cells a side. What is none of grids, stored points, or too
    fine to be coded is matched by coded ones, of which most fit. Soft labels count as bytes as the artefact's do.

    Args:
        artefact: whose twin.
        real: to choose from.
        seed: of the choice.
        label: makes soft labels.
    """
    facts = artefact.metadata
    kind = storages["points" if facts.storage == "points" or facts.bits > 12 else "coded"]
    if artefact.storage.dense:
        kind = type(artefact.storage)
    unseen = torch.zeros(len(real), 1)  # features, which a random choice does not look at

    def choose(counts: tuple[int, ...], points: int) -> PointClouds:
        return select(real, "random", counts, features=unseen, points=points, seed=seed)

    def soften(storage: Storage) -> None:
        if label is not None:
            soften_by(storage, label)

    shape = Shape(facts.points, facts.bits, facts.layout.get("side", 0))
    filled = fill(real, artefact.storage.nbytes, shape, kind, choose, soften=soften)
    storage = kind.from_clouds(filled.clouds, filled.budget)
    soften(storage)
    with torch.no_grad():
        clouds = storage.decode()
    return clouds if artefact.expansion is None else expand(clouds, artefact.expansion)


def _hard(clouds: PointClouds) -> PointClouds:
    return replace(clouds, labels=clouds.hard_labels)


def _mean(values: Sequence[float]) -> float:
    return mean_std(values)[0]

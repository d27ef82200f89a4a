"""What a trained network is worth on a test set: the numbers behind every table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.environment import peak_memory
from pcdistill.core.errors import InputError
from pcdistill.data.stream import AnyClouds
from pcdistill.evaluation.part_scores import check_parts, guessed, shape_ious
from pcdistill.geometry import thinned
from pcdistill.models import Network, Segmenter
from pcdistill.training.loop import OnProgress, predict, train_networks
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.supervision import Supervision

ECE_BINS = 15


@dataclass(frozen=True)
class Scores:
    """One trained network on one test set.

    Attributes:
        accuracy: fraction of the clouds.
        class_accuracy: mean of `per_class` over the classes that occur.
        per_class: fraction of every class; NaN for one without test clouds.
        confusion: clouds of class i taken for class j at [i][j].
        ece: expected calibration error (`calibration_error`).
        right: hexadecimal digits of one bit per test cloud, in order, first cloud first: 1 where the guess is right.
            What paired comparisons of two arms need (`statistics`); `hits` unpacks it. Empty where points are labelled.
        instance_miou, class_miou: of points that are labelled (`part_scores`), else None. Then accuracy is that of
            points, and what is said of classes above is of parts.
        class_ious: what `class_miou` is the mean of, by the name of the class; of those with test clouds.
    """

    accuracy: float
    class_accuracy: float
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float
    right: str
    instance_miou: float | None = None
    class_miou: float | None = None
    class_ious: Mapping[str, float] | None = None


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


def score(network: Network, test: PointClouds) -> Scores:
    """How a trained network does on hard labels; with parts, on points (`part_scores`), told the class of every cloud.

    Raises:
        InputError: a set with parts and a network that labels no points, or the other way round.
    """
    if isinstance(network, Segmenter) != (test.parts is not None):
        found = "points without parts" if test.parts is None else "points with parts"
        raise InputError("test set", found, "what the network was made for: the other kind")
    if isinstance(network, Segmenter) and test.parts is not None and test.part_names is not None:
        return _score_parts(network, test, test.parts, test.part_names)
    logits = predict(network, test.points)
    labels, guesses = test.hard_labels, logits.argmax(1)
    right = guesses == labels
    classes = test.num_classes
    confusion = torch.bincount(labels * classes + guesses, minlength=classes**2).view(classes, classes)
    class_accuracy, per_class = class_accuracies(confusion)
    return Scores(
        accuracy=right.double().mean().item(),
        class_accuracy=class_accuracy,
        per_class=per_class,
        confusion=tuple(map(tuple, confusion.tolist())),
        ece=calibration_error(logits, labels),
        right=np.packbits(right.numpy()).tobytes().hex(),
    )


def _score_parts(network: Segmenter, test: PointClouds, parts: Tensor, names: PartNames) -> Scores:
    """Scores of points; confusions are of parts, in points."""
    classes, count = test.hard_labels, len(names)
    guesses, confidence = guessed(network, test.points, classes, names)
    right = guesses == parts
    confusion = torch.bincount((parts * count + guesses).flatten(), minlength=count**2).view(count, count)
    class_accuracy, per_part = class_accuracies(confusion)
    each = shape_ious(guesses, parts, classes, names)
    ious = {test.class_names[label]: each[classes == label].mean().item() for label in classes.unique().tolist()}
    return Scores(
        accuracy=right.double().mean().item(),
        class_accuracy=class_accuracy,
        per_class=per_part,
        confusion=tuple(map(tuple, confusion.tolist())),
        ece=binned_gaps(confidence.flatten(), right.flatten()),
        right="",
        instance_miou=each.mean().item(),
        class_miou=mean_std(list(ious.values()))[0],
        class_ious=ious,
    )


def class_accuracies(confusion: Tensor) -> tuple[float, tuple[float, ...]]:
    """Of `(C, C)` counts, truth by guess: the mean over classes that occur of what is right, and every class's."""
    counts = confusion.sum(1)
    per_class = confusion.diagonal() / counts.double()
    return per_class[counts > 0].mean().item(), tuple(per_class.tolist())


def hits(right: str, clouds: int) -> Tensor:
    """`Scores.right` as `(clouds,)` bool."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(right), dtype=np.uint8))
    return torch.from_numpy(bits[:clouds].astype(bool))


def calibration_error(logits: Tensor, labels: Tensor, bins: int = ECE_BINS) -> float:
    """Expected calibration error: how far confidence is from accuracy, on average over the clouds.

    Clouds are put into `bins` equal intervals of their greatest probability; of each interval the distance between
    mean confidence and accuracy counts by its share of the clouds (Guo et al., "On calibration of modern neural
    networks", ICML 2017, eq. 3).

    Args:
        logits: `(N, C)`.
        labels: `(N,)` int64.
        bins: number of intervals over [0, 1].
    """
    confidence, guesses = logits.double().softmax(1).max(1)
    return binned_gaps(confidence, guesses == labels, bins)


def binned_gaps(confidence: Tensor, right: Tensor, bins: int = ECE_BINS) -> float:
    """`calibration_error` of guesses `(N,)` made with some confidence, right or not."""
    confidence = confidence.double()
    gaps = right.double() - confidence
    places = (confidence * bins).ceil().long().clamp(1, bins) - 1  # intervals are open below and closed above
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, places, gaps)
    return sums.abs().sum().item() / len(right)


def trained_scores(
    clouds: AnyClouds,
    test: PointClouds,
    protocol: EvaluationProtocol,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
) -> tuple[Scores, ...]:
    """Train one fresh network per seed by the protocol's recipe as it is, and test it; `evaluate` without a grid.

    Raises:
        InputError: classes differ, or too few test points.
    """
    check_parts(test, clouds.part_names)
    test = as_tested(test, clouds.class_names, protocol, clouds.points_per_cloud)
    networks = train_networks(protocol.network, clouds, protocol.recipe, seeds, on_progress, device, supervision)
    return tuple(score(network, test) for network in networks)


def test_digest(test: PointClouds, protocol: EvaluationProtocol) -> str:
    """First digits of the fingerprint of the test clouds, as far as a protocol looks at them, before any thinning."""
    return test.at_points(slice(protocol.test_points)).fingerprint()[:16]


def as_tested(
    test: PointClouds, class_names: tuple[str, ...], protocol: EvaluationProtocol, trained_points: int | None = None
) -> PointClouds:
    """The test set as a protocol sees it: the first `test_points` points of every cloud, thinned if it says so.

    Args:
        test: the set.
        class_names: those of training.
        protocol: resolution and thinning.
        trained_points: points of the clouds that the networks are trained on.

    Raises:
        InputError: classes differ, or too few points.
    """
    if test.class_names != class_names:
        raise InputError(
            "test set", f"classes {', '.join(test.class_names)}", f"those of training: {', '.join(class_names)}"
        )
    if test.points_per_cloud < protocol.test_points:
        raise InputError("test set", f"{test.points_per_cloud} points per cloud", f"at least {protocol.test_points}")
    seen = test.at_points(slice(protocol.test_points))
    return thinned(seen, thinning(protocol, seen.points_per_cloud, trained_points))


def thinning(protocol: EvaluationProtocol, points: int, trained_points: int | None) -> int | None:
    """Points that test clouds of so many are thinned to: as many as were trained on. None where all are looked at."""
    return trained_points if protocol.thin and trained_points is not None and trained_points < points else None


def peak_mib() -> int:
    """Peak memory of this process so far, in MiB; 0 where the system does not say."""
    return int(peak_memory() / 2**20)

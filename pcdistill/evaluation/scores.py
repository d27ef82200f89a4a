"""What a trained network is worth on a test set: the numbers behind every table."""

import resource
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import thinned
from pcdistill.models import Network
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
            What paired comparisons of two arms need (`statistics`); `hits` unpacks it.
    """

    accuracy: float
    class_accuracy: float
    per_class: tuple[float, ...]
    confusion: tuple[tuple[int, ...], ...]
    ece: float
    right: str


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


def score(network: Network, test: PointClouds) -> Scores:
    """How a trained network does on hard labels."""
    logits = predict(network, test.points)
    labels, guesses = test.hard_labels, logits.argmax(1)
    right = guesses == labels
    classes = test.num_classes
    confusion = torch.bincount(labels * classes + guesses, minlength=classes**2).view(classes, classes)
    per_class = confusion.diagonal() / test.class_counts.double()
    return Scores(
        accuracy=right.double().mean().item(),
        class_accuracy=per_class[test.class_counts > 0].mean().item(),
        per_class=tuple(per_class.tolist()),
        confusion=tuple(map(tuple, confusion.tolist())),
        ece=calibration_error(logits, labels),
        right=np.packbits(right.numpy()).tobytes().hex(),
    )


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
    gaps = (guesses == labels).double() - confidence
    places = (confidence * bins).ceil().long().clamp(1, bins) - 1  # intervals are open below and closed above
    sums = torch.zeros(bins, dtype=torch.float64).index_add_(0, places, gaps)
    return sums.abs().sum().item() / len(labels)


def trained_scores(
    clouds: PointClouds,
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
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

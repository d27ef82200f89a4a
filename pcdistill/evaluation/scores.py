"""Training networks on a set and reading their accuracy: the numbers behind every table."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.models import Network, build
from pcdistill.training import Protocol, predict, train

OnStep = Callable[[int, int, float], None]  # number of the network from 0, step, loss


@dataclass(frozen=True)
class Scores:
    """One trained network on one test set; fractions."""

    accuracy: float  # over clouds
    class_accuracy: float  # mean over classes
    per_class: tuple[float, ...]


@dataclass(frozen=True)
class Evaluation:
    """A protocol's runs on one training set."""

    seeds: tuple[int, ...]
    runs: tuple[Scores, ...]
    train_seconds: float  # all runs together, tests included

    @property
    def accuracies(self) -> list[float]:
        return [run.accuracy for run in self.runs]


def mean_std(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), tensor.std().item() if len(values) > 1 else 0.0


def score(network: Network, test: PointClouds) -> Scores:
    """Accuracy of a trained network on hard labels.

    Classes without test clouds do not count towards the class mean; their `per_class` entry is NaN.
    """
    guesses = predict(network, test.points).argmax(1)
    right = (guesses == test.hard_labels).double()
    hits = torch.zeros(test.num_classes, dtype=torch.float64).index_add_(0, test.hard_labels, right)
    per_class = hits / test.class_counts
    return Scores(right.mean().item(), per_class[test.class_counts > 0].mean().item(), tuple(per_class.tolist()))


def evaluate(
    clouds: PointClouds,
    test: PointClouds,
    protocol: Protocol,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> Evaluation:
    """Train one fresh network per seed on `clouds` and test it on `test`, as `protocol` says.

    Args:
        clouds: the training set; whole, selected or synthetic.
        test: clouds of the same classes, at least `protocol.test_points` points each.
        protocol: recipe, network and test resolution.
        seeds: of weights, order and augmentation, one run each.
        on_step: called with the run's number from 0, the step and the loss.

    Raises:
        InputError: classes differ, or too few test points.
    """
    test = as_tested(test, clouds.class_names, protocol)
    start = time.perf_counter()
    runs = []
    for number, seed in enumerate(seeds):
        network = build(protocol.network, clouds.num_classes, seed)
        report = None if on_step is None else _numbered(on_step, number)
        train(network, clouds, protocol.recipe, seed, report)
        runs.append(score(network, test))
    return Evaluation(tuple(seeds), tuple(runs), time.perf_counter() - start)


def as_tested(test: PointClouds, class_names: tuple[str, ...], protocol: Protocol) -> PointClouds:
    """The test set as a protocol sees it: the first `test_points` points of every cloud.

    Raises:
        InputError: classes differ, or too few points.
    """
    if test.class_names != class_names:
        raise InputError(
            "test set", f"classes {', '.join(test.class_names)}", f"those of training: {', '.join(class_names)}"
        )
    if test.points_per_cloud < protocol.test_points:
        raise InputError("test set", f"{test.points_per_cloud} points per cloud", f"at least {protocol.test_points}")
    return test.with_points(test.points[:, : protocol.test_points])


def peak_mib() -> int:
    """Peak memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _numbered(on_step: OnStep, number: int) -> Callable[[int, float], None]:
    return lambda step, loss: on_step(number, step, loss)

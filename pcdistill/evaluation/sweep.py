"""Protocols carried out: the recipe of a grid that serves a set best, chosen on clouds that it was not made of, then
fresh networks trained and tested.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pcdistill.clouds import PointClouds
from pcdistill.data import last_split
from pcdistill.errors import InputError
from pcdistill.evaluation.scores import Scores, as_tested, test_digest, trained_scores
from pcdistill.training import Lesson, OnProgress, Protocol


@dataclass(frozen=True)
class Trial:
    """A recipe of a grid, tried on held-out clouds: `accuracy` is that of every network."""

    lr: float
    steps: int
    accuracy: tuple[float, ...]

    @property
    def mean(self) -> float:
        return sum(self.accuracy) / len(self.accuracy)


@dataclass(frozen=True)
class Choice:
    """What a grid gave for one training set.

    Attributes:
        protocol: without a grid; its recipe is the one that was chosen.
        trials: in the order of the grid: shortest first, then the smallest learning rate.
    """

    protocol: Protocol
    trials: tuple[Trial, ...]

    @property
    def steps(self) -> int:
        """Of all trials together."""
        return sum(trial.steps * len(trial.accuracy) for trial in self.trials)

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        recipe = self.protocol.recipe
        return {"lr": recipe.lr, "steps": recipe.steps, "tried": [asdict(trial) for trial in self.trials]}


@dataclass(frozen=True)
class Evaluation:
    """A protocol's runs on one training set."""

    seeds: tuple[int, ...]
    runs: tuple[Scores, ...]
    train_seconds: float  # all runs together, tests and the choice of a recipe included
    choice: Choice | None = None  # of protocols with a grid
    class_names: tuple[str, ...] = ()
    test_set: str = ""  # `test_digest` of the clouds that it was tested on
    labelled: Mapping[str, float] | None = None  # by an on-policy teacher: clouds, and the seconds that it took

    @property
    def accuracies(self) -> list[float]:
        return [run.accuracy for run in self.runs]


def split(real: PointClouds, protocol: Protocol) -> tuple[PointClouds, PointClouds | None]:
    """What sets are made of, and what recipes are tried on: all of `real` and None without a grid.

    The last clouds of every class are held out, so that neither a selection nor an objective has seen them. A whole
    set is what is left, too: arms of a protocol are compared on equal terms, with a fifth less of real data.

    Raises:
        InputError: a class of fewer than two clouds.
    """
    return (real, None) if protocol.grid is None else last_split(real, protocol.grid.held_out)


def candidates(protocol: Protocol, clouds: int) -> list[Protocol]:
    """A protocol per recipe of the grid, for a training set of so many clouds."""
    grid, recipe = protocol.grid, protocol.recipe
    if grid is None:
        return [protocol]
    base = recipe.total_steps(clouds)
    return [
        protocol.model_copy(
            update={
                "grid": None,
                "recipe": recipe.model_copy(
                    update={"name": f"{recipe.name}*", "lr": lr, "steps": max(1, round(length * base))}
                ),
            }
        )
        for length in sorted(grid.length)
        for lr in sorted(grid.lr)
    ]


def chosen(
    protocol: Protocol,
    clouds: PointClouds,
    validation: PointClouds | None,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    lesson: Lesson | None = None,
) -> Choice:
    """The recipe of a protocol's grid with which networks trained on `clouds` do best on `validation`.

    Of equals the shorter training wins, then the smaller learning rate. One without a grid is returned as it is.

    Args:
        protocol: what to choose for.
        clouds: the training set, none of them of `validation`: `split` gives both.
        validation: real clouds of the same classes, never the test set.
        seeds: of the networks that every recipe is tried with.
        on_progress, device, lesson: as in `evaluate`.

    Raises:
        InputError: a grid and no validation clouds, or as `evaluate`; a recipe by which training diverges counts as
            one that recognises nothing, unless all do.
    """
    if protocol.grid is None:
        return Choice(protocol, ())
    if validation is None:
        raise InputError(f"protocol {protocol.name}", "no validation clouds", "some, to choose a recipe on")
    as_tested(validation, clouds.class_names, protocol)
    plans = candidates(protocol, len(clouds))
    trials: list[Trial] = []
    failures: list[InputError] = []
    done = 0
    for plan in plans:
        steps = plan.recipe.total_steps(len(clouds))
        report = later(on_progress, done, f"trying lr {plan.recipe.lr:g}, ")
        try:
            scores = trained_scores(clouds, validation, plan, seeds, report, device, lesson)
            accuracy = tuple(one.accuracy for one in scores)
        except InputError as error:
            failures.append(error)
            accuracy = (0.0,) * len(seeds)
        trials.append(Trial(plan.recipe.lr, steps, accuracy))
        done += steps * len(seeds)
    if len(failures) == len(plans):
        raise failures[-1]
    best = max(range(len(trials)), key=lambda i: trials[i].mean)
    return Choice(plans[best], tuple(trials))


def evaluate(
    clouds: PointClouds,
    test: PointClouds,
    protocol: Protocol,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    validation: PointClouds | None = None,
    device: str = "cpu",
    lesson: Lesson | None = None,
) -> Evaluation:
    """Train one fresh network per seed on `clouds` and test it on `test`, as `protocol` says.

    Args:
        clouds: the training set; whole, selected or synthetic.
        test: clouds of the same classes, at least `protocol.test_points` points each.
        protocol: recipe, network and test resolution.
        seeds: of weights, order and augmentation, one run each.
        on_progress, device, lesson: as in `train_networks`.
        validation: what the recipe is chosen on, with the first seed, if the protocol has a grid (`sweep.split`).

    Raises:
        InputError: classes differ, too few test points, or a grid and no validation clouds.
    """
    as_tested(test, clouds.class_names, protocol)  # refuses what does not fit before a recipe is chosen
    start = time.perf_counter()
    choice = None
    if protocol.grid is not None:
        choice = chosen(protocol, clouds, validation, seeds[:1], on_progress, device, lesson)
        protocol, on_progress = choice.protocol, later(on_progress, choice.steps, "")
    runs = trained_scores(clouds, test, protocol, seeds, on_progress, device, lesson)
    seconds = time.perf_counter() - start
    return Evaluation(tuple(seeds), runs, seconds, choice, test.class_names, test_digest(test, protocol))


def planned_steps(protocol: Protocol, clouds: int, networks: int) -> int:
    """Steps that an evaluation takes at most, the trials of its grid included."""
    lengths = [plan.recipe.total_steps(clouds) for plan in candidates(protocol, clouds)]
    return max(lengths) * networks + (0 if protocol.grid is None else sum(lengths))


def later(on_progress: OnProgress | None, done: int, note: str) -> OnProgress | None:
    """What counts the steps of a part of the work that begins after `done` steps."""
    return None if on_progress is None else lambda step, word: on_progress(done + step, note + word)

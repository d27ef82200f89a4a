"""Grids: the recipe that serves a set best, chosen on clouds that the set was not made of."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import last_split
from pcdistill.data.stream import AnyClouds
from pcdistill.evaluation.scores import as_tested, trained_scores
from pcdistill.training.loop import OnProgress
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.supervision import Supervision


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

    protocol: EvaluationProtocol
    trials: tuple[Trial, ...]

    @property
    def steps(self) -> int:
        """Of all trials together."""
        return sum(trial.steps * len(trial.accuracy) for trial in self.trials)

    def facts(self) -> dict[str, Any]:
        """What a record says of it."""
        recipe = self.protocol.recipe
        return {"lr": recipe.lr, "steps": recipe.steps, "tried": [asdict(trial) for trial in self.trials]}


def split(real: PointClouds, protocol: EvaluationProtocol) -> tuple[PointClouds, PointClouds | None]:
    """What sets are made of, and what recipes are tried on: all of `real` and None without a grid.

    The last clouds of every class are held out, so that neither a selection nor an objective has seen them. A whole
    set is what is left, too: arms of a protocol are compared on equal terms, with a fifth less of real data.

    Raises:
        InputError: a class of fewer than two clouds.
    """
    return (real, None) if protocol.grid is None else last_split(real, protocol.grid.held_out)


def protocols_of(protocol: EvaluationProtocol, clouds: int) -> list[EvaluationProtocol]:
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
    protocol: EvaluationProtocol,
    clouds: AnyClouds,
    validation: PointClouds | None,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
) -> Choice:
    """The recipe of a protocol's grid with which networks trained on `clouds` do best on `validation`.

    Of equals the shorter training wins, then the smaller learning rate. One without a grid is returned as it is.

    Args:
        protocol: what to choose for.
        clouds: the training set, none of them of `validation`: `split` gives both.
        validation: real clouds of the same classes, never the test set.
        seeds: of the networks that every recipe is tried with.
        on_progress, device, supervision: as in `evaluate`.

    Raises:
        InputError: a grid and no validation clouds, or as `evaluate`; a recipe by which training diverges counts as
            one that recognises nothing, unless all do.
    """
    if protocol.grid is None:
        return Choice(protocol, ())
    if validation is None:
        raise InputError(f"protocol {protocol.name}", "no validation clouds", "some, to choose a recipe on")
    as_tested(validation, clouds.class_names, protocol)
    tried = protocols_of(protocol, len(clouds))
    trials: list[Trial] = []
    failures: list[InputError] = []
    done = 0
    for one in tried:
        steps = one.recipe.total_steps(len(clouds))
        report = later(on_progress, done, f"trying lr {one.recipe.lr:g}, ")
        try:
            scores = trained_scores(clouds, validation, one, seeds, report, device, supervision)
            accuracy = tuple(run.accuracy for run in scores)
        except InputError as error:
            failures.append(error)
            accuracy = (0.0,) * len(seeds)
        trials.append(Trial(one.recipe.lr, steps, accuracy))
        done += steps * len(seeds)
    if len(failures) == len(tried):
        raise failures[-1]
    best = max(range(len(trials)), key=lambda i: trials[i].mean)
    return Choice(tried[best], tuple(trials))


def later(on_progress: OnProgress | None, done: int, note: str) -> OnProgress | None:
    """What counts the steps of a part of the work that begins after `done` steps."""
    return None if on_progress is None else lambda step, word: on_progress(done + step, note + word)

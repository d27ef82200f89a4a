"""Networks trained on a set, or trained before, and what they score: on the clean test set and under conditions."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.devices import resolved
from pcdistill.core.errors import InputError
from pcdistill.data.stream import AnyClouds
from pcdistill.evaluation.conditions import CLEAN, NO_SETS, Condition, Part, parts_of, seen_under, shown
from pcdistill.evaluation.part_scores import check_parts
from pcdistill.evaluation.scores import Scores, mean_std, score, test_digest
from pcdistill.evaluation.sweep import Choice, chosen, later, protocols_of
from pcdistill.models import Network, Output
from pcdistill.teaching import Online, OnPolicy
from pcdistill.training import loop
from pcdistill.training.loop import OnLosses, OnProgress, OnStep, train_networks
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_called
from pcdistill.training.supervision import Supervision
from pcdistill.training.trained import Trained


@dataclass(frozen=True)
class Evaluation:
    """A protocol's runs on one training set."""

    seeds: tuple[int, ...]
    runs: tuple[Scores, ...]
    train_seconds: float  # all runs together, tests and the choice of a recipe included
    choice: Choice | None = None  # of protocols with a grid
    class_names: tuple[str, ...] = ()  # of the confusions; of a set with parts the names of these
    test_set: str = ""  # `test_digest` of the clouds that it was tested on

    @property
    def accuracies(self) -> list[float]:
        return [run.accuracy for run in self.runs]

    def __repr__(self) -> str:
        mean, deviation = mean_std(self.accuracies)
        count = "1 network" if len(self.runs) == 1 else f"{len(self.runs)} networks"
        return f"Evaluation(accuracy {100 * mean:.1f} % ± {100 * deviation:.1f}, {count}, {self.train_seconds:.0f} s)"


def evaluate(
    made: Artefact | AnyClouds,
    test: PointClouds,
    protocol: EvaluationProtocol | str = "tuned",
    *,
    network: str | None = None,
    seeds: int | Sequence[int] = 3,
    on_progress: OnProgress | None = None,
    validation: PointClouds | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
) -> Evaluation:
    """Train fresh networks on a set, one per seed, and test them.

    Args:
        made: the training set: an artefact, whose clouds are expanded if it says so, or clouds, in memory or on disk.
        test: clouds of the same classes, at least `protocol.test_points` points each.
        protocol: recipe, network and test resolution, or the name of one: then clouds may have fewer points than it
            tests on, and all of them are looked at.
        network: registered name, in place of the protocol's.
        seeds: of weights, order and augmentation, one run each; or how many, from 0.
        on_progress, device, supervision: as in `train_networks`.
        validation: what the recipe is chosen on, with the first seed, if the protocol has a grid (`sweep.split`).

    Raises:
        InputError: an unknown name, classes that differ, too few test points, or a grid and no validation clouds.
    """
    device = resolved(device)
    clouds, plan, supervision = _to_train_on(made, protocol, network, supervision, device)
    if isinstance(protocol, str):
        plan = plan.model_copy(update={"test_points": min(plan.test_points, test.points_per_cloud)})
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    parts = parts_of(clouds, test, [CLEAN], plan)
    ((_, evaluation),) = evaluate_conditions(
        clouds, parts, plan, numbers, on_progress, validation=validation, device=device, supervision=supervision
    )
    return evaluation


def train(
    made: Artefact | AnyClouds,
    protocol: EvaluationProtocol | str = "tuned",
    *,
    network: str | None = None,
    seed: int = 0,
    on_step: OnStep | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
) -> Trained:
    """One network trained on a set, with what is needed to use it.

    Args:
        made, protocol, network: as in `evaluate`.
        seed: of weights, order and augmentation.
        device: where it is trained, and stays.
        on_step, supervision: as in `training.loop.train`.

    Raises:
        InputError: an unknown name, a protocol with a grid, or as `training.loop.train`.
    """
    device = resolved(device)
    clouds, protocol, supervision = _to_train_on(made, protocol, network, supervision, device)
    if protocol.grid is not None:
        reason = f"{protocol.name}, which chooses among recipes"
        raise InputError("protocol", reason, "one with a recipe of its own, as tuned")
    fresh = loop.fresh_network(protocol.network, clouds, seed).to(device)
    loop.train(fresh, clouds, protocol.recipe, seed, on_step, supervision)
    dataset = made.metadata.dataset if isinstance(made, Artefact) else str(clouds.provenance.get("name", "unnamed"))
    taught = supervision.describe() if isinstance(supervision, Online | OnPolicy) else {}
    source = made.metadata.source_fingerprint if isinstance(made, Artefact) else made.fingerprint()
    return Trained(
        fresh, clouds.class_names, protocol, dataset, clouds.points_per_cloud, seed, taught,
        source_fingerprint=source, part_names=clouds.part_names,
    )  # fmt: skip


def _to_train_on(
    made: Artefact | AnyClouds,
    protocol: EvaluationProtocol | str,
    network: str | None,
    supervision: Supervision | None,
    device: str,
) -> tuple[AnyClouds, EvaluationProtocol, Supervision | None]:
    """The clouds of a set that networks are trained on, the protocol for them, and who labels.

    That is the teacher in the artefact's file, if there is one and nobody else. Where labels of an artefact are a
    teacher's the student has their temperature, unless it is supervised: that teacher has a temperature of its own, and
    the protocol suits it.
    """
    if isinstance(protocol, str):
        protocol = protocol_called(protocol)
    if network is not None:
        protocol = protocol.using(network)
    clouds = made.training_clouds if isinstance(made, Artefact) else made
    protocol = protocol.suiting(parts=clouds.parts is not None)
    if not isinstance(made, Artefact) or supervision is not None:
        return clouds, protocol, supervision
    kept = made.supervision
    if kept is not None:
        kept.teacher.to(device)
    return clouds, made.with_label_temperature(protocol), kept


def evaluate_conditions(
    clouds: AnyClouds,
    parts: Sequence[Part],
    protocol: EvaluationProtocol,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    *,
    validation: PointClouds | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
    on_losses: Callable[[int, Mapping[str, float]], None] | None = None,
) -> Iterator[tuple[Condition, Evaluation]]:
    """Train fresh networks, one per seed, for every part, and score them under its conditions: one after the other.

    Args:
        clouds: the training set, on which the recipe of a grid is chosen for all parts.
        parts: of `parts_of`.
        protocol: recipe, network, resolution and thinning.
        seeds: of weights, order and augmentation.
        on_progress: called with the training steps done, of the grid and of all parts together.
        validation, device, supervision: as in `evaluate`.
        on_losses: called after each step, from 1, with the losses of networks by their names: `loss/pointnet 0` is that
            of seed 0. Of several parts the points of training clouds are in the name.

    Raises:
        InputError: a grid and no validation clouds, or as `train_networks`.
    """
    start = time.perf_counter()
    choice = None
    if protocol.grid is not None:
        choice = chosen(protocol, clouds, validation, seeds[:1], on_progress, device, supervision)
        protocol, on_progress = choice.protocol, later(on_progress, choice.steps, "")
    choosing = time.perf_counter() - start
    done = 0
    for part in parts:
        start = time.perf_counter()
        report = later(on_progress, done, "")
        at = f"@{part.training.points_per_cloud}" if len(parts) > 1 else ""
        trained = train_networks(
            protocol.network, part.training, protocol.recipe, seeds, report, device, supervision,
            None if on_losses is None else named(on_losses, f"loss/{protocol.network}{at}"),
        )  # fmt: skip
        seconds = choosing + time.perf_counter() - start
        done += protocol.recipe.total_steps(len(part.training)) * len(seeds)
        for condition, test in part.conditions:
            if on_progress is not None and condition != CLEAN:
                on_progress(done, f"condition {condition.name}")
            points = part.training.points_per_cloud
            yield condition, _scored(trained, seeds, condition, test, protocol, points, seconds, choice)


def named(on_losses: Callable[[int, Mapping[str, float]], None], name: str) -> OnLosses:
    """What is called with losses by seeds, and passes them on by names."""
    return lambda step, losses: on_losses(step, {f"{name} {seed}": loss for seed, loss in losses.items()})


def score_conditions(
    trained: Trained, test: PointClouds, conditions: Sequence[Condition], others: Mapping[str, PointClouds] = NO_SETS
) -> Iterator[tuple[Condition, Evaluation]]:
    """A network that was trained before, under conditions; across data sets it guesses among the shared classes only.

    Raises:
        InputError: as `parts_of`, before anything is scored.
    """
    names = trained.class_names
    check_parts(test, trained.part_names)
    tests = [(condition, *seen_under(condition, names, test, trained.protocol, others)) for condition in conditions]

    def asked(kept: Sequence[int]) -> Network:
        return trained.network if len(kept) == len(names) else Among(trained.network, kept)

    return (
        (condition, _scored([asked(kept)], (), condition, seen, trained.protocol, trained.points, 0.0))
        for condition, kept, seen in tests
    )


class Among(Network):
    """A network whose guesses are restricted to some classes: logits of the others are left out."""

    def __init__(self, network: Network, kept: Sequence[int]) -> None:
        super().__init__()
        self.network, self.kept = network, list(kept)

    def forward(self, points: Tensor) -> Output:
        whole: Output = self.network(points)
        return Output(whole.logits[:, self.kept], whole.global_feature)


def planned_steps(protocol: EvaluationProtocol, clouds: int, networks: int, parts: Sequence[Part] = ()) -> int:
    """Steps that an evaluation takes at most, the trials of its grid included.

    Args:
        protocol: as in `evaluate`.
        clouds: of the training set.
        networks: how many are trained.
        parts: of `parts_of`; none stands for one with all clouds.
    """
    sizes = [len(part.training) for part in parts] or [clouds]
    tried = [one.recipe for one in protocols_of(protocol, clouds)]
    longest = max(sum(map(one.total_steps, sizes)) for one in tried)
    trials = 0 if protocol.grid is None else sum(one.total_steps(clouds) for one in tried)
    return longest * networks + trials


def _scored(
    trained: Sequence[Network],
    seeds: Sequence[int],
    condition: Condition,
    test: PointClouds,
    protocol: EvaluationProtocol,
    trained_points: int | None,
    seconds: float,
    choice: Choice | None = None,
) -> Evaluation:
    start = time.perf_counter()
    seen = shown(test, condition, protocol, trained_points)
    runs = tuple(score(network, seen) for network in trained)
    spent = seconds + time.perf_counter() - start
    names = seen.class_names if seen.part_names is None else seen.part_names.names
    return Evaluation(tuple(seeds), runs, spent, choice, names, test_digest(test, protocol))

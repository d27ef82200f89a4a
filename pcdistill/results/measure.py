"""From an evaluation to a record."""

import datetime
from collections.abc import Sequence
from typing import Any

import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import hardware, versions
from pcdistill.data.stream import AnyClouds
from pcdistill.evaluation.evaluate import Evaluation, evaluate
from pcdistill.evaluation.scores import mean_std, peak_mib
from pcdistill.results.record import WHOLE, Record, Run, TrainingSet
from pcdistill.training.loop import OnProgress
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.supervision import Supervision


def measure(
    made: Artefact | AnyClouds,
    test: PointClouds,
    protocol: EvaluationProtocol,
    seed: int,
    networks: int,
    seconds: float | None = None,
    on_progress: OnProgress | None = None,
    validation: PointClouds | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
) -> Run:
    """Train networks on an artefact's clouds (expanded if it says so), or on a whole set, and test them.

    Args:
        made: what is trained on.
        test: clouds of the same classes.
        protocol: how.
        seed: that `made` was made with; its networks have the seeds `100 * seed`, `100 * seed + 1`, ...
        networks: how many.
        seconds: that making took; by default what the artefact says.
        on_progress, validation, device, supervision: as in `evaluate`.

    Raises:
        InputError: as `evaluate`.
    """
    train_seeds = [100 * seed + number for number in range(networks)]
    evaluation = evaluate(
        made, test, protocol, seeds=train_seeds, on_progress=on_progress, validation=validation, device=device,
        supervision=supervision,
    )  # fmt: skip
    return as_run(made, evaluation, seed, seconds)


def as_run(made: Artefact | AnyClouds, evaluation: Evaluation, seed: int, seconds: float | None = None) -> Run:
    """What was found out about `made`, with what it is; arguments as in `measure`."""
    facts = made.metadata if isinstance(made, Artefact) else None
    spent = 0.0 if facts is None else facts.distill_seconds
    objective = (facts.objective or {}) if facts else {}
    return Run(
        arm=facts.arm if facts else WHOLE,
        distilled=facts.distilled if facts else False,
        objective=facts.arm if facts and facts.distilled else None,
        storage=facts.storage if facts else None,
        clouds_per_class=facts.clouds_per_class if facts else None,
        points=made.metadata.points if isinstance(made, Artefact) else made.points_per_cloud,
        bits=facts.bits if facts else 32,
        bytes_per_class=made.bytes_per_class if isinstance(made, Artefact) else float32_bytes_per_class(made),
        distill_network=_network(objective),
        distill_seed=seed,
        train_seeds=list(evaluation.seeds),
        accuracy=evaluation.accuracies,
        class_accuracy=[run.class_accuracy for run in evaluation.runs],
        ece=[run.ece for run in evaluation.runs],
        right=[run.right for run in evaluation.runs if run.right],
        **mious(evaluation),
        confusion=torch.tensor([run.confusion for run in evaluation.runs]).sum(0).tolist(),
        distill_seconds=spent if seconds is None else seconds,
        prepare_seconds=facts.prepare_seconds if facts else 0.0,
        train_seconds=evaluation.train_seconds,
        peak_mib=peak_mib(),
        class_names=list(evaluation.class_names),
        test_set=evaluation.test_set,
        sweep=None if evaluation.choice is None else evaluation.choice.facts(),
        expansion=facts.expansion if facts else None,
    )


def mious(evaluation: Evaluation) -> dict[str, Any]:
    """Intersections over unions of networks that label points; nothing of others."""
    columns = {
        name: [value for run in evaluation.runs if (value := getattr(run, name)) is not None]
        for name in ("class_miou", "instance_miou", "class_ious")
    }
    return {name: values for name, values in columns.items() if values}


def float32_bytes_per_class(clouds: AnyClouds) -> float:
    """Bytes of a whole set's coordinates as float32, and of a label a point, over the number of classes."""
    labels = 0 if clouds.parts is None else clouds.parts.numel()
    return (len(clouds) * clouds.points_per_cloud * 12 + labels) / clouds.num_classes


def summed_up(
    benchmark: str,
    dataset: str,
    protocol: EvaluationProtocol,
    runs: Sequence[Run],
    command: str,
    commit: str,
    **more: Any,
) -> Record:
    """The record of an arm: its runs (at least one) over distillation seeds, made and tested as `protocol` says.

    Args:
        benchmark, dataset: names.
        protocol: of every run.
        runs: in the order of the seeds.
        command, commit: how to measure it again.
        more: further fields of a record; `hardware`, where it was not the processor of this machine.
    """
    protocol = protocol.suiting(parts=bool(runs[0].class_miou))
    accuracy = [value for run in runs for value in run.accuracy]
    mean, deviation = mean_std(accuracy)
    class_accuracy = [value for run in runs for value in run.class_accuracy]
    for name in ("class_miou", "instance_miou"):
        if values := [value for run in runs for value in getattr(run, name)]:
            middle, spread = mean_std(values)
            more |= {name: values, f"{name}_mean": middle, f"{name}_std": spread}
    if ious := [one for run in runs for one in run.class_ious]:
        more["class_ious"] = ious
    more.setdefault("hardware", hardware())
    if protocol.grid is not None:
        more |= {"grid": protocol.grid.model_dump(mode="json"), "sweep": [run.sweep for run in runs]}
    # The seed of an expansion is that of its run.
    if expansion := {key: value for key, value in (runs[0].expansion or {}).items() if key != "seed"}:
        more["expansion"] = expansion
    return Record(
        benchmark=benchmark,
        dataset=dataset,
        **{name: getattr(runs[0], name) for name in TrainingSet.model_fields},
        protocol=f"{protocol.name} v{protocol.recipe.version}",
        network=protocol.network,
        recipe=protocol.recipe.model_dump(mode="json"),
        test_points=protocol.test_points,
        thin=protocol.thin,
        test_set=runs[0].test_set,
        class_names=runs[0].class_names,
        accuracy=accuracy,
        accuracy_mean=mean,
        accuracy_std=deviation,
        class_accuracy=class_accuracy,
        class_accuracy_mean=mean_std(class_accuracy)[0],
        ece=[value for run in runs for value in run.ece],
        right=[value for run in runs for value in run.right],
        confusion=torch.tensor([run.confusion for run in runs]).sum(0).tolist(),
        distill_seeds=[run.distill_seed for run in runs],
        train_seeds=[seed for run in runs for seed in run.train_seeds],
        distill_seconds=sum(run.distill_seconds for run in runs) / len(runs),
        prepare_seconds=max(run.prepare_seconds for run in runs),
        train_seconds=sum(run.train_seconds for run in runs) / len(accuracy),
        peak_mib=max(run.peak_mib for run in runs),
        command=command,
        commit=commit,
        versions=versions(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        **more,
    )


def _network(objective: dict[str, Any]) -> str | None:
    """Name of the surrogate network, wherever the objective's settings have it."""
    if isinstance(objective.get("network"), str):
        return str(objective["network"])
    inner = (_network(value) for value in objective.values() if isinstance(value, dict))
    return next((name for name in inner if name), None)

"""Benchmark records: one JSON object per arm in `benchmarks/results/<benchmark>.jsonl`.

Tables and plots are made from these files and from nothing else.
"""

import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from pcdistill.clouds import PointClouds
from pcdistill.environment import hardware, versions
from pcdistill.errors import InputError
from pcdistill.evaluation.scores import mean_std, peak_mib
from pcdistill.evaluation.sweep import Evaluation, evaluate
from pcdistill.files import atomic
from pcdistill.storage import Artefact
from pcdistill.training import Lesson, OnProgress, Protocol


class Record(BaseModel):
    """One arm of a benchmark; further fields are allowed, these are always there.

    Attributes:
        arm: `random`, `herding`, `kcenter`, `medoid`, `whole`, or the method's registered name.
        distilled: whether anything was learned.
        bytes_per_class: stored bytes, fixed overhead apart, over the number of classes.
        accuracy: a fraction per run; runs are distillation seeds x training seeds.
        prepare_seconds: bank, experts; computed once per data set.
        peak_mib: peak memory of the process that distilled (selected, trained).

    Records made since there is more than one network also have, per run, `class_accuracy`, `ece` and `right`, and the
    `confusion` of all runs together (`Scores`); `class_names`; `test_points`, `thin` and `grid` of the protocol, and
    `test_set`, a digest of the test clouds in their order. With a grid there is `sweep`, the recipe that every
    distillation seed's set got, and what was tried.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    benchmark: str
    dataset: str
    arm: str
    distilled: bool
    objective: str | None
    storage: str | None
    clouds_per_class: int | float | None
    points: int
    bits: int | None
    bytes_per_class: float
    protocol: str
    network: str
    distill_network: str | None
    accuracy: list[float]
    accuracy_mean: float
    accuracy_std: float
    class_accuracy_mean: float
    distill_seeds: list[int]
    train_seeds: list[int]
    distill_seconds: float
    prepare_seconds: float
    train_seconds: float
    peak_mib: int
    command: str
    commit: str
    versions: dict[str, str]
    hardware: str
    date: str

    def key(self) -> tuple[Any, ...]:
        """What a record is about: a newer one with the same key replaces it."""
        fields = ("benchmark", "dataset", "arm", "storage", "clouds_per_class", "points", "bits", "protocol", "network")
        more = self.model_extra or {}
        expansion = json.dumps(more.get("expansion"), sort_keys=True)
        # What it was tested on and how it was trained for that, of `pcdistill evaluate`.
        seen = (more.get("view"), more.get("train_rotation"), more.get("thin"))
        return (*(getattr(self, name) for name in fields), more.get("variant"), expansion, *seen)


# What has to agree for two records to be of the same clouds, and what it is in records that do not say so.
TEST_FIELDS: dict[str, Any] = {"split": "test", "view": "clean", "test_points": 1024, "test_set": None}


def setting(record: Record, field: str) -> Any:
    """A field of a record, one of `TEST_FIELDS` also where the record is older than it."""
    value = getattr(record, field, None)
    return TEST_FIELDS.get(field) if value is None else value


class Run(BaseModel):
    """One training set of an arm, made with one seed, and the networks trained on it; some of these are a `Record`.

    Attributes:
        accuracy, class_accuracy: fractions, of every network.
        train_seeds: those of the networks.
        ece, right: of every network, as in `Scores`.
        confusion: summed over the networks.
        train_seconds: all networks together, tests included.
        class_names: in the order of `confusion`.
        test_set: first digits of the fingerprint of the test clouds as far as they are looked at.
        sweep: the recipe that a grid gave, and what was tried (`sweep.Choice`).
        expansion: of what is stored, which bytes and `points` count, into what is trained on; absent from records
            where there is none.

    The others are as in `Record`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arm: str
    distilled: bool
    objective: str | None
    storage: str | None
    clouds_per_class: int | float | None
    points: int
    bits: int
    bytes_per_class: float
    distill_network: str | None
    distill_seed: int
    train_seeds: list[int]
    accuracy: list[float]
    class_accuracy: list[float]
    ece: list[float]
    right: list[str]
    confusion: list[list[int]]
    distill_seconds: float
    prepare_seconds: float
    train_seconds: float
    peak_mib: int
    class_names: list[str]
    test_set: str
    sweep: dict[str, Any] | None = None
    expansion: dict[str, Any] | None = None


def measure(
    made: Artefact | PointClouds,
    test: PointClouds,
    plan: Protocol,
    seed: int,
    networks: int,
    seconds: float | None = None,
    on_progress: OnProgress | None = None,
    validation: PointClouds | None = None,
    lesson: Lesson | None = None,
) -> Run:
    """Train networks on an artefact's clouds (expanded if it says so), or on a whole set, and test them.

    Args:
        made: what is trained on.
        test: clouds of the same classes.
        plan: how.
        seed: that `made` was made with; its networks have the seeds `100 * seed`, `100 * seed + 1`, ...
        networks: how many.
        seconds: that making took; by default what the artefact says.
        on_progress, validation, lesson: as in `evaluate`.

    Raises:
        InputError: as `evaluate`.
    """
    clouds = made.training_clouds if isinstance(made, Artefact) else made
    train_seeds = [100 * seed + number for number in range(networks)]
    if isinstance(made, Artefact) and lesson is None:  # a teacher has a temperature of its own, and a plan to suit
        plan = made.taught(plan)
    found = evaluate(clouds, test, plan, train_seeds, on_progress, validation, lesson=lesson)
    return as_run(made, found, seed, seconds)


def as_run(made: Artefact | PointClouds, found: Evaluation, seed: int, seconds: float | None = None) -> Run:
    """What was found out about `made`, with what it is; arguments as in `measure`."""
    facts = made.metadata if isinstance(made, Artefact) else None
    spent = 0.0 if facts is None else facts.distill_seconds
    objective = (facts.objective or {}) if facts else {}
    return Run(
        arm=facts.arm if facts else "whole",
        distilled=facts.distilled if facts else False,
        objective=facts.arm if facts and facts.distilled else None,
        storage=facts.storage if facts else None,
        clouds_per_class=facts.clouds_per_class if facts else None,
        points=made.metadata.points if isinstance(made, Artefact) else made.points_per_cloud,
        bits=facts.bits if facts else 32,
        bytes_per_class=made.bytes_per_class if isinstance(made, Artefact) else float32_bytes_per_class(made),
        distill_network=_network(objective),
        distill_seed=seed,
        train_seeds=list(found.seeds),
        accuracy=found.accuracies,
        class_accuracy=[run.class_accuracy for run in found.runs],
        ece=[run.ece for run in found.runs],
        right=[run.right for run in found.runs],
        confusion=torch.tensor([run.confusion for run in found.runs]).sum(0).tolist(),
        distill_seconds=spent if seconds is None else seconds,
        prepare_seconds=facts.prepare_seconds if facts else 0.0,
        train_seconds=found.train_seconds,
        peak_mib=peak_mib(),
        class_names=list(found.class_names),
        test_set=found.test_set,
        sweep=None if found.choice is None else found.choice.facts(),
        expansion=facts.expansion if facts else None,
    )


def float32_bytes_per_class(clouds: PointClouds) -> float:
    """Bytes of a whole set's coordinates as float32, over the number of classes."""
    return clouds.points.numel() * 4 / clouds.num_classes


def summed_up(
    benchmark: str, dataset: str, plan: Protocol, runs: Sequence[Run], command: str, commit: str, **more: Any
) -> Record:
    """The record of an arm: its runs (at least one) over distillation seeds, made and tested as `plan` says.

    Args:
        benchmark, dataset: names.
        plan: of every run.
        runs: in the order of the seeds.
        command, commit: how to measure it again.
        more: further fields.
    """
    accuracy = [value for run in runs for value in run.accuracy]
    mean, deviation = mean_std(accuracy)
    by_run: dict[str, Any] = {
        name: [value for run in runs for value in getattr(run, name)] for name in ("class_accuracy", "ece", "right")
    }
    by_run["confusion"] = torch.tensor([run.confusion for run in runs]).sum(0).tolist()
    read: dict[str, Any] = {"test_points": plan.test_points, "thin": plan.thin}
    if plan.grid is not None:
        read |= {"grid": plan.grid.model_dump(mode="json"), "sweep": [run.sweep for run in runs]}
    # The seed of an expansion is that of its run.
    expansion = {key: value for key, value in (runs[0].expansion or {}).items() if key != "seed"}
    shared = ("arm", "distilled", "objective", "storage", "clouds_per_class", "points", "bits", "bytes_per_class",
              "distill_network")  # fmt: skip
    return Record(
        benchmark=benchmark,
        dataset=dataset,
        **{name: getattr(runs[0], name) for name in shared},
        protocol=f"{plan.name} v{plan.recipe.version}",
        network=plan.network,
        accuracy=accuracy,
        accuracy_mean=mean,
        accuracy_std=deviation,
        class_accuracy_mean=mean_std([value for run in runs for value in run.class_accuracy])[0],
        distill_seeds=[run.distill_seed for run in runs],
        train_seeds=[seed for run in runs for seed in run.train_seeds],
        distill_seconds=sum(run.distill_seconds for run in runs) / len(runs),
        prepare_seconds=max(run.prepare_seconds for run in runs),
        train_seconds=sum(run.train_seconds for run in runs) / len(accuracy),
        peak_mib=max(run.peak_mib for run in runs),
        command=command,
        commit=commit,
        versions=versions(),
        hardware=hardware(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        **by_run,
        **{**read, "class_names": runs[0].class_names, "test_set": runs[0].test_set},
        **{"recipe": plan.recipe.model_dump(mode="json"), **({"expansion": expansion} if expansion else {}), **more},
    )


def _network(objective: dict[str, Any]) -> str | None:
    """Name of the surrogate network, wherever the objective's settings have it."""
    if isinstance(objective.get("network"), str):
        return str(objective["network"])
    inner = (_network(value) for value in objective.values() if isinstance(value, dict))
    return next((name for name in inner if name), None)


def read_records(path: Path) -> list[Record]:
    """All records of a file, none if it does not exist.

    Raises:
        InputError: not text, or naming the line that is not a record.
    """
    if not path.exists():
        return []
    records = []
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError:
        raise InputError(path, "no text", "records (.jsonl)") from None
    for number, line in enumerate(lines, 1):
        try:
            records.append(Record.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            found = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise InputError(f"{path}:{number}", found, "a benchmark record") from None
    return records


def write_record(path: Path, record: Record) -> None:
    """Add `record` to the file, in place of the one about the same arm, if there is one."""
    records = read_records(path)
    places = [i for i, old in enumerate(records) if old.key() == record.key()]
    if places:
        records[places[0]] = record
    else:
        records.append(record)
    write_records(path, records)


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write a file of these records and no others."""
    with atomic(path) as temporary:
        temporary.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in records))


def accuracy_cell(record: Record) -> str:
    """`84.3 ± 0.6` in per cent, without the spread where there is one run only."""
    spread = f" ± {100 * record.accuracy_std:.1f}" if len(record.accuracy) > 1 else ""
    return f"{100 * record.accuracy_mean:.1f}{spread}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column left, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"

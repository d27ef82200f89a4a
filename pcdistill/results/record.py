"""Records: one JSON object per arm, as lines of a file; tables and plots are made from these and from nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pcdistill.core.errors import InputError
from pcdistill.core.files import alone_in, atomic
from pcdistill.core.options import Options

WHOLE = "whole"
PRESET = "preset:"
Count = Annotated[int, Field(ge=0)]
Facts = dict[str, Any]


class TrainingSet(Options):
    """What networks were trained on.

    Attributes:
        arm: `random`, `herding`, `kcenter`, `medoid`, `whole`, or the method's registered name.
        distilled: whether anything was learned.
        objective, storage: registered names; None for selections and for whole sets.
        clouds_per_class: of classes that differ, on average; None for a whole set and where there is no set.
        points: of a stored cloud.
        bits: of a coordinate.
        bytes_per_class: stored bytes, fixed overhead apart, over the number of classes.
        distill_network: the surrogate network; None where there is none.
    """

    arm: str
    distilled: bool
    objective: str | None
    storage: str | None
    clouds_per_class: int | float | None
    points: int
    bits: int | None
    bytes_per_class: float
    distill_network: str | None


class Tested(TrainingSet):
    """A training set and how networks did that were trained on it; only those with a test of single clouds have all.

    Attributes:
        train_seeds: those of the networks.
        accuracy, class_accuracy: fractions, of every network.
        ece, right: of every network, as in `Scores`.
        class_miou, instance_miou: fractions, of every network that labels points; then `accuracy` is that of points,
            and `confusion`, in points, and `class_names` are of parts.
        class_ious: what `class_miou` is the mean of, for every network by the name of the class; older records lack it.
        confusion: test clouds of class i taken for class j, at [i][j] of a square, by all networks together.
        class_names: in the order of `confusion`.
        test_set: first digits of the fingerprint of the test clouds as far as they are looked at, in their order.
        distill_seconds, train_seconds: wall-clock time.
        prepare_seconds: bank, experts; computed once per data set.
        peak_mib: peak memory of the process that distilled (selected, trained).
        expansion: of what is stored, which bytes and `points` count, into what is trained on; None where that is all.
    """

    train_seeds: list[int]
    accuracy: list[float]
    class_accuracy: list[float] = Field(default_factory=list)
    ece: list[float] = Field(default_factory=list)
    right: list[str] = Field(default_factory=list)
    class_miou: list[float] = Field(default_factory=list)
    instance_miou: list[float] = Field(default_factory=list)
    class_ious: list[dict[str, float]] = Field(default_factory=list)
    confusion: list[list[Count]] = Field(default_factory=list)
    class_names: list[str] = Field(default_factory=list)
    test_set: str | None = None
    distill_seconds: float
    prepare_seconds: float
    train_seconds: float
    peak_mib: int
    expansion: Facts | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        classes, names = len(self.confusion), len(self.class_names)
        if any(len(line) != classes for line in self.confusion):
            raise ValueError(f"'confusion' of {classes} lines that are not as long, expected a square")
        if classes and names and classes != names:
            raise ValueError(f"'confusion' of {classes} lines and {names} class names, expected a name for each")
        return self


class Run(Tested):
    """One training set of an arm, made with one seed, and the networks trained on it; some of these are a `Record`.

    Attributes:
        distill_seed: that the set was made with.
        train_seconds: all networks together, tests included.
        sweep: the recipe that a grid gave, and what was tried (`sweep.Choice`).
    """

    distill_seed: int
    sweep: Facts | None = None


class Record(Tested):
    """One arm of a benchmark, all runs together; what is not said (older records say less) has a default here.

    Runs are distillation seeds x training seeds; lists have an entry per run. A field that is not declared here is
    refused: a benchmark that measures something new declares it, or keeps a file of its own.

    Attributes:
        benchmark: who measured.
        variant: the arm as it was asked for, where its name does not say it.
        protocol: name and version.
        network: that was trained.
        recipe, grid: of the protocol, as JSON; with a grid, `sweep` is the recipe that every distillation seed's set
            got, and what was tried.
        accuracy_mean, accuracy_std, class_accuracy_mean: of the runs; and of `class_miou` and `instance_miou`, if any.
        train_seconds: of one network, on average.
        split: that was tested on, in words if it is not `test`.
        condition: name of the test set's condition; older records call it `view`.
        test_points, thin: points of a test cloud, and whether it is thinned to as many as were trained on.
        train_rotation: axis about which training clouds were turned: none, z or so3.
        trained, settings: digests of all that the training, and the record, follow from; `evaluate` goes on by them.
        threads: of the processor.
        teacher: what it says of itself (`Teacher.describe`).
        command, commit, versions, hardware, date: how, with what and when it was measured.
        labels, teacher_seconds, teacher_gflops, labelling_gflops, student_gflops: of the benchmark `teaching`.
        lesson, labelled_per_network, labelling_seconds_per_network: of `onpolicy`: clouds that the teacher labelled.
        part: of `knowledge` and of the search for a teacher, which also has the others: candidates as JSON.
        scenario, how, stage, budget, memory_kb, memory_seeds, old_accuracy, new_accuracy: of `incremental`; a budget in
            bytes per class, and accuracies on the classes known before and on the new ones.
        quality: of every set, what an audit says of it.
    """

    benchmark: str
    dataset: str
    variant: str | None = None
    protocol: str
    network: str
    recipe: Facts | None = None
    grid: Facts | None = None
    sweep: list[Facts | None] | None = None
    accuracy_mean: float
    accuracy_std: float
    class_accuracy_mean: float
    class_miou_mean: float | None = None
    class_miou_std: float | None = None
    instance_miou_mean: float | None = None
    instance_miou_std: float | None = None
    distill_seeds: list[int]
    split: str = "test"
    condition: str = Field(default="clean", validation_alias=AliasChoices("condition", "view"))
    test_points: int = 1024
    thin: bool = False
    train_rotation: str | None = None
    trained: str | None = None
    settings: str | None = None
    threads: int | None = None
    teacher: Facts | None = None
    labels: str | None = None
    teacher_seconds: float | None = None
    teacher_gflops: float | None = None
    labelling_gflops: float | None = None
    student_gflops: float | None = None
    lesson: str | None = None
    labelled_per_network: int | float | None = None
    labelling_seconds_per_network: float | None = None
    part: str | None = None
    rung: Facts | None = None
    ladder: list[Facts] | None = None
    chosen: Facts | None = None
    strongest: Facts | None = None
    rank_correlations: dict[str, float | None] | None = None
    scenario: str | None = None
    how: str | None = None
    stage: int | None = None
    budget: int | None = None
    memory_kb: float | None = None
    memory_seeds: list[int] | None = None
    old_accuracy: list[float] | None = None
    new_accuracy: list[float] | None = None
    quality: list[Facts] | None = None
    command: str
    commit: str
    versions: dict[str, str]
    hardware: str
    date: str

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> Facts:
        """What the record was made with, and no defaults: a line that is read and written again says the same."""
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

    def key(self) -> tuple[object, ...]:
        """What a record is about: a newer one with the same key replaces it."""
        return (
            self.benchmark, self.dataset, self.arm, self.storage, self.clouds_per_class, self.points, self.bits,
            self.protocol, self.network, self.variant, json.dumps(self.expansion, sort_keys=True),
            self.condition, self.train_rotation, self.thin,
        )  # fmt: skip


def read_records(path: Path) -> list[Record]:
    """All records of a file, none if it does not exist.

    Raises:
        InputError: not text, or naming the line that is not a record, and the field.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(path, "no text", "records (.jsonl)") from None
    return [Record.from_json(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]


def begins_with_record(path: Path) -> bool:
    """Whether the first line of a file is a record, perhaps one with fields that this release does not know."""
    with path.open(encoding="utf-8-sig") as lines:
        try:
            Record.model_validate_json(lines.readline())
        except UnicodeDecodeError:
            return False
        except ValidationError as error:
            return all(fault["type"] == "extra_forbidden" for fault in error.errors())
    return True


def write_record(path: Path, record: Record) -> None:
    """Add `record` to the file, in place of the one about the same arm, if there is one; others may do so meanwhile."""
    with alone_in(path.parent):
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
        temporary.write_text("".join(json.dumps(one.model_dump()) + "\n" for one in records), encoding="utf-8")

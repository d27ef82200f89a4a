"""`pcdistill evaluate`: accuracy of networks that are trained on a set, or of a trained one."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import Field, model_validator

from pcdistill.artefact.artefact import set_name
from pcdistill.commands.base import Command, tell, warn
from pcdistill.core.environment import hardware, revision
from pcdistill.core.errors import InputError
from pcdistill.core.progress import Say, progress
from pcdistill.core.tracking import Tracked, Tracking
from pcdistill.evaluation import (
    Condition,
    Evaluation,
    TestSets,
    evaluate_conditions,
    parse_conditions,
    parts_of,
    planned_steps,
    score_conditions,
)
from pcdistill.evaluation.subject import Subject, SubjectSpec, SupervisionSpec, open_subject, open_test_sets
from pcdistill.results.confusion import per_class
from pcdistill.results.kept import BENCHMARK, Kept, run_of, settings_digest, training_digest
from pcdistill.results.measure import summed_up
from pcdistill.results.record import Record
from pcdistill.results.table import mean_per_cent
from pcdistill.teaching import OnPolicy
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.trained import Trained

# Of a record, what trackers are told.
TOLD = (
    "dataset", "arm", "variant", "network", "condition", "protocol", "accuracy_mean", "accuracy_std",
    "class_accuracy_mean", "class_miou_mean", "instance_miou_mean", "bytes_per_class", "clouds_per_class", "points",
    "train_seconds",
)  # fmt: skip
USUAL_POINTS = EvaluationProtocol.model_fields["test_points"].default


class Cell(NamedTuple):
    """One kind of network under one condition: its record, and what that is of, unless it was there already."""

    record: Record
    evaluation: Evaluation | None


class Evaluate(SubjectSpec, SupervisionSpec, Tracked, Command):
    """Train networks on an artefact or a whole data set and measure their test accuracy, or a trained network's.

    Several networks, or conditions besides the clean test set, give a table.
    """

    networks: Annotated[tuple[str, ...], Field(description="several kinds of network in place of one")] = ()
    conditions: Annotated[
        tuple[str, ...],
        Field(
            description="changed test sets to test on besides the clean one: rotations, resolutions, corruptions, "
            "pointcloud-c, all; or singly: z so3 512 (points) gaussian (five severities) gaussian:3 data:modelnet40"
        ),
    ] = ()
    stream: Annotated[bool, Field(description="read the training set batch by batch: for sets larger than memory")] = (
        False
    )
    output: Annotated[
        Path | None, Field(description="folder for records.jsonl, table.md and plots; goes on where it was stopped")
    ] = None
    per_class: Annotated[bool, Field(description="print every class's accuracy and what is mistaken for what")] = False
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False

    renamed: ClassVar[Mapping[str, str]] = {
        "data": "test_data", "views": "conditions", "seeds": "train_seeds", "steps": "train_steps",
        "ranking": "pcdistill rank", "train_rotation": "rotate",
    }  # fmt: skip

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_conditions(self.conditions)
        if twice := next((name for name in self.networks if self.networks.count(name) > 1), None):
            raise InputError("networks", f"'{twice}' twice", "each once")
        return self

    def run(self, say: Say) -> None:
        if self.network is not None and self.networks:
            raise InputError("evaluate", "--network and --networks", "one of them")
        with closing(open_subject(self, streamed=self.stream)) as subject:
            self._evaluate(subject, say)

    def _evaluate(self, subject: Subject, say: Say) -> None:
        tell_of(subject)
        conditions, others = self._tests(subject)
        kept = Kept(self.output)
        cells = list[Cell]()
        with self.tracking() as tracking:
            for protocol in self._protocols(subject):  # all names are known before the first is trained
                cells += self._cells(subject, protocol, conditions, others, kept, tracking)
        single = cells[0].evaluation if len(cells) == 1 and self.output is None else None
        if single is not None:
            self._say_one(single, subject, say)
        elif self.json_:
            kept.summed_up(lambda _: None)
            say(json.dumps([cell.record.model_dump(mode="json") for cell in cells]))
        else:
            kept.summed_up(say)
            self._say_classes([cell.record for cell in cells], say)

    def _protocols(self, subject: Subject) -> list[EvaluationProtocol]:
        """One for every kind of network."""
        if not self.networks:
            return [subject.protocol]
        if isinstance(subject.made, Trained):
            raise InputError(self.source, "a trained network with --networks", "a set to train on")
        parts = subject.clouds.parts is not None
        return [subject.protocol.using(name).suiting(parts) for name in self.networks]

    def _tests(self, subject: Subject) -> tuple[list[Condition], TestSets]:
        """The conditions, and the data sets that some of them are of."""
        conditions = parse_conditions(self.conditions, subject.test.points_per_cloud)
        names = [condition.dataset for condition in conditions if condition.dataset is not None]
        if names and subject.supervision is not None:
            raise InputError("conditions", "of other data sets, with a teacher", "conditions of the same classes")
        return conditions, open_test_sets(names, self)

    def _cells(
        self,
        subject: Subject,
        protocol: EvaluationProtocol,
        conditions: Sequence[Condition],
        others: TestSets,
        kept: Kept,
        tracking: Tracking,
    ) -> list[Cell]:
        """A cell per condition: those that are there, and those of what is missing, kept one by one."""
        trained = training_digest(subject, protocol, range(self.train_seeds))
        settings = {one: settings_digest(trained, one, others.get(one.dataset or "")) for one in conditions}
        there = {one: record for one in conditions if (record := kept.find(settings[one])) is not None}
        cells = {one: Cell(record, None) for one, record in there.items()}
        missing = [one for one in conditions if one not in cells]
        results = self._results(subject, protocol, missing, others, tracking)
        if missing:
            kept.check_writable()
        for condition, evaluation in results:
            record = summed_up(
                BENCHMARK, set_name(self.test_data or subject.dataset), protocol, [run_of(subject, evaluation)],
                self._command(), revision(), variant=set_name(self.source), condition=condition.name,
                train_rotation=protocol.recipe.augmentation.rotate, trained=trained, settings=settings[condition],
                hardware=hardware(self.device),
            )  # fmt: skip
            kept.add(record)
            cells[condition] = Cell(record, evaluation)
        for one in conditions:
            record = cells[one].record
            tracking.result(f"{record.network} {one.name}", record.model_dump(mode="json", include=set(TOLD)))
        return [cells[one] for one in conditions]

    def _results(
        self,
        subject: Subject,
        protocol: EvaluationProtocol,
        conditions: Sequence[Condition],
        others: TestSets,
        tracking: Tracking,
    ) -> Iterator[tuple[Condition, Evaluation]]:
        """Networks trained, unless one is, and scored, one by one; what does not fit is refused at once."""
        if isinstance(subject.made, Trained):
            return score_conditions(subject.made, subject.test, conditions, others)
        parts = parts_of(subject.clouds, subject.test, conditions, protocol, others)
        total = planned_steps(protocol, len(subject.clouds), self.train_seeds, parts)

        def results() -> Iterator[tuple[Condition, Evaluation]]:
            with progress(f"{protocol.network} of {set_name(self.source)}", total) as report:
                yield from evaluate_conditions(
                    subject.clouds, parts, protocol, range(self.train_seeds), report, validation=subject.validation,
                    device=self.device, supervision=subject.supervision,
                    on_losses=tracking.numbers if tracking else None,
                )  # fmt: skip

        return results() if parts else iter(())

    def _say_one(self, evaluation: Evaluation, subject: Subject, say: Say) -> None:
        asked = subject.supervision.calls if isinstance(subject.supervision, OnPolicy) else None
        if self.json_:
            # A class without test clouds has no accuracy: null, as JSON has no NaN.
            runs = [
                {name: value for name, value in vars(run).items() if value is not None}
                | {"per_class": [None if math.isnan(share) else share for share in run.per_class]}
                for run in evaluation.runs
            ]
            sweep = {} if evaluation.choice is None else {"sweep": evaluation.choice.facts()}
            labelled = {} if asked is None else {"labelled": vars(asked)}
            say(json.dumps({
                "seeds": evaluation.seeds, "seconds": evaluation.train_seconds, "runs": runs, **sweep, **labelled,
            }))  # fmt: skip
            return
        say(f"accuracy           {mean_per_cent(evaluation.accuracies)}")
        say(f"class accuracy     {mean_per_cent([run.class_accuracy for run in evaluation.runs])}")
        for name in ("instance_miou", "class_miou"):
            if values := [value for run in evaluation.runs if (value := getattr(run, name)) is not None]:
                say(f"{name.replace('_miou', ' mIoU'):19}{mean_per_cent(values)}")
        say(f"calibration error  {mean_per_cent([run.ece for run in evaluation.runs])}")
        say(f"networks           {len(evaluation.runs)}, {evaluation.train_seconds:.0f} s")
        if asked is not None:
            say(f"teacher            {asked.clouds:,} clouds labelled in {asked.seconds:.1f} s")
        if evaluation.choice is not None:
            chosen, tried = evaluation.choice.protocol.recipe, len(evaluation.choice.trials)
            best = f"best of {tried} on held-out training clouds"
            say(f"recipe             lr {chosen.lr:g}, {chosen.steps} steps: {best}")
        if self.per_class:
            confusion = torch.tensor([run.confusion for run in evaluation.runs]).sum(0).tolist()
            say(per_class(confusion, evaluation.class_names))

    def _say_classes(self, records: Sequence[Record], say: Say) -> None:
        for record in records if self.per_class else ():
            say(f"\n{record.network}, {record.condition}:\n{per_class(record.confusion, record.class_names)}")

    def _command(self) -> str:
        """The command line, without what does not matter for the numbers and the folders of whoever ran it."""
        words = ["pcdistill", "evaluate", set_name(self.source)]
        for key, value in self.model_dump(by_alias=True, exclude_defaults=True).items():
            if key not in ("source", "root", "output", "json", "per_class", "log", "trackers"):
                words += ["--" + key.replace("_", "-"), *_words(value)]
        return shlex.join(words)


def tell_of(subject: Subject) -> None:
    """How what is trained on and tested was read, and whether test clouds have fewer points than usual."""
    tell(subject.made, subject.test)
    if subject.artefact is not None:
        ours, theirs = subject.artefact.metadata.source.get("up_axis"), subject.test.provenance.get("up_axis")
        if ours is not None and ours != theirs:
            warn(f"made of clouds whose up axis is {ours}, tested on clouds whose up axis is {theirs} (--up-axis)")
    points = subject.protocol.test_points
    if points == subject.test.points_per_cloud < USUAL_POINTS:
        warn(f"tested at {points} points, all that test clouds have; {USUAL_POINTS} are usual (--test-points)")


def _words(value: Any) -> list[str]:
    """A value on the command line; of files their names."""
    if value is True:
        return []
    if isinstance(value, dict):
        return [f"{name}={inner}" for name, inner in value.items()]
    parts = value if isinstance(value, tuple | list) else [value]
    return [part.name if isinstance(part, Path) else set_name(str(part)) for part in parts]

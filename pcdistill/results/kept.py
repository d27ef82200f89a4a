"""Records of `pcdistill evaluate` in a folder: what is there with the same settings need not be measured again.

Settings are a digest of all that a result follows from. Records of other sources in the folder stay; those of the same
column that were trained otherwise (other seeds, steps, or another set under the same name) go, as a column is of one
training.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcdistill.artefact.artefact import set_name
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import versions
from pcdistill.core.files import alone_in, atomic, check_writable
from pcdistill.core.progress import Say
from pcdistill.evaluation.conditions import CONDITION_SEED, Condition
from pcdistill.evaluation.evaluate import Evaluation
from pcdistill.evaluation.scores import peak_mib
from pcdistill.evaluation.subject import Subject
from pcdistill.results.by_condition import PLOT_FILES, column_of, draw, markdown
from pcdistill.results.measure import as_run, mious
from pcdistill.results.record import Record, Run, read_records, write_records
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.trained import Trained

BENCHMARK = "evaluate"  # of the records
FILES = ("records.jsonl", "table.md", *PLOT_FILES)


class Kept:
    """The records of a folder, or none where there is no folder.

    Raises:
        InputError: a file that holds something else.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.records = [] if folder is None else read_records(folder / "records.jsonl")

    def find(self, settings: str) -> Record | None:
        """The record with these settings."""
        return next((one for one in self.records if one.settings == settings), None)

    def check_writable(self) -> None:
        """Refuse a folder that cannot be written to, before hours of work are spent on it.

        Raises:
            OSError: naming the file.
        """
        if self.folder is not None:
            for name in FILES:
                check_writable(self.folder / name)

    def add(self, record: Record) -> None:
        """Keep a record, in place of those of its column that were trained otherwise; written at once.

        Records that another process has added meanwhile stay.

        Raises:
            InputError: the file holds something else by now.
        """
        if self.folder is None:
            self.records = _with(self.records, record)
            return
        file = self.folder / "records.jsonl"
        with alone_in(self.folder):
            self.records = _with(read_records(file), record)
            write_records(file, self.records)

    def summed_up(self, say: Say) -> None:
        """Say the table of all records of evaluations, and write it and the plots beside them."""
        records = [one for one in self.records if one.benchmark == BENCHMARK]
        text = markdown(records)
        say(text.rstrip("\n"))
        if self.folder is not None:
            with atomic(self.folder / "table.md") as temporary:
                temporary.write_text(text, encoding="utf-8")
            draw(records, self.folder, say)


def _with(records: Sequence[Record], record: Record) -> list[Record]:
    return [*(one for one in records if _stays(one, record)), record]


def _stays(one: Record, new: Record) -> bool:
    if one.benchmark != BENCHMARK or column_of(one) != column_of(new):
        return True
    return one.trained == new.trained and one.condition != new.condition


def training_digest(subject: Subject, protocol: EvaluationProtocol, seeds: Sequence[int]) -> str:
    """Of all that the accuracies of a column follow from: its training, and the clean test set."""
    training: list[Any] = [subject.digest]
    if not isinstance(subject.made, Trained):
        chosen_on = None if subject.validation is None else subject.validation.fingerprint()
        taught_by = [] if subject.supervision is None else subject.supervision.describe()
        training += [chosen_on, list(seeds), taught_by]
    named = [set_name(subject.source), set_name(subject.test_data or "")]
    shown = [CONDITION_SEED, versions()["pcdistill"], subject.test.fingerprint()]
    return _digest([*named, *training, protocol.model_dump(mode="json"), *shown])


def settings_digest(trained: str, condition: Condition, other: PointClouds | None) -> str:
    """Of a result: its training, its condition, and the other data set if that is one's."""
    return _digest([trained, condition.name, None if other is None else other.fingerprint()])


def run_of(subject: Subject, evaluation: Evaluation) -> Run:
    """What was found out about a subject, with what it is."""
    if not isinstance(subject.made, Trained):
        seed = 0 if subject.artefact is None else subject.artefact.metadata.seed
        return as_run(subject.made, evaluation, seed)
    (only,) = evaluation.runs
    return Run(
        arm="network", distilled=False, objective=None, storage=None, clouds_per_class=None,
        points=subject.made.points or subject.protocol.test_points, bits=32, bytes_per_class=0.0, distill_network=None,
        distill_seed=0, train_seeds=[], accuracy=evaluation.accuracies, class_accuracy=[only.class_accuracy],
        ece=[only.ece], right=[only.right] if only.right else [], confusion=[list(row) for row in only.confusion],
        distill_seconds=0.0, prepare_seconds=0.0, train_seconds=evaluation.train_seconds, peak_mib=peak_mib(),
        class_names=list(evaluation.class_names), test_set=evaluation.test_set, **mious(evaluation),
    )  # fmt: skip


def _digest(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

"""Whether a student learns more from clouds that it is unsure of: on-policy against off-policy teaching.

    python benchmarks/onpolicy.py modelnet10 krr mix
    python benchmarks/onpolicy.py --all                # every cell of the table, those with a record left out
    python benchmarks/onpolicy.py --all --validation   # the same on the last fifth of train, held out

All arms train the same students on the same sets (those of `networks.py`, kept in `runs/networks`), for the same
number of steps of as many clouds, under the teacher of `teaching.py`, which saw the training set whole. They differ in
what the student is shown and told. `hard`: labels of the set. `online`: the teacher's for every cloud, off-policy.
`unchosen`: a share of every batch is mixed clouds, any. `mix`: those among them that the student is least sure of.
`relabel`: the teacher labels only what the student is wrong about or unsure of. `move`: clouds are moved to where it is
less sure. What the teacher was asked stands in the record, what its training took in those of `teaching.py`. Settings
were chosen on validation, on ModelNet10 only (docs/notebook.md, section 11). Records go to `results/onpolicy.jsonl`.
Nothing here looks at the test set before the end.
"""

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import networks as cross
import teaching

from pcdistill import evaluation
from pcdistill.environment import revision
from pcdistill.evaluation import Record, write_record
from pcdistill.teaching import Online, OnPolicy, OnPolicyOptions, Teacher
from pcdistill.training import Protocol

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "onpolicy.jsonl"
STUDENT, BYTES = "pointnet-tiny", 1229
SETS = ("random", "krr")
LOSS, TEMPERATURE = "mse", 1.0
# What is taught: None is no teacher, an empty table one that labels everything.
LESSONS: Mapping[str, Mapping[str, Any] | None] = {
    "hard": None,
    "online": {},
    "unchosen": {"kind": "mix", "choose": "random"},
    "relabel": {"kind": "relabel"},
    "mix": {"kind": "mix"},
    "move": {"kind": "move"},
}


class Cell(NamedTuple):
    """One set, one way of teaching."""

    dataset: str
    arm: str
    lesson: str
    sets: int = 1
    networks: int = 3
    validation: bool = False

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.arm, self.lesson, "--sets", str(self.sets), "--networks", str(self.networks)]
        return shlex.join(["python", "benchmarks/onpolicy.py", *words, *(["--validation"] if self.validation else [])])

    @property
    def of(self) -> cross.Cell:
        """The set, as `networks.py` knows it."""
        return cross.Cell(self.dataset, self.arm, STUDENT, BYTES, validation=self.validation)

    def plan(self) -> Protocol:
        """That of `networks.py`, with the loss of soft labels where there are any."""
        plan = self.of.plan()
        return plan if self.lesson == "hard" else plan.changed(soft_loss=LOSS, temperature=TEMPERATURE)


def cells(validation: bool) -> list[Cell]:
    """Every cell of the table; of the validation split those of the data set that settings were chosen on."""
    if validation:
        return [Cell("modelnet10", arm, lesson, 1, 4, True) for arm in SETS for lesson in LESSONS]
    # Of ModelNet40 distilling takes minutes a set.
    return [Cell("modelnet10", arm, lesson, 3, 1) for arm in SETS for lesson in LESSONS] + [
        Cell("modelnet40", arm, lesson, 1, 3) for arm in SETS for lesson in LESSONS
    ]


def lesson_of(name: str, teacher: Teacher) -> Online | OnPolicy | None:
    """What an arm is taught."""
    options = LESSONS[name]
    if options is None:
        return None
    return OnPolicy(teacher, OnPolicyOptions.checked(options)) if options else Online(teacher)


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, train students on each, and test them."""
    real, test = cross.splits(cell.of)
    side = "-validation" if cell.validation else ""
    plan, facts = cell.plan(), dict[str, Any](lesson=cell.lesson)
    teacher, _ = teaching.teacher_of(cell.dataset + side, real, TEMPERATURE)
    lesson = lesson_of(cell.lesson, teacher)
    runs = []
    for seed in range(cell.sets):
        made = cross.make(cell.of, real, seed)
        runs.append(evaluation.measure(made, test, plan, seed, cell.networks, lesson=lesson))
        print(f"  seed {seed}: {[round(100 * a, 1) for a in runs[-1].accuracy]}", flush=True)
    students = cell.sets * cell.networks
    if lesson is not None:
        facts["teacher"] = lesson.describe()
        shown = plan.recipe.batch * plan.recipe.total_steps(1)
        asked = lesson.calls.clouds / students if isinstance(lesson, OnPolicy) else shown
        facts["labelled_per_network"] = asked
    if isinstance(lesson, OnPolicy):
        facts["labelling_seconds_per_network"] = lesson.calls.seconds / students
    facts["variant"] = f"{cell.arm} {BYTES} {cell.lesson}{side}"
    facts["split"] = "the last fifth of train held out" if cell.validation else "test"
    return evaluation.summed_up("onpolicy", cell.dataset, plan, runs, cell.command, revision(ROOT), **facts)


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=cross.ARMS)
    parser.add_argument("lesson", nargs="?", choices=tuple(LESSONS))
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--networks", type=int, default=3, help="trained on every set")
    parser.add_argument("--validation", action="store_true", help="test on the last fifth of train, held out")
    given = parser.parse_args()
    if given.all:
        cross.measure_missing((cell.command for cell in cells(given.validation)), lambda: cross.commands_in(RESULTS))
        return
    if given.lesson is None:
        parser.error("a data set, an arm and a lesson are needed, or --all")
    cell = Cell(given.dataset, given.arm, given.lesson, given.sets, given.networks, given.validation)
    record = measure(cell)
    write_record(RESULTS, record)
    print(f"{record.arm} {cell.lesson} {record.network}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

"""What a teacher's labels are worth: hard, static soft and online labels on random, herded and distilled sets.

    python benchmarks/teaching.py modelnet10 krr online --bytes 1229
    python benchmarks/teaching.py --all            # every cell of the tables, those with a record left out

Sets are those of `networks.py` (kept in `runs/networks`). `static` labels are stored with the set, coded
where the set is, and the last clouds of every class make room for them, so that the set has the bytes of the hard one;
`views` are such labels of three random views of every cloud besides. `online` labels cost no byte of the set, but the
teacher must be there. The teacher is a PointNet, trained on the whole training set at the points of the sets (kept in
`runs/teachers`); its seconds and FLOPs, and those of labelling, stand in the record. Loss and temperature were chosen
on validation (docs/notebook.md, section 11). Records go to `results/teaching.jsonl`. Nothing here looks at the test set
before the end.
"""

import argparse
import shlex
import time
from pathlib import Path
from typing import Any, NamedTuple

import networks as cross
import torch
from torch.utils.flop_counter import FlopCounterMode

from pcdistill import evaluation
from pcdistill.allocation import trimmed
from pcdistill.clouds import PointClouds
from pcdistill.environment import revision
from pcdistill.evaluation import Record, write_record
from pcdistill.expansion import Expansion, by_cloud, expand
from pcdistill.geometry import farthest_points
from pcdistill.models import build
from pcdistill.storage import Artefact
from pcdistill.teaching import Online, Teacher, read_teacher
from pcdistill.trained import Trained, save_network
from pcdistill.training import Protocol, protocol, train

ROOT = Path(__file__).parent.parent
RESULTS, TEACHERS = Path(__file__).parent / "results" / "teaching.jsonl", ROOT / "runs" / "teachers"
LABELS = ("hard", "static", "views", "online")
TEACHER, TEACHER_STEPS = "pointnet", 1500
STUDENT = "pointnet-tiny"
LONG = 2400  # steps
TEMPERATURE = {"static": 4.0, "views": 4.0, "online": 1.0}
LOSS = {"static": "kl", "views": "kl", "online": "mse"}
VIEWS = Expansion(views=3)  # further ones of each cloud, with a label each


class Cell(NamedTuple):
    """One set, one kind of labels, one student."""

    dataset: str
    arm: str
    labels: str
    bytes_per_class: int
    student: str = STUDENT
    sets: int = 1
    networks: int = 3
    bits: int = 5
    steps: int = cross.STEPS

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.arm, self.labels, "--bytes", str(self.bytes_per_class), "--student", self.student]
        words += ["--sets", str(self.sets), "--networks", str(self.networks), "--bits", str(self.bits)]
        words += ["--steps", str(self.steps)] if self.steps != cross.STEPS else []
        return shlex.join(["python", "benchmarks/teaching.py", *words])

    @property
    def of(self) -> cross.Cell:
        """The set, as `networks.py` knows it."""
        return cross.Cell(
            self.dataset, self.arm, self.student, self.bytes_per_class or None, bits=self.bits, steps=self.steps
        )

    def plan(self) -> Protocol:
        """That of `networks.py`, with the loss of these labels."""
        plan = self.of.plan()
        if self.labels == "hard":
            return plan
        return plan.changed(soft_loss=LOSS[self.labels], temperature=TEMPERATURE[self.labels])


def cells() -> list[Cell]:
    """Every cell of the tables, the most telling first."""
    listed = []
    for dataset in ("modelnet10", "modelnet40"):
        for size in cross.BUDGETS:
            arms = ["random", "herding", "krr"]
            if size == cross.BUDGETS[2]:
                arms.remove("krr")  # most or all clouds fit: nothing is left to distil
            several = {"krr": 3 if (dataset, size) == ("modelnet10", 1229) else 1, "random": 3, "herding": 1}
            bits = 6 if (dataset, size) == ("modelnet40", cross.BUDGETS[2]) else 5
            for arm in arms:
                made = several[arm] if size == cross.BUDGETS[0] else 1
                for labels in LABELS if size < cross.BUDGETS[2] else ("hard", "static", "online"):
                    listed.append(Cell(dataset, arm, labels, size, STUDENT, made, 1 if made > 1 else 3, bits))
        listed += [Cell(dataset, "whole", labels, 0) for labels in ("hard", "online")]
    # More patience: six hundred steps leave more to learn, the more so of large sets and of teachers.
    for size in cross.BUDGETS[:2]:
        for dataset in ("modelnet40", "modelnet10"):
            for arm in ("krr", "random"):
                for labels in ("hard", "online"):
                    listed.append(Cell(dataset, arm, labels, size, STUDENT, 1, 2, steps=LONG))
    # The full PointNet on the same sets, which a light student is compared with.
    for dataset, size in (("modelnet10", 1229), ("modelnet40", 1229)):
        listed.append(Cell(dataset, "krr", "hard", size, "pointnet", 1, 2))
        listed += [Cell(dataset, "krr", labels, size, student, 1, 3) for student in ("pointnet-nano", "pointnet-light")
                   for labels in ("hard", "online")]  # fmt: skip
    return listed


def teacher_of(dataset: str, real: PointClouds, temperature: float) -> tuple[Teacher, float]:
    """The teacher of a data set and the seconds that its training took; trained once."""
    path = TEACHERS / f"{dataset}-{TEACHER}-{TEACHER_STEPS}.safetensors"
    clock = path.with_suffix(".seconds")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        plan = protocol("tuned", TEACHER).changed(steps=TEACHER_STEPS).model_copy(update={"thin": True})
        network = build(TEACHER, real.num_classes, 0)
        thin = real.with_points(farthest_points(real.points, cross.POINTS))
        start = time.perf_counter()
        train(network, thin, plan.recipe, 0)
        clock.write_text(f"{time.perf_counter() - start:.1f}")
        save_network(path, Trained(network, real.class_names, plan, dataset, cross.POINTS, 0))
    return read_teacher([path], temperature), float(clock.read_text())


def labelled(made: Artefact, teacher: Teacher, views: Expansion | None = None) -> Artefact:
    """A set with the teacher's labels, of its views too, in as many bytes as before: its last clouds make room."""
    storage, room = made.storage, made.storage.nbytes
    with torch.no_grad():
        clouds = storage.decode()
    found = teacher.probabilities(clouds.points if views is None else expand(clouds, views).points)
    storage.soften(found if views is None else by_cloud(found, storage.labels, views.times))
    kept = storage.kept(trimmed(storage, room))
    facts = made.metadata
    told = {**facts.selection, "labels": {"kind": "views" if views else "teacher", **teacher.describe()}}
    per_class = len(kept) / len(facts.class_names)
    count = int(per_class) if per_class.is_integer() else per_class
    changed: dict[str, Any] = {"selection": told, "layout": kept.layout(), "clouds_per_class": count}
    changed["expansion"] = None if views is None else views.model_dump(mode="json")
    return Artefact(kept, facts.model_copy(update=changed))


def flops(network: str, classes: int, clouds: int, points: PointClouds, backward: bool) -> float:
    """Of a pass of `clouds` clouds through the separate layers of a network, and back."""
    made = build(network, classes, 0).eval()
    with FlopCounterMode(display=False) as counter:
        logits = made.classify(made.pooled(points.points[:clouds, : cross.POINTS]))
        if backward:
            logits.sum().backward()
    return float(counter.get_total_flops())


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, train its student on each, and test it."""
    real, test = cross.splits(cell.of)
    plan, runs, facts = cell.plan(), [], dict[str, Any](labels=cell.labels)
    teacher, seconds = None, 0.0
    labelled_sets: list[PointClouds] = []
    if cell.labels != "hard":
        teacher, seconds = teacher_of(cell.dataset, real, plan.recipe.temperature)
    for seed in range(cell.sets):
        made = cross.make(cell.of, real, seed)
        if cell.labels in ("static", "views") and isinstance(made, Artefact) and teacher is not None:
            made = labelled(made, teacher, VIEWS if cell.labels == "views" else None)
            labelled_sets.append(made.training_clouds)
        lesson = Online(teacher) if cell.labels == "online" and teacher is not None else None
        runs.append(evaluation.measure(made, test, plan, seed, cell.networks, lesson=lesson))
        print(f"  seed {seed}: {[round(100 * a, 1) for a in runs[-1].accuracy]}", flush=True)
    if teacher is not None:
        stored = sum(len(each) for each in labelled_sets)
        clouds = plan.recipe.batch * plan.recipe.total_steps(1) if cell.labels == "online" else stored / cell.sets
        facts |= {
            "teacher": teacher.describe(),
            "teacher_seconds": seconds,
            "teacher_gflops": TEACHER_STEPS * flops(TEACHER, real.num_classes, 32, real, True) / 1e9,
            "labelling_gflops": clouds * flops(TEACHER, real.num_classes, 1, real, False) / 1e9,
        }
    facts["student_gflops"] = plan.recipe.total_steps(1) * flops(cell.student, real.num_classes, 32, real, True) / 1e9
    facts["variant"] = f"{cell.arm} {cell.bytes_per_class} {cell.labels}"
    facts["variant"] += f" {cell.steps}" if cell.steps != cross.STEPS else ""
    return evaluation.summed_up(
        "teaching", cell.dataset, plan, runs, cell.command, revision(ROOT), split="test", **facts
    )


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=cross.ARMS)
    parser.add_argument("labels", nargs="?", choices=LABELS)
    parser.add_argument("--bytes", type=int, default=0, help="per class; 0 for the whole set")
    parser.add_argument("--student", default=STUDENT)
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--networks", type=int, default=3, help="trained on every set")
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--steps", type=int, default=cross.STEPS)
    given = parser.parse_args()
    if given.all:
        cross.measure_missing((cell.command for cell in cells()), lambda: cross.commands_in(RESULTS))
        return
    if given.labels is None or (given.arm == "whole") != (given.bytes == 0):
        parser.error("a data set, an arm, labels and (but for the whole set) --bytes are needed, or --all")
    cell = Cell(
        given.dataset,
        given.arm,
        given.labels,
        given.bytes,
        given.student,
        given.sets,
        given.networks,
        given.bits,
        given.steps,
    )
    record = measure(cell)
    write_record(RESULTS, record)
    print(f"{record.arm} {cell.labels} {record.network}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

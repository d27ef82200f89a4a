"""Whether a second set should tell a student what it does not know: distilled at once, in two halves, or focused.

    python benchmarks/knowledge.py modelnet10 focused
    python benchmarks/knowledge.py --all                # every cell of the table, those with a record left out
    python benchmarks/knowledge.py --all --validation   # the same on the last fifth of train, held out

All arms are `krr`, as in `networks.py`. `one`: one set of all bytes. `half`: a set of half the bytes. `uniform`: that
half and another one, from another first guess, random clouds. `focused`: the same, but real clouds of the second half
count by the loss of a student that was trained on the first (`distill --focus`). Students of both halves are trained
anew on their clouds together, for the same number of steps; bytes are those of both files. `again`: one set of all
bytes, distilled with a focus on what a student of `one` does not know, in its place. Sets are kept in
`runs/networks`. Records go to `results/knowledge.jsonl`. Nothing here looks at the test set before the end.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import networks as cross

from pcdistill import evaluation
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig
from pcdistill.environment import revision
from pcdistill.evaluation import Record, Run, write_record
from pcdistill.jobs import distill_artefact
from pcdistill.models import build
from pcdistill.storage import Artefact
from pcdistill.teaching.adaptation import joined
from pcdistill.trained import Trained, save_network
from pcdistill.training import Protocol, train

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "knowledge.jsonl"
STUDENT, BYTES, POINTS, BITS = "pointnet-tiny", 1229, 128, 5
PARTS = ("one", "half", "uniform", "focused", "again")


class Cell(NamedTuple):
    """How the bytes of a data set are spent."""

    dataset: str
    part: str
    sets: int = 3
    networks: int = 2
    validation: bool = False

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.part, "--sets", str(self.sets), "--networks", str(self.networks)]
        return shlex.join(["python", "benchmarks/knowledge.py", *words, *(["--validation"] if self.validation else [])])

    def of(self, size: int) -> cross.Cell:
        """A set of so many bytes per class, as `networks.py` knows it."""
        return cross.Cell(self.dataset, "krr", STUDENT, size, POINTS, BITS, validation=self.validation)


def cells(validation: bool) -> list[Cell]:
    """Every cell of the table; on validation those of the smaller set."""
    listed = [Cell("modelnet10", part, validation=validation) for part in PARTS]
    # Of ModelNet40 distilling takes minutes a set.
    return listed if validation else [*listed, *(Cell("modelnet40", part, 1, 3) for part in PARTS)]


def student(cell: Cell, first: Artefact, size: int, plan: Protocol, seed: int) -> Path:
    """A network trained on the first set, of `size` bytes a class, and kept beside it."""
    clouds = first.training_clouds
    path = cross.set_file(cell.of(size), seed).with_suffix(f".{STUDENT}.safetensors")
    network = build(STUDENT, clouds.num_classes, seed)
    train(network, clouds, plan.recipe, seed)
    save_network(path, Trained(network, clouds.class_names, plan, Path(cell.dataset).name, POINTS, seed))
    return path


def second(cell: Cell, real: PointClouds, size: int, seed: int, focus: Path | None) -> Artefact:
    """The other set, read if it was made before; its first guess is the same with and without a focus."""
    first = cross.set_file(cell.of(size), seed)
    path = first.with_name(f"{first.stem}-{cell.part}.h5")
    if not path.exists():
        config = DistillConfig(
            data=cell.dataset, output=path, bytes_per_class=size, points=POINTS, bits=BITS, preset="krr", focus=focus,
            # A half that begins with the medoids that the other one began with would be much the same.
            **({"seed": seed} if cell.part == "again" else {"seed": 100 + seed, "init": "random"}),
        )  # fmt: skip
        distill_artefact(real, config).save(path)
    return Artefact.load(path)


def measured(cell: Cell, real: PointClouds, test: PointClouds, plan: Protocol, seed: int) -> Run:
    """One way to spend the bytes, with one seed of distillation."""
    size = BYTES if cell.part in ("one", "again") else BYTES // 2
    first = cross.make(cell.of(size), real, seed)
    assert isinstance(first, Artefact)
    if cell.part in ("one", "half"):
        return evaluation.measure(first, test, plan, seed, cell.networks)
    focus = None if cell.part == "uniform" else student(cell, first, size, plan, seed)
    other = second(cell, real, size, seed, focus)
    if cell.part == "again":
        return evaluation.measure(other, test, plan, seed, cell.networks)
    halves = [first, other]
    seeds = [100 * seed + number for number in range(cell.networks)]
    both = joined([half.training_clouds for half in halves], real.class_names)
    run = evaluation.as_run(first, evaluation.evaluate(both, test, plan, seeds), seed)
    per_class = [half.metadata.clouds_per_class for half in halves]
    changed: dict[str, Any] = {
        name: sum(getattr(half.metadata, name) for half in halves) for name in ("distill_seconds", "prepare_seconds")
    }
    changed["bytes_per_class"] = sum(half.bytes_per_class for half in halves)
    changed["clouds_per_class"] = sum(count for count in per_class if count is not None)
    return run.model_copy(update=changed)


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, train students on each, and test them."""
    real, test = cross.splits(cell.of(BYTES))
    plan, runs = cell.of(BYTES).plan(), []
    for seed in range(cell.sets):
        runs.append(measured(cell, real, test, plan, seed))
        print(f"  seed {seed}: {[round(100 * a, 1) for a in runs[-1].accuracy]}", flush=True)
    facts = {
        "part": cell.part, "variant": f"{cell.part} {BYTES} validation={cell.validation}",
        "split": "the last fifth of train held out" if cell.validation else "test",
    }  # fmt: skip
    return evaluation.summed_up("knowledge", cell.dataset, plan, runs, cell.command, revision(ROOT), **facts)


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--sets", type=int, default=3)
    parser.add_argument("--networks", type=int, default=2, help="trained on every set")
    parser.add_argument("--validation", action="store_true", help="test on the last fifth of train, held out")
    given = parser.parse_args()
    if given.all:
        cross.measure_missing((cell.command for cell in cells(given.validation)), lambda: cross.commands_in(RESULTS))
        return
    if given.part is None:
        parser.error("a data set and a part are needed, or --all")
    cell = Cell(given.dataset, given.part, given.sets, given.networks, given.validation)
    record = measure(cell)
    write_record(RESULTS, record)
    print(f"{cell.part}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

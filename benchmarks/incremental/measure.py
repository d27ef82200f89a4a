"""What a network remembers that learns ten classes after ten, or another domain, by the memory that it is given.

    python -m benchmarks.incremental.measure classes krr 1229 whole
    python -m benchmarks.incremental.measure          # every cell without records, and the plots
    python -m benchmarks.incremental.measure plot     # only draw what is recorded

`classes`: a small PointNet learns the ten classes that ModelNet40 has in common with ModelNet10 from all their clouds,
then three times ten classes more, in an order that is drawn once. At every stage it sees all clouds of the new classes
and, of every class before, the memory: nothing, some bytes of an artefact a class, or (`all`) all clouds. `domain`: it
learns ModelNet10, then a few of its clouds as a lidar sees them; the test is on such clouds (`new`) and clean ones
(`old`). A memory's bytes are those of artefacts as they are stored, fixed overhead apart; those of `all` are float32
coordinates of thinned clouds. All cells begin with the same networks. Networks and memories are kept in
`runs/incremental`; those of ModelNet10 are the sets of the grids. Records, one for every stage, go to
`records.jsonl`. Steps and learning rate were not tuned; nothing here looks at the test set before the end
of a stage.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks import sets
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.condense import distill, select
from pcdistill.core.environment import revision
from pcdistill.data import load
from pcdistill.evaluation import hits, of_classes
from pcdistill.evaluation.evaluate import Evaluation
from pcdistill.evaluation.scores import Scores, mean_std, score, test_digest
from pcdistill.geometry import farthest_points
from pcdistill.geometry.corruptions import corrupt
from pcdistill.models import build
from pcdistill.results.measure import as_run, summed_up
from pcdistill.results.plots import Curve, accuracy_plot
from pcdistill.results.record import Record, read_records, write_record
from pcdistill.results.table import accuracy_cell
from pcdistill.selection import select as chosen
from pcdistill.selection import selectors
from pcdistill.teaching.adaptation import How, adapt, joined
from pcdistill.training.loop import train
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_named
from pcdistill.training.trained import Trained, load_network, save_network

RECORDS, KEPT = Path(__file__).parent / "records.jsonl", sets.RUNS / "incremental"
WHOLE, KNOWN = "modelnet40", "modelnet10"
STUDENT, POINTS, BITS = "pointnet-tiny", 128, 5
FIRST, STEPS = 600, 400  # steps of the first training, and of every stage
LEARNING_RATE = 2e-3
STAGES, NEW = 3, 10  # classes of a stage
CORRUPTION, SEVERITY, SHOTS = "lidar", 3, 5
MEMORIES = ("none", "random", "herding", "medoid", "krr", "quantile", "all")
BUDGETS = (300, 1229)


class Cell(NamedTuple):
    """One memory and one way to train, through all stages."""

    scenario: str
    memory: str
    bytes_per_class: int = 0  # of no memory, and of all clouds, none is given
    how: How = "whole"
    seeds: int = 3

    @property
    def words(self) -> str:
        """Its name."""
        size = f" {self.bytes_per_class}" if self.bytes_per_class else ""
        return f"{self.scenario} {self.memory}{size} {self.how}"

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        return sets.command("incremental", self.words.split())


class Group(NamedTuple):
    """Classes that are learned at once; clouds are thinned."""

    train: PointClouds
    test: PointClouds


class Found(NamedTuple):
    """A stage of one run."""

    scores: Scores
    old: float  # accuracy on what was known before, a fraction
    new: float
    seconds: float


def cells() -> list[Cell]:
    """Every cell, bounds first."""
    listed = [Cell("classes", "none"), Cell("classes", "all")]
    listed += [Cell("classes", arm, size) for size in reversed(BUDGETS) for arm in MEMORIES[1:-1]]
    hows: list[How] = ["head", "lora"]
    listed += [Cell("classes", arm, size, how) for how in hows for arm, size in (("none", 0), ("krr", BUDGETS[-1]))]
    memories = (("none", 0), ("random", BUDGETS[-1]), ("krr", BUDGETS[-1]), ("all", 0))
    return listed + [Cell("domain", arm, size, how) for how in ("whole", *hows) for arm, size in memories]


def protocol() -> EvaluationProtocol:
    """`tuned`, with so many steps, on thinned test clouds."""
    return protocol_named("tuned", STUDENT).changed(steps=FIRST).model_copy(update={"thin": True})


def thin(clouds: PointClouds) -> PointClouds:
    """As many points of every cloud as the sets have."""
    return clouds.with_points(farthest_points(clouds.points, POINTS))


def class_order() -> list[list[str]]:
    """The names of every stage's classes: those of the smaller set, then the others as drawn once."""
    known, every = (load(name, "test").class_names for name in (KNOWN, WHOLE))
    others = [name for name in every if name not in known]
    drawn = [others[i] for i in torch.randperm(len(others), generator=torch.Generator().manual_seed(0))]
    return [list(known), *(drawn[NEW * i : NEW * (i + 1)] for i in range(STAGES))]


def groups() -> list[Group]:
    """Of every stage the classes' clouds."""
    sides = [load(WHOLE, split, points=1024) for split in ("train", "test")]
    return [Group(*(_of(side, names) for side in sides)) for names in class_order()]


def _of(clouds: PointClouds, names: Sequence[str]) -> PointClouds:
    return thin(of_classes(clouds, [clouds.class_names.index(name) for name in names]))


def memory_of(names: Sequence[str], stage: int, arm: str, size: int, seed: int) -> Artefact:
    """A memory of the classes of one stage, made at its end from all their clouds; made once."""
    path = KEPT / f"{WHOLE}-{stage}-{arm}-{size}-{seed}.h5"
    if path.exists():
        return Artefact.load(path)
    every = load(WHOLE, "train", points=1024)
    real = of_classes(every, [every.class_names.index(name) for name in names])
    given: dict[str, Any] = {"bytes_per_class": size, "points": POINTS, "bits": BITS, "seed": seed}
    print(f"  {arm}, {size} bytes a class, stage {stage}", flush=True)
    made = select(real, method=arm, **given) if arm in selectors else distill(real, preset=arm, **given)
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(path)
    return made


def first_network(name: str, clouds: PointClouds, seed: int) -> Trained:
    """The network that knows the first classes; trained once."""
    path = KEPT / f"{name}-{STUDENT}-{FIRST}-{seed}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        network = build(STUDENT, clouds.num_classes, seed)
        train(network, clouds, protocol().recipe, seed)
        save_network(path, Trained(network, clouds.class_names, protocol(), name, POINTS, seed))
    return load_network(path)


def set_seed(arm: str, seed: int) -> int:
    """Coresets are drawn anew for every run; what takes minutes to distil is made once."""
    return seed if arm in selectors else 0


def stored(memory: Sequence[Artefact | PointClouds]) -> float:
    """Bytes of a memory."""
    return sum(
        one.bytes_per_class * len(one.metadata.class_names) if isinstance(one, Artefact) else 4 * one.points.numel()
        for one in memory
    )


def clouds_of(memory: Sequence[Artefact | PointClouds]) -> list[PointClouds]:
    """What networks see of a memory."""
    return [one.training_clouds if isinstance(one, Artefact) else one for one in memory]


def tested(made: Trained, old: Sequence[PointClouds], new: PointClouds, seconds: float) -> Found:
    """A network on all that it has seen; `old` is empty at the first stage."""
    every = score(made.network, joined([*old, new], made.class_names))
    right = hits(every.right, sum(map(len, [*old, new]))).double()
    before = sum(map(len, old))
    return Found(every, right[:before].mean().item(), right[before:].mean().item(), seconds)


def taught(old: Trained, memory: Sequence[Artefact | PointClouds], new: PointClouds, how: How, seed: int) -> Trained:
    """The network after a stage."""
    recipe = old.protocol.changed(steps=STEPS, lr=LEARNING_RATE).recipe
    return adapt(old, clouds_of(memory), new, how, recipe, seed)


def record(
    cell: Cell, stage: int, found: Sequence[Found], memory: Sequence[Artefact | PointClouds], test: PointClouds
) -> Record:
    """Of one stage, all runs together."""
    shown = memory[0] if memory else test
    recipe = protocol() if stage == 0 else protocol().changed(steps=STEPS, lr=LEARNING_RATE)
    digest = test_digest(test, recipe)
    run = as_run(shown, Evaluation(
        tuple(range(cell.seeds)), tuple(one.scores for one in found), sum(one.seconds for one in found),
        class_names=test.class_names, test_set=digest,
    ), 0)  # fmt: skip
    size = stored(memory)
    # What the first stage's memory says of itself holds for all but for bytes.
    changed: dict[str, Any] = {"arm": cell.memory, "bytes_per_class": size / test.num_classes}
    if not memory:
        changed |= {"points": POINTS}
    facts = {
        "variant": f"{cell.scenario} {cell.memory} {cell.bytes_per_class} {cell.how} stage {stage}",
        "scenario": cell.scenario, "how": cell.how, "stage": stage, "split": "test",
        "budget": cell.bytes_per_class, "memory_kb": size / 1000,
        "old_accuracy": [one.old for one in found] if stage else [],
        "new_accuracy": [one.new for one in found],
        "memory_seeds": [set_seed(cell.memory, seed) for seed in range(cell.seeds)],
    }  # fmt: skip
    name = WHOLE if cell.scenario == "classes" else KNOWN
    return summed_up("incremental", name, recipe, [run.model_copy(update=changed)], cell.command,
                                revision(sets.ROOT), **facts)  # fmt: skip


def measure_classes(cell: Cell) -> list[Record]:
    """All stages of a class-incremental cell."""
    steps = groups()
    tests = [step.test for step in steps]
    found: list[list[Found]] = [[] for _ in steps]
    memory: list[list[Artefact | PointClouds]] = []
    for seed in range(cell.seeds):
        made, memory = first_network("classes", steps[0].train, seed), [[]]
        found[0].append(tested(made, [], tests[0], 0.0))
        for stage in range(1, len(steps)):
            memory.append([*memory[-1], *_remembered(cell, steps[stage - 1].train, stage - 1, seed)])
            start = time.perf_counter()
            made = taught(made, memory[stage], steps[stage].train, cell.how, seed)
            found[stage].append(tested(made, tests[:stage], tests[stage], time.perf_counter() - start))
            print(f"  seed {seed}, stage {stage}: {_shown(found[stage][-1])}", flush=True)
    names = [tuple(name for test in tests[: stage + 1] for name in test.class_names) for stage in range(len(steps))]
    return [
        record(cell, stage, found[stage], memory[stage], joined(tests[: stage + 1], names[stage]))
        for stage in range(len(steps))
    ]


def _remembered(cell: Cell, clouds: PointClouds, stage: int, seed: int) -> list[Artefact | PointClouds]:
    if cell.memory in ("none", "all"):
        return [clouds] if cell.memory == "all" else []
    return [memory_of(clouds.class_names, stage, cell.memory, cell.bytes_per_class, set_seed(cell.memory, seed))]


def measure_domain(cell: Cell) -> list[Record]:
    """A few clouds of another domain; old is the clean test set, new the corrupted one."""
    real, test = (load(KNOWN, split, points=1024) for split in ("train", "test"))
    clean, old, new = thin(real), thin(test), thin(corrupt(test, CORRUPTION, SEVERITY, 0))
    before, after = [], []
    memory: list[Artefact | PointClouds] = []
    for seed in range(cell.seeds):
        made = first_network("domain", clean, seed)
        before.append(tested(made, [old], new, 0.0))
        few = thin(corrupt(chosen(real, "random", SHOTS, seed=seed), CORRUPTION, SEVERITY, 1 + seed))
        memory = [] if cell.memory == "none" else [clean]
        if cell.bytes_per_class:
            memory = [sets.made(KNOWN, cell.memory, cell.bytes_per_class, set_seed(cell.memory, seed))]
        start = time.perf_counter()
        made = taught(made, memory, few, cell.how, seed)
        after.append(tested(made, [old], new, time.perf_counter() - start))
        print(f"  seed {seed}: {_shown(before[-1])}, then {_shown(after[-1])}", flush=True)
    both = joined([old, new], old.class_names)
    started = record(cell, 0, before, [], both)
    known = {"old_accuracy": [one.old for one in before]}
    return [started.model_copy(update=known), record(cell, 1, after, memory, both)]


def _shown(found: Found) -> str:
    return f"all {100 * found.scores.accuracy:.1f}, old {100 * found.old:.1f}, new {100 * found.new:.1f}"


def plot(records: Sequence[Record]) -> None:
    """Accuracy on all classes seen after every stage, by memory, as PNG and SVG for every budget."""
    for size in BUDGETS:
        curves = []
        for arm in MEMORIES:
            wanted = ("classes", "whole", arm, 0 if arm in ("none", "all") else size)
            own = [one for one in records if _key(one) == wanted]
            own.sort(key=lambda one: len(one.class_names))
            if own:
                sizes = [len(one.class_names) for one in own]
                kb = own[-1].memory_kb
                means, spreads = zip(*(mean_std(one.accuracy) for one in own), strict=True)
                curves.append(Curve(f"{arm}, {kb:.0f} kB", sizes, means, spreads, arm))
        if curves:
            note = f"{STUDENT}, {POINTS} points; kB of memory at the last stage; spread over trainings"
            for ending in (".png", ".svg"):
                path = RECORDS.with_name(f"{size}-bytes{ending}")
                title = f"Ten classes after ten, {size} bytes per class remembered"
                accuracy_plot(curves, [], path, title, note, axis="classes seen", log=False)


def _key(one: Record) -> tuple[Any, ...]:
    return one.scenario, one.how, one.arm, one.budget


def recorded(cell: Cell) -> bool:
    """Whether a cell was measured."""
    wanted = (cell.scenario, cell.how, cell.memory, cell.bytes_per_class)
    return any(_key(one) == wanted for one in read_records(RECORDS))


def keep(cell: Cell) -> None:
    """Measure a cell and write its records."""
    records = measure_classes(cell) if cell.scenario == "classes" else measure_domain(cell)
    for one in records:
        write_record(RECORDS, one)
    print(f"{cell.words}: {accuracy_cell(records[-1])} %")


def main() -> None:
    """Measure one cell, or all that have no records yet and draw them all; or draw them alone."""
    if sys.argv[1:] != ["plot"]:
        sets.run("incremental", {cell.words: cell for cell in cells()}, recorded, keep)
    if sys.argv[1:] in ([], ["plot"]):
        plot(read_records(RECORDS))


if __name__ == "__main__":
    main()

"""Train x test networks: what networks other than the one that a set was distilled with learn from it.

    python benchmarks/networks.py modelnet10 krr dgcnn --bytes 12288
    python benchmarks/networks.py --all            # every cell of the tables, those with a record left out

Sets are those of `frontier.py` at 1 and 3 float32 clouds of 1024 points per class; `krr-pool` is distilled with three
architectures as surrogates in turn instead of one. Every network is trained on every set by the `tuned` recipe at a
fixed number of steps, and tested on clouds thinned to the points of the training clouds (`Protocol.thin`); the whole
set stands at the same points and steps. Sets are kept in `runs/networks` (not under version control), so that they are
made once. Records go to `results/networks.jsonl`, those of the built-in shapes, which anyone can repeat, to
`results/shapes.jsonl`. Nothing here looks at the test set before the end.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterable
from pathlib import Path
from typing import NamedTuple

from pcdistill import evaluation
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, SelectConfig
from pcdistill.data import last_split, load
from pcdistill.environment import revision
from pcdistill.evaluation import Record, read_records, write_record
from pcdistill.geometry import farthest_points
from pcdistill.jobs import coreset_artefact, distill_artefact
from pcdistill.selection import selectors
from pcdistill.storage import Artefact
from pcdistill.training import Protocol, protocol, recipe

ROOT = Path(__file__).parent.parent
RESULTS, SETS = Path(__file__).parent / "results" / "networks.jsonl", ROOT / "runs" / "networks"
NETWORKS = ("pointnet", "pointnet-tiny", "pointnet2", "dgcnn", "point-transformer", "pointmlp-elite", "pointnext-s")
POOL = "pointnet-small,dgcnn,pointnet2"
ARMS = ("random", "herding", "medoid", "krr", "krr-pool", "whole")
BUDGETS = (1229, 12288, 36864)  # 0.1, 1 and 3 float32 clouds of 1024 points
POINTS, STEPS = 128, 600


class Cell(NamedTuple):
    """One network on one set."""

    dataset: str
    arm: str
    network: str
    bytes_per_class: int | None = None  # of the whole set none
    points: int = POINTS
    bits: int = 5
    seeds: int = 1
    steps: int = STEPS
    validation: bool = False

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.arm, self.network]
        if self.bytes_per_class is not None:
            words += ["--bytes", str(self.bytes_per_class), "--bits", str(self.bits)]
        words += ["--points", str(self.points), "--seeds", str(self.seeds), "--steps", str(self.steps)]
        return shlex.join(["python", "benchmarks/networks.py", *words, *(["--validation"] if self.validation else [])])

    def plan(self) -> Protocol:
        """`tuned`, with so many steps, on thinned test clouds."""
        short = recipe("tuned", steps=self.steps)
        return protocol("tuned", self.network).model_copy(update={"recipe": short, "name": short.name, "thin": True})


def results(dataset: str) -> Path:
    """The file of a data set's records."""
    return RESULTS.with_name("shapes.jsonl") if dataset == "shapes" else RESULTS


def cells() -> list[Cell]:
    """Every cell of the tables, the most telling first, and those of the shapes."""
    listed = []
    for dataset in ("modelnet10", "modelnet40"):
        listed += [Cell(dataset, "whole", network, None, POINTS, 32) for network in NETWORKS]
        for size in BUDGETS:
            arms = ["random", "herding", "krr"]
            if size == BUDGETS[0]:
                arms += ["krr-pool"] if dataset == "modelnet10" else []
            if (dataset, size) == ("modelnet40", BUDGETS[2]):
                arms.remove("krr")  # nine of ten clouds fit: nothing is left to distil
            bits = 6 if (dataset, size) == ("modelnet40", BUDGETS[2]) else 5
            listed += [Cell(dataset, arm, network, size, POINTS, bits) for arm in arms for network in NETWORKS]
    # A set that nothing was ever tuned to: fourteen clouds in each of nineteen classes, in any pose.
    listed += [Cell("psb19", arm, "pointnet", 1229, seeds=3) for arm in ("random", "medoid", "krr")]
    listed += [Cell("psb19", "whole", "pointnet", seeds=3)]
    shapes = ("random", "medoid", "krr")  # two clouds of 128 points at 8 bits, were they not coded
    listed += [Cell("shapes", arm, "pointnet-tiny", 768, bits=8, seeds=3) for arm in shapes]
    listed += [Cell("shapes", "whole", "pointnet-tiny", seeds=3)]
    return listed


def splits(cell: Cell) -> tuple[PointClouds, PointClouds]:
    """What sets are made from, and what networks are tested on."""
    real = load(cell.dataset, "train", points=1024)
    return last_split(real, 0.2) if cell.validation else (real, load(cell.dataset, "test", points=1024))


def set_file(cell: Cell, seed: int) -> Path:
    """Where the set of a cell is kept."""
    side = "-validation" if cell.validation else ""
    size = f"{cell.bytes_per_class}-{cell.points}-{cell.bits}"
    return SETS / f"{Path(cell.dataset).name}{side}-{cell.arm}-{size}-{seed}.h5"


def make(cell: Cell, real: PointClouds, seed: int) -> Artefact | PointClouds:
    """The training set of a cell for one seed, read from `SETS` if it was made before."""
    if cell.bytes_per_class is None:
        return real.with_points(farthest_points(real.points, cell.points))
    path = set_file(cell, seed)
    if path.exists():
        return Artefact.load(path)
    given = {
        "data": cell.dataset, "output": path, "bytes_per_class": cell.bytes_per_class,
        "points": cell.points, "bits": cell.bits, "seed": seed,
    }  # fmt: skip
    if cell.arm in selectors:
        start = time.perf_counter()
        made = coreset_artefact(real, SelectConfig(**given, method=cell.arm))
        facts = made.metadata.model_copy(update={"distill_seconds": time.perf_counter() - start})
        made = Artefact(made.storage, facts)
    else:
        pool = {"surrogate": POOL} if cell.arm == "krr-pool" else {}
        made = distill_artefact(real, DistillConfig(**given, preset="krr", **pool))
    made.save(path)
    return made


def measure_missing(commands: Iterable[str], known: Callable[[], Container[str]]) -> None:
    """Run the commands that are not `known` to have records, each in a process of its own.

    What is known is asked before each of them: others may be at work on the same records.
    """
    for command in commands:
        if command not in known():
            print(command, flush=True)
            subprocess.run([sys.executable, *shlex.split(command)[1:]], check=True, cwd=ROOT)


def commands_in(path: Path) -> set[str]:
    """Those of the records in a file."""
    return {record.command for record in read_records(path)}


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, train its network on each, and test it."""
    real, test = splits(cell)
    plan, runs = cell.plan(), []
    for seed in range(cell.seeds):
        runs.append(evaluation.measure(make(cell, real, seed), test, plan, seed, 1))
        print(f"  seed {seed}: {100 * runs[-1].accuracy[0]:.1f} %, {runs[-1].train_seconds:.0f} s", flush=True)
    facts = {
        "variant": f"{cell.arm} {cell.bytes_per_class} validation={cell.validation}", "split": _split(cell),
    }  # fmt: skip
    return evaluation.summed_up("networks", cell.dataset, plan, runs, cell.command, revision(ROOT), **facts)


def _split(cell: Cell) -> str:
    return "the last fifth of train held out" if cell.validation else "test"


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=ARMS)
    parser.add_argument("network", nargs="?", help="or 'none': only make the sets")
    parser.add_argument("--bytes", type=int, help="per class")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--validation", action="store_true", help="test on the last fifth of train, held out")
    given = parser.parse_args()
    if given.all:
        measure_missing(
            (cell.command for cell in cells()), lambda: commands_in(RESULTS) | commands_in(results("shapes"))
        )
        return
    if given.network is None or (given.arm != "whole") != (given.bytes is not None):
        parser.error("a data set, an arm, a network and (but for the whole set) --bytes are needed, or --all")
    cell = Cell(
        given.dataset, given.arm, given.network, given.bytes, given.points, given.bits, given.seeds, given.steps,
        given.validation,
    )  # fmt: skip
    if given.network == "none":
        for seed in range(cell.seeds):
            make(cell, splits(cell)[0], seed)
        return
    record = measure(cell)
    write_record(results(cell.dataset), record)
    print(f"{record.arm} {record.network}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

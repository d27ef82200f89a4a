"""Accuracy of selected, distilled and whole training sets: one record per arm.

    python benchmarks/modelnet.py modelnet10 krr --clouds 4 --points 128 --bits 8
    python benchmarks/modelnet.py --all            # every arm of the tables, those with a record left out

Records go to `benchmarks/results/modelnet.jsonl`. Nothing here looks at the test set before the end: settings
were chosen on validation splits (see docs/notebook.md).
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill import evaluation
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, presets
from pcdistill.data import load
from pcdistill.environment import revision
from pcdistill.evaluation import Record, read_records, write_record
from pcdistill.jobs import distill_artefact, select_artefact
from pcdistill.matching import objectives
from pcdistill.storage import Artefact, Budget
from pcdistill.training import Protocol, Recipe, protocol

RESULTS = Path(__file__).parent / "results" / "modelnet.jsonl"
SELECTIONS = ("random", "herding", "kcenter", "medoid")


class Arm(NamedTuple):
    """One line of a table: a data set, how the training set is made, its size, and the seeds."""

    dataset: str
    arm: str
    clouds: int | None
    distill_seeds: int
    train_seeds: int
    points: int = 128
    bits: int = 8
    protocol: str = "tuned"
    epochs: int | None = None  # shortens the published recipe where the whole set would take days

    def options(self) -> list[str]:
        """This arm as arguments of the script."""
        given = [
            self.dataset,
            self.arm,
            "--points",
            str(self.points),
            "--bits",
            str(self.bits),
            "--protocol",
            self.protocol,
        ]
        given += ["--distill-seeds", str(self.distill_seeds), "--train-seeds", str(self.train_seeds)]
        given += ["--clouds", str(self.clouds)] if self.clouds else []
        return given + (["--epochs", str(self.epochs)] if self.epochs else [])


def arms() -> list[Arm]:
    """Every line of the tables, in the order of the questions they answer."""
    listed = [Arm("modelnet10", arm, 4, 3, 3) for arm in ("krr", "gm", "tm", *SELECTIONS)]
    listed += [Arm("modelnet10", arm, 4, 1, 3) for arm in ("quantile", "dm")]
    # "PPC 1" of the papers: one float32 cloud of 1024 points.
    listed += [
        Arm("modelnet10", arm, 1, 3, 1, points=1024, bits=32) for arm in ("krr", "gm", "tm", "quantile", *SELECTIONS)
    ]
    listed += [
        Arm("modelnet10", arm, 1, 1, 3, points=1024, bits=32, protocol="published")
        for arm in ("random", "herding", "gm")
    ]
    listed += [Arm("modelnet10", "sadm", 1, 1, 2, points=1024, bits=32, protocol="published")]
    listed += [Arm("modelnet10", arm, 3, 1, 1, points=1024, bits=32) for arm in ("herding", "gm", "quantile")]
    listed += [Arm("modelnet40", "gm", 4, 1, 2)]
    listed += [Arm("modelnet10", arm, 32, 2, 1) for arm in ("krr", *SELECTIONS)]
    listed += [Arm("modelnet10", "whole", None, 1, 1, points=1024, bits=32)]
    for clouds in (4, 32):
        listed += [Arm("modelnet40", arm, clouds, 1, 2) for arm in ("krr", *SELECTIONS)]
    listed += [Arm("modelnet40", "whole", None, 1, 1, points=1024, bits=32)]
    listed += [Arm("modelnet10", "whole", None, 1, 1, points=1024, bits=32, protocol="published", epochs=10)]
    listed += [Arm("shapes", "random", 1, 3, 1, points=256, bits=32)]
    listed += [Arm("shapes", "whole", None, 1, 1, points=1024, bits=32)]
    return listed


def make(arm: Arm, real: PointClouds, seed: int) -> Artefact | PointClouds:
    """The training set of an arm for one distillation (or selection) seed."""
    if arm.clouds is None:
        return real
    if arm.arm in SELECTIONS:
        budget = Budget(clouds_per_class=arm.clouds, points=arm.points, bits=arm.bits)
        return select_artefact(real, budget, arm.arm, protocol(arm.protocol), seed, dataset=arm.dataset)
    config = DistillConfig(
        data=arm.dataset, output=Path("unwritten.h5"), clouds_per_class=arm.clouds, points=arm.points, bits=arm.bits,
        **({"preset": arm.arm} if arm.arm in presets() else {"objective": arm.arm}), protocol=arm.protocol, seed=seed,
    )  # fmt: skip
    return distill_artefact(real, config)


def plan_of(arm: Arm) -> Protocol:
    """The protocol of an arm; shortened ones are named so."""
    plan = protocol(arm.protocol)
    if arm.epochs is None:
        return plan
    recipe = Recipe(**{**plan.recipe.model_dump(), "epochs": arm.epochs, "name": f"{arm.protocol}-{arm.epochs}-epochs"})
    return plan.model_copy(update={"recipe": recipe, "name": recipe.name})


def measure(arm: Arm) -> Record:
    """Make, train and test an arm over its seeds."""
    real, test = load(arm.dataset, "train", points=1024), load(arm.dataset, "test", points=1024)
    plan, runs = plan_of(arm), []
    for seed in range(arm.distill_seeds):
        start = time.perf_counter()
        made = make(arm, real, seed)
        # Of a selection the artefact says nothing; of a distillation it leaves the bank out.
        seconds = time.perf_counter() - start if arm.arm in SELECTIONS else None
        runs.append(evaluation.measure(made, test, plan, seed, arm.train_seeds, seconds))
        accuracies = [round(100 * accuracy, 1) for accuracy in runs[-1].accuracy]
        print(f"  seed {seed}: {accuracies}, {runs[-1].distill_seconds:.0f} s", flush=True)
    command = shlex.join(["python", "benchmarks/modelnet.py", *arm.options()])
    commit = revision(Path(__file__).parent.parent)
    threads = torch.get_num_threads()
    return evaluation.summed_up("modelnet", arm.dataset, plan, runs, command, commit, threads=threads)


def recorded(arm: Arm) -> bool:
    """Whether the file already holds this arm, as made by this very command."""
    command = shlex.join(["python", "benchmarks/modelnet.py", *arm.options()])
    return any(record.command == command for record in read_records(RESULTS))


def main() -> None:
    """Measure one arm, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=[*objectives, *SELECTIONS, "whole"])
    parser.add_argument("--clouds", type=int)
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--bits", type=int, default=8)
    parser.add_argument("--protocol", default="tuned")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--distill-seeds", type=int, default=3)
    parser.add_argument("--train-seeds", type=int, default=3)
    given = parser.parse_args()
    if given.all:
        for arm in arms():
            if not recorded(arm):
                print(shlex.join(arm.options()), flush=True)
                subprocess.run([sys.executable, __file__, *arm.options()], check=True)
        return
    if given.dataset is None or given.arm is None or (given.arm != "whole" and given.clouds is None):
        parser.error("a data set, an arm and (but for the whole set) --clouds are needed, or --all")
    arm = Arm(given.dataset, given.arm, given.clouds, given.distill_seeds, given.train_seeds, given.points, given.bits,
              given.protocol, given.epochs)  # fmt: skip
    record = measure(arm)
    write_record(RESULTS, record)
    print(
        f"{record.arm}: {100 * record.accuracy_mean:.1f} ± {100 * record.accuracy_std:.1f} %, "
        f"peak {record.peak_mib} MiB"
    )


if __name__ == "__main__":
    main()

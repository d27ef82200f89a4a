"""Accuracy against bytes per class: every selection and the distilled set at equal budgets, and the whole set.

    python benchmarks/frontier.py modelnet10 krr --bytes 12288
    python benchmarks/frontier.py --all            # every arm, those with a record left out
    python benchmarks/frontier.py --plot           # results/frontier-*.png and .svg from the records

Every arm fills its budget with entropy-coded clouds of as many points and bits as did best on validation. Where the
budget holds all clouds of the set, selections are one and the same and stand as `random`. Records go to
`results/frontier.jsonl`, those of the papers are in `results/published.json`. Nothing here looks at the test set before
the end: points, bits and settings were chosen on validation splits (docs/notebook.md).
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from pcdistill import evaluation
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, SelectConfig, presets
from pcdistill.data import load
from pcdistill.environment import revision
from pcdistill.evaluation import Record, read_records, write_record
from pcdistill.jobs import coreset_artefact, distill_artefact
from pcdistill.selection import selectors
from pcdistill.storage import Artefact
from pcdistill.training import protocol
from pcdistill.viewing import Curve, Point, accuracy_plot

HERE = Path(__file__).parent / "results"
RESULTS, MODELNET, PUBLISHED = HERE / "frontier.jsonl", HERE / "modelnet.jsonl", HERE / "published.json"
SELECTIONS = ("random", "herding", "kcenter", "medoid")
BUDGETS = (1229, 12288, 36864, 122880)  # 0.1, 1, 3 and 10 float32 clouds of 1024 points
NAMES = {"random": "random", "herding": "herding", "kcenter": "k-center", "medoid": "medoids", "krr": "distilled (krr)"}
TITLES = {"modelnet10": "ModelNet10", "modelnet40": "ModelNet40"}


class Arm(NamedTuple):
    """One point of the plot: a data set, how the training set is made, its bytes, and the seeds."""

    dataset: str
    arm: str
    bytes_per_class: int | None
    distill_seeds: int
    train_seeds: int = 1
    protocol: str = "tuned"
    points: int = 128
    bits: int = 5

    def options(self) -> list[str]:
        """This arm as arguments of the script."""
        given = [self.dataset, self.arm, "--protocol", self.protocol]
        given += ["--distill-seeds", str(self.distill_seeds), "--train-seeds", str(self.train_seeds)]
        if self.bytes_per_class is None:
            return given
        size = {"--bytes": self.bytes_per_class, "--points": self.points, "--bits": self.bits}
        return given + [text for name, value in size.items() for text in (name, str(value))]

    @property
    def command(self) -> str:
        return shlex.join(["python", "benchmarks/frontier.py", *self.options()])


def arms() -> list[Arm]:
    """Every point of the plot."""
    listed = []
    for dataset, seeds in (("modelnet10", 3), ("modelnet40", 2)):
        for size in BUDGETS[:2]:
            listed += [Arm(dataset, arm, size, seeds) for arm in ("krr", *SELECTIONS)]
        for size in BUDGETS[2:]:
            points = 128 if (dataset, size) == ("modelnet40", 36864) else 256
            listed += [Arm(dataset, "random", size, seeds, points=points, bits=6)]
        listed += [Arm(dataset, "whole", None, 1)]
    listed += [Arm("modelnet10", arm, BUDGETS[2], 1, points=256, bits=6) for arm in ("krr", *SELECTIONS[1:])]
    listed += [Arm("modelnet10", arm, BUDGETS[0], 3, protocol="published") for arm in ("krr", "random", "medoid")]
    return listed


def make(arm: Arm, real: PointClouds, seed: int) -> Artefact | PointClouds:
    """The training set of an arm for one distillation (or selection) seed."""
    if arm.bytes_per_class is None:
        return real
    given = {
        "data": arm.dataset, "output": Path("unwritten.h5"), "bytes_per_class": arm.bytes_per_class,
        "points": arm.points, "bits": arm.bits, "protocol": arm.protocol, "seed": seed,
    }  # fmt: skip
    if arm.arm in selectors:
        return coreset_artefact(real, SelectConfig(**given, method=arm.arm))
    return distill_artefact(real, DistillConfig(**given, **({"preset": arm.arm} if arm.arm in presets() else {})))


def measure(arm: Arm) -> Record:
    """Make, train and test an arm over its seeds."""
    real, test = load(arm.dataset, "train", points=1024), load(arm.dataset, "test", points=1024)
    plan, runs = protocol(arm.protocol), []
    for seed in range(arm.distill_seeds):
        start = time.perf_counter()
        made = make(arm, real, seed)
        seconds = time.perf_counter() - start if arm.arm in selectors else None
        runs.append(evaluation.measure(made, test, plan, seed, arm.train_seeds, seconds))
        accuracies = [round(100 * accuracy, 1) for accuracy in runs[-1].accuracy]
        clouds = len(made.storage if isinstance(made, Artefact) else made)
        print(f"  seed {seed}: {clouds} clouds, {accuracies}, {runs[-1].distill_seconds:.0f} s", flush=True)
    facts = {"variant": str(arm.bytes_per_class), "threads": torch.get_num_threads()}
    commit = revision(Path(__file__).parent.parent)
    return evaluation.summed_up("frontier", arm.dataset, plan, runs, arm.command, commit, **facts)


def draw(dataset: str, records: list[Record], path: Path) -> None:
    """Accuracy against bytes: a curve per method, papers' points, the whole set as a level."""
    own = [r for r in records if r.dataset == dataset and r.protocol.startswith("tuned")]
    curves, levels = [], []
    for arm in ("krr", *SELECTIONS):
        line = sorted((r for r in own if r.arm == arm), key=lambda r: r.bytes_per_class)
        if line:
            curves.append(_curve(NAMES[arm], line))
    plain = sorted((r for r in read_records(MODELNET) if r.dataset == dataset and _plain(r)), key=lambda r: r.points)
    if plain:
        curves.append(_curve("random, float32", plain))
    for record in own:
        if record.arm == "whole":
            levels.append(_curve(f"whole set\n{record.bytes_per_class:,.0f} bytes", [record]))
    points = [
        Point(one["method"], one["bytes_per_class"], one["accuracy"])
        for one in json.loads(PUBLISHED.read_text())["points"]
        if one["dataset"] == dataset
    ]
    note = "PointNet, test clouds of 1024 points; mean ± standard deviation; crosses: as printed in papers."
    accuracy_plot(curves, levels, path, f"{TITLES[dataset]}: accuracy against bytes per class", note, points)


def _plain(record: Record) -> bool:
    """Whether this is what papers store: random float32 clouds of 1024 points."""
    return (record.arm, record.points, record.bits) == ("random", 1024, 32) and record.protocol.startswith("tuned")


def _curve(label: str, line: list[Record]) -> Curve:
    return Curve(
        label,
        [record.bytes_per_class for record in line],
        [record.accuracy_mean for record in line],
        [record.accuracy_std for record in line],
    )


def main() -> None:
    """Measure one arm, or all that have no record yet, each in a process of its own; or draw the records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--plot", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=["krr", *SELECTIONS, "whole"])
    parser.add_argument("--bytes", type=int, help="per class")
    parser.add_argument("--points", type=int, default=128)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--protocol", default="tuned")
    parser.add_argument("--distill-seeds", type=int, default=3)
    parser.add_argument("--train-seeds", type=int, default=1)
    given = parser.parse_args()
    if given.all:
        for arm in arms():
            if not any(record.command == arm.command for record in read_records(RESULTS)):
                print(shlex.join(arm.options()), flush=True)
                subprocess.run([sys.executable, __file__, *arm.options()], check=True)
    elif given.plot:
        for dataset in TITLES:
            for ending in ("png", "svg"):
                draw(dataset, read_records(RESULTS), HERE / f"frontier-{dataset}.{ending}")
    elif given.dataset is None or given.arm is None or (given.arm != "whole") != (given.bytes is not None):
        parser.error("a data set, an arm and (but for the whole set) --bytes are needed, or --all, or --plot")
    else:
        seeds = given.distill_seeds, given.train_seeds
        arm = Arm(given.dataset, given.arm, given.bytes, *seeds, given.protocol, given.points, given.bits)
        record = measure(arm)
        write_record(RESULTS, record)
        print(f"{record.arm}: {evaluation.accuracy_cell(record)} %, {record.bytes_per_class:,.0f} bytes per class")


if __name__ == "__main__":
    main()

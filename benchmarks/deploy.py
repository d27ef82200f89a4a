"""What is lost on the way to a device: students trained on condensed sets, as ONNX files in float32 and int8.

    python benchmarks/deploy.py modelnet10 krr pointnet-tiny --bytes 1229
    python benchmarks/deploy.py --all              # every cell, those with a record left out

Sets are those of `networks.py`, and so is the recipe: 600 steps, tested on the clean test split, thinned to 128 points.
Every seed's network is written three times by `pcdistill export`: in float32, rounded to int8 after training, and
fine-tuned under that rounding first; ranges and fine-tuning see the condensed set alone. Times are of one cloud on one
thread, in a process that holds nothing but the runtime, for the files of the first seed: each the median of
`--repeats` processes of 200 runs. With `--taught` the teacher of `teaching.py`, which has to be there, labels every
cloud that the student sees; `--all` does both where there is one. Nothing here looks at the test set
before the end. Writes `results/deploy.json`, a line per cell.
"""

import argparse
import datetime
import json
import shlex
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import networks  # the benchmark beside this one, which makes the sets

from pcdistill.clouds import PointClouds
from pcdistill.config import ExportConfig
from pcdistill.deploy import run_export
from pcdistill.environment import hardware, revision, versions
from pcdistill.evaluation import as_tested, mean_std, score
from pcdistill.export import load_onnx, measure_latency
from pcdistill.files import atomic
from pcdistill.models import build
from pcdistill.models import networks as registered
from pcdistill.progress import progress
from pcdistill.storage import Artefact
from pcdistill.teaching import Online, read_teacher
from pcdistill.trained import Trained, save_network
from pcdistill.training import Lesson, Protocol, train

ROOT = Path(__file__).parent.parent
RESULTS, TEACHERS = Path(__file__).parent / "results" / "deploy.json", ROOT / "runs" / "teachers"
STUDENTS = tuple(name for name in ("pointnet-nano", "pointnet-tiny", "pointnet-light") if name in registered)
SETS = (("krr", 1229), ("random", 12288))
TEMPERATURE, LOSS = 1.0, "mse"  # as teaching.py has them online
LATENCY_POINTS = (128, 1024)


class Cell(NamedTuple):
    """One student on one set."""

    dataset: str
    arm: str
    network: str
    bytes_per_class: int
    points: int = networks.POINTS
    bits: int = 5
    seeds: int = 3
    steps: int = networks.STEPS
    repeats: int = 3
    taught: bool = False

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        sizes = {"bytes": self.bytes_per_class, "points": self.points, "bits": self.bits, "seeds": self.seeds,
                 "steps": self.steps, "repeats": self.repeats}  # fmt: skip
        words = [self.dataset, self.arm, self.network, *(f"--{name}={size}" for name, size in sizes.items())]
        return shlex.join(["python", "benchmarks/deploy.py", *words, *(["--taught"] if self.taught else [])])

    @property
    def set(self) -> networks.Cell:
        """The same as `networks.py` knows it."""
        return networks.Cell(
            self.dataset, self.arm, self.network, self.bytes_per_class, self.points, self.bits, steps=self.steps
        )

    @property
    def teacher(self) -> Path:
        return TEACHERS / f"{Path(self.dataset).stem}-pointnet-1500.safetensors"

    def plan(self) -> Protocol:
        """The recipe of `networks.py`, with the loss of a taught student if it is one."""
        plan = self.set.plan()
        return plan.changed(temperature=TEMPERATURE, soft_loss=LOSS) if self.taught else plan


def cells() -> list[Cell]:
    """Every cell; taught ones where there is a teacher."""
    plain = [Cell("modelnet10", arm, network, size) for arm, size in SETS for network in STUDENTS]
    plain.append(Cell("shapes", "krr", "pointnet-tiny", 768))
    return plain + [cell._replace(taught=True) for cell in plain if cell.teacher.exists()]


def exported(cell: Cell, trained: Trained, folder: Path) -> dict[str, Any]:
    """Write a student in every format; the cards of the files."""
    save_network(folder / "net.safetensors", trained)
    given = {"source": str(folder / "net.safetensors"), "seed": trained.seed}
    rounded = {**given, "int8": True, "clouds": str(networks.set_file(cell.set, 0))}
    return {
        "float32": run_export(ExportConfig(**given, output=folder / "float32.onnx")).card,
        "int8": run_export(ExportConfig(**rounded, output=folder / "int8.onnx")).card,
        "tuned": run_export(ExportConfig(**rounded, output=folder / "tuned.onnx", tune=True)).card,
    }


def student(cell: Cell, made: Artefact, seed: int, lesson: Lesson | None) -> Trained:
    """A network trained on the set."""
    clouds, plan = made.training_clouds, cell.plan()
    network = build(cell.network, clouds.num_classes, seed)
    with progress(f"training, seed {seed}", cell.steps) as report:
        train(network, clouds, plan.recipe, seed, lambda step, loss: report(step, f"loss {loss:.4g}"), lesson)
    dataset = made.metadata.dataset
    return Trained(network, clouds.class_names, plan, dataset, clouds.points_per_cloud, seed)


def latency(path: Path, repeats: int) -> dict[str, dict[str, float]]:
    """By number of points: the medians over processes of their own."""
    found = {}
    for points in LATENCY_POINTS:
        runs = [measure_latency(path, points) for _ in range(repeats)]
        found[str(points)] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return found


def measure(cell: Cell) -> dict[str, Any]:
    """Train the students of a cell, export and test them; the facts of its line."""
    real, test = networks.splits(cell.set)
    made = networks.make(cell.set, real, 0)
    lesson = Online(read_teacher([cell.teacher], TEMPERATURE)) if cell.taught else None
    seen: PointClouds | None = None
    accuracy: dict[str, list[float]] = {"network": [], "float32": [], "int8": [], "tuned": []}
    parity, difference = [], {"int8": [], "tuned": []}  # type: ignore[var-annotated]
    facts: dict[str, Any] = {}
    for seed in range(cell.seeds):
        trained = student(cell, made, seed, lesson)
        if seen is None:
            seen = as_tested(test, trained.class_names, trained.protocol, trained.points)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cards = exported(cell, trained, folder)
            accuracy["network"].append(score(trained.network, seen).accuracy)
            for kind, card in cards.items():
                accuracy[kind].append(score(load_onnx(folder / f"{kind}.onnx").network, seen).accuracy)
                if kind in difference:
                    difference[kind].append(card.difference)
            parity.append(cards["float32"].parity)
            if seed == 0:
                files = {"safetensors": "net.safetensors", "float32": "float32.onnx", "int8": "int8.onnx"}
                facts = {
                    "parameters": cards["float32"].parameters,
                    "file_bytes": {kind: (folder / file).stat().st_size for kind, file in files.items()},
                    "latency": {kind: latency(folder / f"{kind}.onnx", cell.repeats) for kind in ("float32", "int8")},
                }
        print(f"  seed {seed}: " + ", ".join(f"{kind} {100 * all_[-1]:.1f} %" for kind, all_ in accuracy.items()))
    spread = {kind: dict(zip(("mean", "std"), mean_std(all_), strict=True)) for kind, all_ in accuracy.items()}
    return {
        "dataset": cell.dataset, "arm": cell.arm, "network": cell.network, "taught": cell.taught,
        "bytes_per_class": made.bytes_per_class, "points": cell.points, "steps": cell.steps,
        "protocol": cell.plan().name, "seeds": list(range(cell.seeds)), "accuracy": accuracy, "spread": spread,
        "parity": parity, "difference": difference, **facts,
    }  # fmt: skip


def write(cell: Cell, line: dict[str, Any]) -> None:
    """Put a cell's line into the file."""
    facts = {
        **line, "commit": revision(ROOT), "versions": {**versions(), "onnxruntime": version("onnxruntime")},
        "hardware": hardware(), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    with atomic(RESULTS) as temporary:
        temporary.write_text(json.dumps({**stored(), cell.command: facts}, indent=1) + "\n")


def stored() -> dict[str, Any]:
    """Lines measured so far, by command."""
    lines: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return lines


def main() -> None:
    """Measure one cell, or all that have no line yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=[arm for arm in networks.ARMS if arm != "whole"])
    parser.add_argument("network", nargs="?")
    parser.add_argument("--bytes", type=int, help="per class")
    parser.add_argument("--points", type=int, default=networks.POINTS)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=networks.STEPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--taught", action="store_true")
    given = parser.parse_args()
    if given.all:
        networks.measure_missing((cell.command for cell in cells()), stored)
        return
    if given.network is None or given.bytes is None:
        parser.error("a data set, an arm, a network and --bytes are needed, or --all")
    cell = Cell(
        given.dataset, given.arm, given.network, given.bytes, given.points, given.bits, given.seeds, given.steps,
        given.repeats, given.taught,
    )  # fmt: skip
    line = measure(cell)
    write(cell, line)
    for kind, spread in line["spread"].items():
        print(f"{kind:8} {100 * spread['mean']:.1f} ± {100 * spread['std']:.1f} %")


if __name__ == "__main__":
    main()

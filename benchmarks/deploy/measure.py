"""What is lost on the way to a device: students trained on condensed sets, as ONNX files in float32 and int8.

    python -m benchmarks.deploy.measure modelnet10 krr pointnet-tiny 1229
    python -m benchmarks.deploy.measure          # every cell without a record

Sets are those of the grids, and so is the recipe: 600 steps, tested on the clean test split, thinned to 128 points.
Every seed's network is written three times by `pcdistill export`: in float32, rounded to int8 after training, and
fine-tuned under that rounding first; ranges and fine-tuning see the condensed set alone. Times are of one cloud on one
thread, in a process that holds nothing but the runtime, for the files of the first seed: each the median of `REPEATS`
processes of 200 runs. `taught` cells are labelled online by the teacher of the folder `teaching`. Nothing here looks at
the test set before the end. Writes `records.json`, a line per cell.
"""

import datetime
import json
import statistics
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import sets
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.core.progress import progress
from pcdistill.evaluation import as_tested, mean_std, score
from pcdistill.export import Exported, load_onnx, measure_latency, write_network
from pcdistill.models import build
from pcdistill.models import networks as registered
from pcdistill.teaching import Online, read_teacher
from pcdistill.training.loop import train
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.supervision import Supervision
from pcdistill.training.trained import Trained, save_network

RECORDS = Path(__file__).parent / "records.json"
STUDENTS = tuple(name for name in ("pointnet-nano", "pointnet-tiny", "pointnet-light") if name in registered)
OF = (("krr", 1229), ("random", 12288))
TEMPERATURE, LOSS = 1.0, "mse"  # as `teaching` has them online
LATENCY_POINTS, REPEATS, SEEDS = (128, 1024), 3, 3


class Cell(NamedTuple):
    """One student on one set."""

    dataset: str
    arm: str
    network: str
    bytes_per_class: int
    taught: bool = False

    @property
    def words(self) -> str:
        """Its name."""
        taught = " taught" if self.taught else ""
        return f"{self.dataset} {self.arm} {self.network} {self.bytes_per_class}{taught}"

    def set_file(self) -> Path:
        """The file of the set."""
        return sets.set_file(self.dataset, self.arm, self.bytes_per_class, 0)

    def protocol(self) -> EvaluationProtocol:
        """The recipe of the grids, with the loss of a taught student if it is one."""
        protocol = sets.protocol(self.network)
        return protocol.changed(temperature=TEMPERATURE, soft_loss=LOSS) if self.taught else protocol


def cells() -> list[Cell]:
    """Every cell."""
    plain = [Cell("modelnet10", arm, network, size) for arm, size in OF for network in STUDENTS]
    return [*plain, Cell("shapes", "krr", "pointnet-tiny", 768), *(cell._replace(taught=True) for cell in plain)]


def exported(made: Artefact, trained: Trained, folder: Path) -> dict[str, Exported]:
    """A student written in every format."""
    save_network(folder / "net.safetensors", trained)
    clouds, seed = made.training_clouds, trained.seed or 0
    seen, facts = clouds.with_points(trained.seen(clouds.points)), {"bytes_per_class": made.bytes_per_class}
    return {
        "float32": write_network(trained, folder / "float32.onnx"),
        "int8": write_network(trained, folder / "int8.onnx", calibration=seen, trained_on=facts),
        "tuned": write_network(
            trained, folder / "tuned.onnx", calibration=seen, trained_on=facts, tune=True, seed=seed
        ),
    }


def student(cell: Cell, made: Artefact, seed: int, supervision: Supervision | None) -> Trained:
    """A network trained on the set."""
    clouds, protocol = made.training_clouds, cell.protocol()
    network = build(cell.network, clouds.num_classes, seed)
    with progress(f"training, seed {seed}", sets.STEPS) as report:
        train(network, clouds, protocol.recipe, seed, lambda step, loss: report(step, f"loss {loss:.4g}"), supervision)
    dataset = made.metadata.dataset
    return Trained(network, clouds.class_names, protocol, dataset, clouds.points_per_cloud, seed)


def latency(path: Path) -> dict[str, dict[str, float]]:
    """By number of points: the medians over processes of their own."""
    found = {}
    for points in LATENCY_POINTS:
        runs = [measure_latency(path, points) for _ in range(REPEATS)]
        found[str(points)] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return found


def measure(cell: Cell) -> dict[str, Any]:
    """Train the students of a cell, export and test them; the facts of its line."""
    test = sets.splits(cell.dataset)[1]
    made = Artefact.load(cell.set_file())
    supervision = Online(read_teacher([sets.teacher_file(cell.dataset)], TEMPERATURE)) if cell.taught else None
    seen: PointClouds | None = None
    accuracy: dict[str, list[float]] = {"network": [], "float32": [], "int8": [], "tuned": []}
    parity, difference = [], {"int8": [], "tuned": []}  # type: ignore[var-annotated]
    facts: dict[str, Any] = {}
    for seed in range(SEEDS):
        trained = student(cell, made, seed, supervision)
        if seen is None:
            seen = as_tested(test, trained.class_names, trained.protocol, trained.points)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            cards = {kind: written.card for kind, written in exported(made, trained, folder).items()}
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
                    "latency": {kind: latency(folder / f"{kind}.onnx") for kind in ("float32", "int8")},
                }
        print(f"  seed {seed}: " + ", ".join(f"{kind} {100 * all_[-1]:.1f} %" for kind, all_ in accuracy.items()))
    spread = {kind: dict(zip(("mean", "std"), mean_std(all_), strict=True)) for kind, all_ in accuracy.items()}
    return {
        "dataset": cell.dataset, "arm": cell.arm, "network": cell.network, "taught": cell.taught,
        "bytes_per_class": made.bytes_per_class, "points": made.metadata.points, "steps": sets.STEPS,
        "protocol": cell.protocol().name, "seeds": list(range(SEEDS)), "accuracy": accuracy, "spread": spread,
        "parity": parity, "difference": difference, **facts,
    }  # fmt: skip


def write(cell: Cell, line: dict[str, Any]) -> None:
    """Put a cell's line into the file."""
    facts = {
        **line, "commit": revision(sets.ROOT), "versions": {**versions(), "onnxruntime": version("onnxruntime")},
        "hardware": hardware(), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    lines = {**stored(), sets.command("deploy", cell.words.split()): facts}
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps(lines, indent=1) + "\n")


def stored() -> dict[str, Any]:
    """Lines measured so far, by command."""
    lines: dict[str, Any] = json.loads(RECORDS.read_text()) if RECORDS.exists() else {}
    return lines


def recorded(cell: Cell) -> bool:
    """Whether a cell has a line: a set has fewer bytes than it may have, by less than a cloud."""
    wanted = (cell.dataset, cell.arm, cell.network, cell.taught)
    return any(
        tuple(line[name] for name in ("dataset", "arm", "network", "taught")) == wanted
        and 0.9 * cell.bytes_per_class < line["bytes_per_class"] <= cell.bytes_per_class
        for line in stored().values()
    )


def keep(cell: Cell) -> None:
    """Measure a cell and write its line."""
    line = measure(cell)
    write(cell, line)
    for kind, spread in line["spread"].items():
        print(f"{kind:8} {100 * spread['mean']:.1f} ± {100 * spread['std']:.1f} %")


if __name__ == "__main__":
    sets.run("deploy", {cell.words: cell for cell in cells()}, recorded, keep)

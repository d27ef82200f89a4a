"""How time and peak memory of condensing grow: one factor at a time around a base, one process per cell.

    python -m benchmarks.growth.measure            # every cell without a record, then the plot
    python -m benchmarks.growth.measure --million  # with a million real clouds besides, which take 6 GB of disk
    python -m benchmarks.growth.measure --quick    # sizes that take some minutes, kept apart as dataset `growth-quick`
    python -m benchmarks.growth.measure --plot     # the plot alone
    python -m benchmarks.growth.measure one --classes 10 --clouds 8 --points 128 --real 2000

The base is 10 classes, 8 clouds x 128 points per class and 2,000 real clouds of 1024 points. Objective `krr` with
its own bank; the start is selected by medoids. The real set is read from disk batch by batch (`--stream`): clouds of
the built-in shapes, each stretched and turned anew, written in parts to the cache folder, where they stay (1 GB for
all cells but that of a million). A class beyond the tenth is one of the ten in proportions of its own. What is measured
is time and memory: no network is trained on the result. Writes `records.jsonl`, and `growth.png` and `growth.svg`
beside it.
"""

import argparse
import datetime
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch

from pcdistill.condense.loop import distill
from pcdistill.condense.plan import objective_of
from pcdistill.condense.schedule import schedule
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic, cache_root
from pcdistill.core.log import said
from pcdistill.core.progress import progress
from pcdistill.data import open_streamed
from pcdistill.data.procedural.shapes import generate
from pcdistill.evaluation import peak_mib
from pcdistill.results.plots import COLOURS, MARKERS
from pcdistill.selection import select
from pcdistill.storage import Budget, storages

RECORDS = Path(__file__).with_name("records.jsonl")
FACTORS = ("classes", "clouds", "points", "real")
STEPS = 100
REAL_POINTS = 1024  # of every real cloud, as in the sets that are condensed in earnest
BASE_SHAPES = 32  # generated shapes per class that all others are made of
VERSION = 1  # raise when `write_set` makes other clouds, so that old files are not found
PART = 250  # clouds in memory while a set is written
MILLION = 1_000_000  # real clouds, if they are asked for


# Fields of every record that stay empty here, as no network is trained on what is condensed.
UNTRAINED: dict[str, Any] = {
    "protocol": None, "network": None, "accuracy": [], "accuracy_mean": None, "accuracy_std": None,
    "class_accuracy_mean": None, "distill_seeds": [0], "train_seeds": [], "train_seconds": None,
}  # fmt: skip


class Cell(NamedTuple):
    """One measurement; the names are those of the script's arguments."""

    classes: int = 10
    clouds: int = 8  # per class, synthetic
    points: int = 128  # of a synthetic cloud
    real: int = 2000  # clouds, all classes together
    networks: int | None = None  # None: the objective's default bank
    steps: int = STEPS
    real_points: int = REAL_POINTS

    def options(self) -> list[str]:
        """This cell as arguments of the script."""
        given = [(name.replace("_", "-"), value) for name, value in self._asdict().items() if value is not None]
        return [word for name, value in given for word in (f"--{name}", str(value))]


GRID = {
    "classes": (5, 10, 20, 40),
    "clouds": (4, 8, 16, 64),
    "points": (64, 128, 512),
    "real": (1000, 2000, 10_000, 100_000, MILLION),
}
QUICK = {"classes": (5, 10), "clouds": (2, 4), "points": (32, 64), "real": (100, 200, 400)}


def cells(quick: bool, networks: int | None, steps: int | None) -> list[Cell]:
    """Every cell once, the base first, then factor by factor, ascending: the longest is the last."""
    base = Cell(networks=networks, steps=STEPS if steps is None else steps)
    if quick:
        base = Cell(5, 2, 32, 100, networks or 1, 5 if steps is None else steps, 128)
    grid = QUICK if quick else GRID
    listed = [base, *(base._replace(**{factor: value}) for factor in FACTORS for value in grid[factor])]
    return list(dict.fromkeys(listed))


def real_set(classes: int, clouds: int, points: int) -> Path:
    """The file of the real set, written now if it is not in the cache yet.

    Cloud i is of class `i % classes`: all are equally large within one, and no chunk of the file holds one class alone.
    """
    path = set_path(classes, clouds, points)
    if not path.exists():
        with atomic(path) as temporary:
            write_set(temporary, classes, clouds, points)
    return path


def set_path(classes: int, clouds: int, points: int) -> Path:
    """Where a real set is kept."""
    return cache_root() / "growth" / f"v{VERSION}-{classes}-{clouds}-{points}.h5"


def write_set(path: Path, classes: int, clouds: int, points: int, seed: int = 0) -> None:
    """Write `clouds` augmented shapes, `PART` in memory at a time, in the project's layout; the same bits each time."""
    base = generate("train", BASE_SHAPES, points, seed).points.numpy().reshape(10, BASE_SHAPES, points, 3)
    own = np.random.default_rng([seed, 1]).uniform(0.5, 1.5, (classes, 3))
    own[:10] = 1  # the shapes' own classes as they are
    with h5py.File(path, "w") as file, progress("writing the real set", clouds + classes) as report:
        done = 0
        for split, count in (("train", clouds), ("test", classes)):
            stored = file.create_dataset(
                f"{split}/points", (count, points, 3), "float16", chunks=(min(64, count), points, 3)
            )
            for low in range(0, count, PART):
                stored[low : low + PART] = augmented(base, own, range(low, min(low + PART, count)), split, seed)
                report(done + low, "")
            done += count
            file[f"{split}/labels"] = np.arange(count) % classes
        file.attrs["class_names"] = [f"class {label:02d}" for label in range(classes)]
        file.attrs["up_axis"] = "z"
        file.attrs["source"] = "shapes (procedural), augmented by benchmarks/growth"
        file.attrs["licence"] = "CC0-1.0"


def augmented(base: np.ndarray, own: np.ndarray, numbers: range, split: str, seed: int) -> np.ndarray:
    """Clouds of these numbers: a shape of the class, stretched per axis, turned about z, in the class's proportions."""
    made = []
    for number in numbers:
        random = np.random.default_rng([seed, split == "test", number])
        label = number % len(own)
        cloud = base[label % 10, random.integers(base.shape[1])] * np.exp(random.normal(0, 0.1, 3)) * own[label]
        angle = random.normal(0, 0.15)
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        made.append(random.permutation(cloud @ turn.T))  # the first points of a cloud are a sample of all
    largest = np.abs(np.stack(made)).max(axis=(1, 2), keepdims=True)
    return np.stack(made) / largest  # within [-1, 1], which float16 is made for; readers normalise


def peak() -> int:
    """Peak memory of this process in MiB since it began to run this script.

    `ru_maxrss` starts at the memory of the process that started this one; Linux's VmHWM does not.
    """
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE) if status.exists() else None
    return int(found[1]) // 1024 if found else peak_mib()


def measure(cell: Cell, path: Path) -> dict[str, Any]:
    """Condense the set at `path` as the command does, without a cache, and say what each part of it took."""
    torch.set_num_threads(1)
    spec = DistillSpec(clouds_per_class=cell.clouds, points=cell.points, members=cell.networks, steps=cell.steps)
    objective, budget = objective_of(spec), Budget(cell.clouds, cell.points)
    begun = peak()
    with tempfile.TemporaryDirectory() as empty, open_streamed(path) as real:
        os.environ["PCDISTILL_CACHE"] = empty  # a bank that was there before would cost nothing
        start = time.perf_counter()
        real.fingerprint()
        opened = time.perf_counter()
        first = select(real, spec.init, cell.clouds, points=budget.points, seed=spec.seed)
        selected = time.perf_counter()
        select_peak = peak()
        storage = storages["points"].from_clouds(first, budget)
        settings = schedule(spec, objective, storage)
        done = distill(real, storage, objective, settings)
        size = (real.num_classes, len(real), real.points_per_cloud)
    assert size == (cell.classes, cell.real, cell.real_points)
    return {
        "bytes_per_class": storage.nbytes / cell.classes, "objective": objective.name,
        "networks": objective.options.bank.networks,
        "distill_network": objective.options.bank.network, "init": spec.init,
        "fingerprint_seconds": opened - start, "select_seconds": selected - opened,
        "prepare_seconds": done.prepare_seconds, "distill_seconds": done.seconds,
        "start_mib": begun, "select_peak_mib": select_peak, "peak_mib": peak(), "file_mib": path.stat().st_size >> 20,
        "threads": torch.get_num_threads(),
    }  # fmt: skip


def recorded(cell: Cell, quick: bool) -> dict[str, Any]:
    """The record of a cell, measured in a process of its own; the set is written by another one."""
    words = [*cell.options(), *(["--quick"] if quick else [])]
    there = set_path(cell.classes, cell.real, cell.real_points).exists()
    for what in ("one",) if there else ("write", "one"):
        run = [sys.executable, "-m", "benchmarks.growth.measure", what, *words]
        ran = subprocess.run(run, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(ran.stdout.splitlines()[-1])
    return {
        "benchmark": "growth", "dataset": dataset(quick), "arm": found["objective"], "distilled": True,
        "storage": "points", "classes": cell.classes, "clouds_per_class": cell.clouds, "points": cell.points, "bits": 8,
        "real_clouds": cell.real, "real_points": cell.real_points, "steps": cell.steps, **found, **UNTRAINED,
        **origin("measure", ["one", *words]),
    }  # fmt: skip


def origin(script: str, words: Sequence[str]) -> dict[str, Any]:
    """What every record says of where it comes from: a script of this folder, with these arguments."""
    return {
        "command": shlex.join(["python", "-m", f"benchmarks.growth.{script}", *words]),
        "commit": revision(Path(__file__).parents[2]), "versions": versions(), "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip


def dataset(quick: bool) -> str:
    """What records call the set: those of quick sizes are apart, and in no table."""
    return "growth-quick" if quick else "growth"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All records of a file, none if it does not exist."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """Put these records in the place of a file's."""
    with atomic(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))


def run(wanted: list[Cell], quick: bool, million: bool = False) -> None:
    """Measure the cells that have no record, each written as soon as it is known."""
    for cell in wanted:
        if cell.real >= MILLION and not million:
            continue
        done = read_lines(RECORDS)
        if any(line["dataset"] == dataset(quick) and cell_of(line) == cell for line in done):
            continue
        print(shlex.join(cell.options()), flush=True)
        line = recorded(cell, quick)
        write_lines(RECORDS, [*done, line])
        print(
            f"  select {seconds_of(line)['select']:.1f} s, prepare {line['prepare_seconds']:.1f} s, "
            f"distil {line['distill_seconds']:.1f} s, peak {line['peak_mib']} MiB", flush=True,
        )  # fmt: skip


def cell_of(line: dict[str, Any]) -> Cell:
    """The cell that a record is of, by the command that measured it."""
    words = shlex.split(line["command"])
    return arguments(words[words.index("one") :]).cell


def seconds_of(line: dict[str, Any]) -> dict[str, float]:
    """Seconds of the three parts; the pass for the fingerprint is counted to the selection, which makes it first."""
    return {
        "select": line["fingerprint_seconds"] + line["select_seconds"],
        "prepare": line["prepare_seconds"],
        "distil": line["distill_seconds"],
    }


def plot(lines: list[dict[str, Any]], wanted: list[Cell], path: Path) -> None:
    """Draw seconds and peak memory against every factor as `path`.png and .svg; a line through the cells in `wanted`.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    titles = {"classes": "classes", "clouds": "synthetic clouds per class", "points": "points per synthetic cloud",
              "real": "real clouds on disk"}  # fmt: skip
    parts = {"select": "select", "prepare": "prepare networks", "distil": f"distil, {wanted[0].steps} steps"}
    found = {cell_of(line): line for line in lines}
    figure = Figure(figsize=(5.4, 9.6), dpi=160, layout="constrained")  # can be read where a telephone shows it
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(FACTORS), 2, sharex="row", sharey="col")
    for row, factor in enumerate(FACTORS):
        # The cells that differ from the base in this factor alone, and the base itself.
        line_of = [cell for cell in wanted if cell._replace(**{factor: getattr(wanted[0], factor)}) == wanted[0]]
        measured = sorted((cell for cell in line_of if cell in found), key=lambda cell: getattr(cell, factor))
        sizes = [getattr(cell, factor) for cell in measured]
        time_axes, memory_axes = panels[row]
        for number, (part, label) in enumerate(parts.items()):
            time_axes.plot(
                sizes, [max(seconds_of(found[cell])[part], 1e-2) for cell in measured], color=COLOURS[number],
                marker=MARKERS[number], markersize=5, markeredgecolor="white", markeredgewidth=0.5, linewidth=1.6,
                label=label,
            )  # fmt: skip
        memory = {"peak_mib": ("peak", "-"), "select_peak_mib": ("after selecting", "--"), "start_mib": ("start", ":")}
        for name, (label, style) in memory.items():
            memory_axes.plot(
                sizes, [found[cell][name] for cell in measured], color=COLOURS[3], linestyle=style,
                marker=MARKERS[3] if style == "-" else "", markersize=5, linewidth=1.6, label=label,
            )  # fmt: skip
        time_axes.set_xscale("log")
        time_axes.set_yscale("log")
        memory_axes.xaxis.set_major_locator(FixedLocator(sizes))
        memory_axes.xaxis.set_minor_locator(NullLocator())
        memory_axes.xaxis.set_major_formatter(lambda size, _: short(size))
        for axes in (time_axes, memory_axes):
            axes.set_xlabel(titles[factor])
            axes.grid(axis="y", color="#dddddd", linewidth=0.6)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, title in zip(panels[0], ("seconds (log scale)", "peak memory in MiB"), strict=True):
        axes.set_title(title, loc="left", fontsize=10, pad=46)
        axes.legend(fontsize=8, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    panels[0, 1].set_ylim(bottom=0)
    for suffix in ("png", "svg"):
        with (
            matplotlib.rc_context({"svg.hashsalt": "growth"}),  # the same bytes from the same records
            atomic(path.with_suffix(f".{suffix}")) as temporary,
        ):
            figure.savefig(temporary, format=suffix, metadata={"Date": None} if suffix == "svg" else None)


def short(size: float) -> str:
    """`2k`, `1M`."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return f"{size:g}"


class Arguments(NamedTuple):
    """What the command line asks for."""

    what: str | None
    cell: Cell
    quick: bool
    plot: bool
    million: bool
    networks: int | None
    steps: int | None


def arguments(words: list[str]) -> Arguments:
    """The command line, taken apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["one", "write"], help="one cell, or its real set alone")
    for name in Cell._fields:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plot", action="store_true", help="draw what there is, measure nothing")
    parser.add_argument("--million", action="store_true", help="a million real clouds as well: 6 GB of disk")
    given = parser.parse_args(words)
    sizes = {name: value for name in Cell._fields if (value := getattr(given, name)) is not None}
    if any(value < 1 for value in sizes.values()):
        parser.error("sizes are 1 or more")
    if given.what is None and sizes.keys() - {"networks", "steps"}:
        parser.error("sizes are of one cell: growth.py one ...")
    return Arguments(given.what, Cell(**sizes), given.quick, given.plot, given.million, given.networks, given.steps)


def main() -> None:
    """Measure one cell and print it, or all that have no record yet, and draw them."""
    given = arguments(sys.argv[1:])
    if given.what is not None:
        with said(logging.INFO):  # how far it is
            path = real_set(given.cell.classes, given.cell.real, given.cell.real_points)
            if given.what == "one":
                print(json.dumps(measure(given.cell, path)))
        return
    wanted = cells(given.quick, given.networks, given.steps)
    if not given.plot:
        run(wanted, given.quick, given.million)
    lines = [line for line in read_lines(RECORDS) if line["dataset"] == dataset(given.quick)]
    if not any((line["networks"], line["steps"]) == (cell.networks or line["networks"], cell.steps)
               for line in lines for cell in wanted):  # fmt: skip
        sys.exit("no plot: no record of these networks and steps (--networks, --steps)")
    try:
        plot(lines, wanted, RECORDS.with_name(dataset(given.quick)))
    except ImportError:
        print("no plot: matplotlib is not installed (the extra `plots`)")


if __name__ == "__main__":
    main()

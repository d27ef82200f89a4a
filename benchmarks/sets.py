"""What measuring scripts share: the sets of the grids, made once and kept in `runs/sets`, and how they are run."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.data import last_split, load
from pcdistill.experiments.grid import set_of, teacher_of
from pcdistill.experiments.spec import GridSpec
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_named

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs"
HELD_OUT = 0.2  # of every class of train, the last ones
POINTS, BITS, STEPS = 128, 5, 600
TEACHER = {"network": "pointnet", "steps": 1500}

Cell = TypeVar("Cell")


def splits(dataset: str, validation: bool = False) -> tuple[PointClouds, PointClouds]:
    """What sets are made from, and what networks are tested on."""
    real = load(dataset, "train", points=1024)
    return last_split(real, HELD_OUT) if validation else (real, load(dataset, "test", points=1024))


def protocol(network: str, steps: int = STEPS) -> EvaluationProtocol:
    """`tuned`, with so many steps, on thinned test clouds."""
    return protocol_named("tuned", network).changed(steps=steps).model_copy(update={"thin": True})


def set_file(
    dataset: str,
    method: str,
    nbytes: int,
    seed: int,
    *,
    validation: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """The file of a set of so many bytes per class, made unless it is there; `krr` is its preset."""
    arm = {"method": "preset:krr" if method == "krr" else method, "settings": settings or {}, "first_seed": seed}
    held = HELD_OUT if validation else None
    return set_of(_spec(dataset, arms={"set": arm}, budgets=[f"{nbytes}B@{POINTS}x{BITS}"], validation=held))


def teacher_file(dataset: str) -> Path:
    """The teacher of the folders `teaching` and `onpolicy`, trained unless it is there."""
    online = {"labels": ["online"], "supervision": {"online": {}}, "teacher": TEACHER, "whole_points": POINTS}
    return teacher_of(_spec(dataset, methods=["whole"], **online))


def _spec(dataset: str, **more: Any) -> GridSpec:
    return GridSpec.checked(
        {"data": [dataset], "methods": ["set"], "distill_seeds": 1, "output": RUNS, "sets": RUNS / "sets", **more},
        "set",
    )


def made(dataset: str, method: str, nbytes: int, seed: int, **more: Any) -> Artefact:
    """The set in `set_file`, which takes the same arguments."""
    return Artefact.load(set_file(dataset, method, nbytes, seed, **more))


def command(folder: str, words: Sequence[str]) -> str:
    """What measures the cell with these words."""
    return shlex.join(["python", "-m", f"benchmarks.{folder}.measure", *words])


def run(
    folder: str,
    cells: Mapping[str, Cell],
    recorded: Callable[[Cell], bool],
    measure: Callable[[Cell], None],
) -> None:
    """`python -m benchmarks.FOLDER.measure [WORD ...]`: one cell, or all without a record, each in a process.

    Args:
        folder: its name.
        cells: by their words.
        recorded: whether a cell has a record; asked before each, as others may be at work on the same records.
        measure: measures a cell and keeps the record.
    """
    words = " ".join(sys.argv[1:])
    if words:
        measure(cells[words] if words in cells else _unknown(folder, words, cells))
        return
    for name, cell in cells.items():
        if not recorded(cell):
            print(name, flush=True)
            subprocess.run([sys.executable, "-m", f"benchmarks.{folder}.measure", *name.split()], check=True, cwd=ROOT)


def _unknown(folder: str, words: str, cells: Mapping[str, Cell]) -> NoReturn:
    sys.stderr.write(f"benchmarks.{folder}.measure: '{words}', expected nothing or one of:\n  ")
    sys.exit("\n  ".join(cells))

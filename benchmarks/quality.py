"""What sets look like: how near their clouds are to real ones, what they cover, and whether they are copies.

    python benchmarks/quality.py modelnet10 dc
    python benchmarks/quality.py --all             # every cell of the table, those with a record left out

Sets are made as in `networks.py`, in 1,229 bytes per class (some ten clouds x 128 points @ 5 bits, coded), and kept in
`runs/networks`; `dc` and `sadm` are distilled with the settings of their objectives, `dc` for fewer steps, so that it
takes minutes. What is measured is `pcdistill audit` (`evaluation.quality`), against the set that they were made from.
Accuracy is that of a `pointnet-tiny` trained on the set as in `networks.py`. Records go to `results/quality.jsonl`.
Nothing here chooses anything by the test set.
"""

import argparse
import shlex
from pathlib import Path
from typing import NamedTuple

import networks as cross

from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig
from pcdistill.jobs import distill_artefact
from pcdistill.storage import Artefact

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "quality.jsonl"
ARMS = ("random", "herding", "kcenter", "medoid", "dc", "sadm", "krr")
STEPS = {"dc": 100, "sadm": 400}  # of the outer loop
STUDENT, BYTES, POINTS, BITS = "pointnet-tiny", 1229, 128, 5


class Cell(NamedTuple):
    """The sets of one kind."""

    dataset: str
    arm: str
    sets: int = 1
    networks: int = 3

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.arm, "--sets", str(self.sets), "--networks", str(self.networks)]
        return shlex.join(["python", "benchmarks/quality.py", *words])

    @property
    def of(self) -> cross.Cell:
        """The set, as `networks.py` knows it."""
        return cross.Cell(self.dataset, self.arm, STUDENT, BYTES, POINTS, BITS)


def cells() -> list[Cell]:
    """Every cell of the table; of what is drawn or learned quickly three sets, with a network each."""
    return [Cell("modelnet10", arm, *((3, 1) if arm in ("random", "krr") else (1, 3))) for arm in ARMS]


def make(cell: Cell, real: PointClouds, seed: int) -> Artefact:
    """The set of a cell for one seed, read if it was made before."""
    path = cross.set_file(cell.of, seed)
    if cell.arm not in STEPS or path.exists():
        made = cross.make(cell.of, real, seed)
        assert isinstance(made, Artefact)
        return made
    config = DistillConfig(
        data=cell.dataset, output=path, bytes_per_class=BYTES, points=POINTS, bits=BITS, seed=seed,
        objective=cell.arm, steps=STEPS[cell.arm],
    )  # fmt: skip
    made = distill_artefact(real, config)
    made.save(path)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=ARMS)
    given = parser.parse_args()
    cell = Cell(given.dataset, given.arm)
    make(cell, cross.splits(cell.of)[0], 0)


if __name__ == "__main__":
    main()

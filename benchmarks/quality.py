"""What sets look like: how near their clouds are to real ones, what they cover, and whether they are copies.

    python benchmarks/quality.py modelnet10 dc
    python benchmarks/quality.py modelnet10 test        # test clouds in place of a set
    python benchmarks/quality.py modelnet10 copies      # what is found of clouds that are known to be copies, or not
    python benchmarks/quality.py --all                  # every cell of the tables, those with a record left out

Sets are made as in `networks.py`, in 1,229 bytes per class (some ten clouds x 128 points @ 5 bits, coded), and kept in
`runs/networks`; `dc` and `sadm` are distilled with the settings of their objectives, `dc` for a quarter of the steps,
so that it takes minutes. What is measured is `pcdistill audit` (`evaluation.quality`), against the set that they were
made from. Accuracy is that of a `pointnet-tiny` trained on the set as in `networks.py`. Records go to
`results/quality.jsonl`, what has no accuracy to `results/quality.json`. Nothing here chooses anything by the test set.
"""

import argparse
import datetime
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import networks as cross
import torch
from torch import Tensor

from pcdistill import evaluation
from pcdistill.audit import quality_facts, rounding
from pcdistill.clouds import PointClouds
from pcdistill.config import DistillConfig, SelectConfig
from pcdistill.environment import hardware, revision, versions
from pcdistill.evaluation import Record, write_record
from pcdistill.evaluation.quality import Audit, audit
from pcdistill.files import atomic
from pcdistill.geometry import farthest_points
from pcdistill.jobs import coreset_artefact, distill_artefact
from pcdistill.storage import Artefact
from pcdistill.storage.quantise import round_through

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "quality.jsonl"
FACTS = RESULTS.with_suffix(".json")
STEPS = {"dc": 100, "sadm": 400}  # of the outer loop
ARMS = ("random", "herding", "kcenter", "medoid", *STEPS, "krr")
PARTS = ("test", "copies")  # without an accuracy
INIT = "medoid"  # what distilled sets start from
STUDENT, BYTES, POINTS, BITS = "pointnet-tiny", 1229, 128, 5
DRAWS = 3  # of test clouds
KNOWN = 25  # clouds of every class that are known to be copies, and as many that are none


class Cell(NamedTuple):
    """The sets of one kind, or a part that has no accuracy."""

    dataset: str
    arm: str
    sets: int = 1
    networks: int = 3

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        sizes = [] if self.arm in PARTS else ["--sets", str(self.sets), "--networks", str(self.networks)]
        return shlex.join(["python", "benchmarks/quality.py", self.dataset, self.arm, *sizes])

    @property
    def of(self) -> cross.Cell:
        """The set, as `networks.py` knows it."""
        return cross.Cell(self.dataset, self.arm, STUDENT, BYTES, POINTS, BITS)


def cells() -> list[Cell]:
    """Every cell of the tables; of what is drawn, or learned quickly, three sets with a network each."""
    several = {arm: (3, 1) for arm in ("random", "krr")}
    return [*(Cell("modelnet10", arm, *several.get(arm, (1, 3))) for arm in ARMS),
            *(Cell("modelnet10", part) for part in PARTS)]  # fmt: skip


def make(cell: Cell, real: PointClouds, seed: int) -> Artefact:
    """The set of a cell for one seed, read if it was made before."""
    path = cross.set_file(cell.of, seed)
    if cell.arm not in STEPS or path.exists():
        made = cross.make(cell.of, real, seed)
        assert isinstance(made, Artefact)
        return made
    config = DistillConfig(
        data=cell.dataset, output=path, bytes_per_class=BYTES, points=POINTS, bits=BITS, seed=seed,
        init=INIT, objective=cell.arm, steps=STEPS[cell.arm],
    )  # fmt: skip
    made = distill_artefact(real, config)
    made.save(path)
    return made


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, audit each, train networks on it and test them."""
    real, test = cross.splits(cell.of)
    plan, runs, found = cell.of.plan(), [], []
    for seed in range(cell.sets):
        made = make(cell, real, seed)
        runs.append(evaluation.measure(made, test, plan, seed, cell.networks))
        seen = audit(made.clouds, real, test, rounding(made))
        start = from_start(cell, seen, real) if made.metadata.distilled else None
        found.append({**quality_facts(seen.overall), "from_start": start})
        print(f"  seed {seed}: {[round(100 * one, 1) for one in runs[-1].accuracy]} %, {found[-1]['made']}", flush=True)
    return evaluation.summed_up(
        "quality", cell.dataset, plan, runs, cell.command, revision(ROOT), split="test", quality=found,
    )  # fmt: skip


def from_start(cell: Cell, seen: Audit, real: PointClouds) -> float:
    """Share of clouds whose nearest training cloud is one that distilled sets start from, the same for every seed."""
    start = make(cell._replace(arm=INIT), real, 0)
    return float(torch.isin(seen.near.nearest, evaluation.nearest_real(start.clouds, real).index).float().mean())


def of_test(cell: Cell, real: PointClouds, test: PointClouds) -> list[dict[str, Any]]:
    """What an audit finds in as many bytes of test clouds, drawn anew for every seed."""
    found = []
    for seed in range(DRAWS):
        config = SelectConfig(
            data=cell.dataset, output=Path("unwritten.h5"), bytes_per_class=BYTES, points=POINTS, bits=BITS,
            method="random", seed=seed,
        )  # fmt: skip
        made = coreset_artefact(test, config)
        seen = audit(made.clouds, real, test, rounding(made))
        found.append({**quality_facts(seen.overall), "from_start": from_start(cell, seen, real)})
    return found


def _sampled(points: Tensor, random: torch.Generator) -> Tensor:
    return points[:, torch.randperm(points.shape[1], generator=random)[:POINTS]]


def _moved(spread: float) -> Callable[[Tensor, torch.Generator], Tensor]:
    def move(points: Tensor, random: torch.Generator) -> Tensor:
        thin = farthest_points(points, POINTS)
        return thin + spread * torch.randn(thin.shape, generator=random)

    return move


# How a copy may come about, before it is rounded: how points are taken of a cloud, and how far they are moved.
WAYS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "thinned": lambda points, random: farthest_points(points, POINTS),
    "thinned from half its points": lambda points, random: farthest_points(points[:, ::2], POINTS),
    "random points": _sampled,
    "thinned, moved by 0.02": _moved(0.02),
    "thinned, moved by 0.05": _moved(0.05),
    "thinned, moved by 0.08": _moved(0.08),
}


def known(real: PointClouds, test: PointClouds) -> list[dict[str, Any]]:
    """How well every measure tells copies of training clouds from test clouds that are treated alike."""
    lines = []
    for way, treat in WAYS.items():
        random = torch.Generator().manual_seed(0)
        pair = [_scored(_treated(clouds, treat, random), real) for clouds in (real, test)]
        copies, fresh = pair
        lines.append({
            "way": way,
            "clouds": [len(side["near"]) for side in pair],
            "auc": {name: _auc(copies[name], fresh[name]) for name in ("chamfer", "surface", "margin")},
            "copies": {name: float(copies[name].float().mean()) for name in ("near", "traced", "either", "copied")},
            "fresh": {name: float(fresh[name].float().mean()) for name in ("near", "traced", "either", "copied")},
        })  # fmt: skip
        print(f"  {json.dumps(lines[-1])}", flush=True)
    return lines


def _treated(
    clouds: PointClouds, treat: Callable[[Tensor, torch.Generator], Tensor], random: torch.Generator
) -> PointClouds:
    chosen = []
    for label in range(clouds.num_classes):
        own = (clouds.labels == label).nonzero()[:, 0]
        chosen.append(own[torch.randperm(len(own), generator=random)[:KNOWN]])
    some = clouds[torch.cat(chosen)]
    return some.with_points(round_through(treat(some.points, random), BITS))


def _scored(clouds: PointClouds, real: PointClouds) -> dict[str, Tensor]:
    """Of every cloud the measures, Chamfer distance in units of the class's, and what an audit says of it."""
    seen = audit(clouds, real, bits=BITS)
    units = torch.tensor([seen.classes[name].training.chamfer for name in clouds.class_names])
    return {
        "chamfer": seen.near.chamfer / units[clouds.labels], "surface": seen.near.ratio, "margin": seen.near.margin,
        "near": seen.copies, "traced": seen.traced, "either": seen.copies | seen.traced,
        "copied": ~seen.near.authentic,
    }  # fmt: skip


def _auc(copies: Tensor, fresh: Tensor) -> float:
    """Probability that a copy has the smaller value."""
    pairs = copies[:, None] - fresh
    return float(((pairs < 0).float() + 0.5 * (pairs == 0).float()).mean())


def facts() -> dict[str, Any]:
    """What was measured that has no accuracy: by data set and part."""
    stored: dict[str, Any] = json.loads(FACTS.read_text()) if FACTS.exists() else {}
    return stored


def write_facts(cell: Cell, lines: list[dict[str, Any]]) -> None:
    """Put a part into the file."""
    made = {
        "command": cell.command, "commit": revision(ROOT), "versions": versions(), "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "lines": lines,
    }  # fmt: skip
    with atomic(FACTS) as temporary:
        temporary.write_text(json.dumps({**facts(), f"{cell.dataset} {cell.arm}": made}, indent=1) + "\n")


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=(*ARMS, *PARTS))
    parser.add_argument("--sets", type=int, default=1)
    parser.add_argument("--networks", type=int, default=3, help="trained on every set")
    given = parser.parse_args()
    if given.all:
        cross.measure_missing(
            (cell.command for cell in cells()),
            lambda: cross.commands_in(RESULTS) | {part["command"] for part in facts().values()},
        )
        return
    if given.arm is None:
        parser.error("a data set and an arm are needed, or --all")
    cell = Cell(given.dataset, given.arm, given.sets, given.networks)
    if cell.arm in PARTS:
        real, test = cross.splits(cell.of)
        write_facts(cell, of_test(cell, real, test) if cell.arm == "test" else known(real, test))
        return
    record = measure(cell)
    write_record(RESULTS, record)
    print(f"{record.arm}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

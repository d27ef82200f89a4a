"""What sets look like: how near their clouds are to real ones, what they cover, and whether they are copies.

    python -m benchmarks.quality.measure modelnet10 dc
    python -m benchmarks.quality.measure modelnet10 test    # test clouds in place of a set
    python -m benchmarks.quality.measure modelnet10 copies  # what is found of known copies, and of others
    python -m benchmarks.quality.measure                    # every cell of the tables without a record

Sets are those of the grids, in 1,229 bytes per class (some ten clouds x 128 points @ 5 bits, coded), and kept in
`runs/sets`; `dc` and `sadm` are distilled with the settings of their objectives, `dc` for a quarter of the steps,
so that it takes minutes. What is measured is `pcdistill audit` (`evaluation.audit`), against the set that they were
made from. Accuracy is that of a `pointnet-tiny` trained on the set for 600 steps. Records go to `records.jsonl`, what
has no accuracy to `copies.json`. Nothing here chooses anything by the test set.
"""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import sets
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.condense import select
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.evaluation.audit import Findings, audit, rounding
from pcdistill.geometry import farthest_points
from pcdistill.geometry.nearest import nearest_real
from pcdistill.results import Record, accuracy_cell, read_records, summed_up, write_record
from pcdistill.results import measure as measured
from pcdistill.storage.quantise import round_through

HERE = Path(__file__).parent
RECORDS, FACTS = HERE / "records.jsonl", HERE / "copies.json"
STEPS = {"dc": 100, "sadm": 400}  # of the outer loop
ARMS = ("random", "herding", "kcenter", "medoid", *STEPS, "krr")
PARTS = ("test", "copies")  # without an accuracy
INIT = "medoid"  # what distilled sets start from
STUDENT, BYTES, POINTS, BITS = "pointnet-tiny", 1229, sets.POINTS, sets.BITS
DRAWS = 3  # of test clouds
KNOWN = 25  # clouds of every class that are known to be copies, and as many that are none


class Cell(NamedTuple):
    """The sets of one kind, or a part that has no accuracy."""

    dataset: str
    arm: str
    sets: int = 1
    networks: int = 3

    @property
    def words(self) -> str:
        """Its name."""
        return f"{self.dataset} {self.arm}"

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        return sets.command("quality", self.words.split())


def cells() -> list[Cell]:
    """Every cell of the tables; of what is drawn, or learned quickly, three sets with a network each."""
    several = {arm: (3, 1) for arm in ("random", "krr")}
    return [*(Cell("modelnet10", arm, *several.get(arm, (1, 3))) for arm in ARMS),
            *(Cell("modelnet10", part) for part in PARTS)]  # fmt: skip


def make(cell: Cell, seed: int) -> Artefact:
    """The set of a cell for one seed, made unless it is there."""
    settings = {"init": INIT, "steps": STEPS[cell.arm]} if cell.arm in STEPS else {}
    return sets.made(cell.dataset, cell.arm, BYTES, seed, settings=settings)


def measure(cell: Cell) -> Record:
    """Make the sets of a cell, audit each, train networks on it and test them."""
    real, test = sets.splits(cell.dataset)
    protocol, runs, found = sets.protocol(STUDENT), [], []
    for seed in range(cell.sets):
        made = make(cell, seed)
        runs.append(measured(made, test, protocol, seed, cell.networks))
        seen = audit(made.clouds, real, test, rounding(made))
        start = from_start(cell, seen, real) if made.metadata.distilled else None
        found.append({**seen.overall.facts(), "from_start": start})
        print(f"  seed {seed}: {[round(100 * one, 1) for one in runs[-1].accuracy]} %, {found[-1]['made']}", flush=True)
    commit = revision(sets.ROOT)
    return summed_up("quality", cell.dataset, protocol, runs, cell.command, commit, split="test", quality=found)


def from_start(cell: Cell, seen: Findings, real: PointClouds) -> float:
    """Share of clouds whose nearest training cloud is one that distilled sets start from, the same for every seed."""
    start = make(cell._replace(arm=INIT), 0)
    return float(torch.isin(seen.near.nearest, nearest_real(start.clouds, real).index).float().mean())


def of_test(cell: Cell, real: PointClouds, test: PointClouds) -> list[dict[str, Any]]:
    """What an audit finds in as many bytes of test clouds, drawn anew for every seed."""
    found = []
    for seed in range(DRAWS):
        made = select(test, bytes_per_class=BYTES, points=POINTS, bits=BITS, method="random", seed=seed)
        seen = audit(made.clouds, real, test, rounding(made))
        found.append({**seen.overall.facts(), "from_start": from_start(cell, seen, real)})
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
        "command": cell.command, "commit": revision(sets.ROOT), "versions": versions(), "hardware": hardware(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(), "lines": lines,
    }  # fmt: skip
    with atomic(FACTS) as temporary:
        temporary.write_text(json.dumps({**facts(), cell.words: made}, indent=1) + "\n")


def recorded(cell: Cell) -> bool:
    """Whether a cell was measured."""
    if cell.arm in PARTS:
        return cell.words in facts()
    return any((one.dataset, one.arm) == (cell.dataset, cell.arm) for one in read_records(RECORDS))


def keep(cell: Cell) -> None:
    """Measure a cell and write down what was found."""
    if cell.arm in PARTS:
        real, test = sets.splits(cell.dataset)
        write_facts(cell, of_test(cell, real, test) if cell.arm == "test" else known(real, test))
        return
    record = measure(cell)
    write_record(RECORDS, record)
    print(f"{record.arm}: {accuracy_cell(record)} %")


if __name__ == "__main__":
    sets.run("quality", {cell.words: cell for cell in cells()}, recorded, keep)

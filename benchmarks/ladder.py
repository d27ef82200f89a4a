"""Which teacher: chosen on validation among networks and snapshots, against the strongest one and hard labels.

    python benchmarks/ladder.py modelnet10 random choose   # the ladder, on the last fifth of train
    python benchmarks/ladder.py modelnet10 random chosen   # then its choice, trained anew, once on the test split
    python benchmarks/ladder.py --all                      # every cell, those with a record left out

Sets are those of `networks.py` at 0.1 float32 clouds per class, for the choice made of the first four fifths of train
only. The ladder is that of `pcdistill teach` (kept in `runs/ladder`): a student per rung, by the set's own protocol,
`tuned`; those tested follow that of `networks.py`, with thinned clouds. For the test split the chosen and the strongest
teacher are trained on all of train, to the same step of the same schedule, and teach at the chosen temperature (the
strongest one at the first). An ensemble is trained member by member; where an assistant was chosen, the best rung
without one is taken. Records go to `results/ladder.jsonl`, the choice with its rank correlations.
Nothing here looks at the test set before the choice stands.
"""

import argparse
import shlex
from pathlib import Path
from typing import NamedTuple

import networks as cross

from pcdistill import evaluation, teach
from pcdistill.clouds import PointClouds
from pcdistill.config import TeachConfig
from pcdistill.environment import revision
from pcdistill.evaluation import Record, write_record
from pcdistill.geometry import farthest_points
from pcdistill.storage import Artefact
from pcdistill.teaching import Online, Teacher, read_teacher
from pcdistill.teaching.ladder import Rung, best, correlations, snapshots, strongest
from pcdistill.trained import Trained, save_network
from pcdistill.training import protocol

ROOT = Path(__file__).parent.parent
RESULTS, LADDERS = Path(__file__).parent / "results" / "ladder.jsonl", ROOT / "runs" / "ladder"
STUDENT, BYTES = "tiny", 1229
TEACHERS, STEPS = ("pointnet-nano", "pointnet-tiny", "pointnet", "dgcnn"), 600
SHARES, TEMPERATURES = (0.05, 0.2, 0.5, 1.0), (1.0, 2.0, 4.0)
PARTS = ("choose", "hard", "strongest", "chosen")


class Cell(NamedTuple):
    """A set, and the ladder on it or what a kind of teacher is worth on the test split."""

    dataset: str
    arm: str
    part: str
    networks: int = 3

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        words = [self.dataset, self.arm, self.part, "--networks", str(self.networks)]
        return shlex.join(["python", "benchmarks/ladder.py", *words])

    def of(self, validation: bool) -> cross.Cell:
        """The set, as `networks.py` knows it."""
        return cross.Cell(self.dataset, self.arm, f"pointnet-{STUDENT}", BYTES, validation=validation)


def cells() -> list[Cell]:
    """Every cell, each ladder before what hangs on it."""
    return [Cell("modelnet10", arm, part) for arm in ("random", "krr") for part in PARTS]


def made(cell: Cell, validation: bool) -> tuple[Artefact, PointClouds, PointClouds]:
    """The set, what it was made of, and what students of it are tested on."""
    of = cell.of(validation)
    real, test = cross.splits(of)
    cross.make(of, real, 0)
    return Artefact.load(cross.set_file(of, 0)), real, test


def climbed(cell: Cell) -> teach.Ladder:
    """The ladder of a set; what is there of it is not done again."""
    made(cell, True)
    config = TeachConfig(
        source=str(cross.set_file(cell.of(True), 0)), data=cell.dataset, student=STUDENT, teachers=TEACHERS,
        output=LADDERS / f"{Path(cell.dataset).name}-{cell.arm}", snapshots=SHARES, temperatures=TEMPERATURES,
        steps=STEPS,
    )  # fmt: skip
    return teach.run_teach(config, lambda text: print(text, flush=True))


def rung_of(cell: Cell, ladder: teach.Ladder) -> Rung | None:
    """The teacher of a cell; None for hard labels."""
    if cell.part == "hard":
        return None
    if cell.part == "strongest":
        return strongest(ladder.rungs)
    return best([rung for rung in ladder.rungs if " > " not in rung.teacher])


def trained_anew(cell: Cell, rung: Rung, real: PointClouds) -> Teacher:
    """The teacher of a rung, trained on all of `real` to the same steps."""
    thin = real.with_points(farthest_points(real.points, cross.POINTS))
    paths = []
    for member in rung.teacher.split(" + "):
        name, _, step = member.partition("@")
        path = LADDERS / "whole" / f"{Path(cell.dataset).name}-{name}-{step}.safetensors"
        if not path.exists():
            plan = protocol("tuned", name).changed(steps=STEPS).model_copy(update={"thin": True})
            (network,) = snapshots(name, thin, plan.recipe, 0, (int(step),)).values()
            save_network(path, Trained(network, real.class_names, plan, cell.dataset, cross.POINTS, 0))
        paths.append(path)
    return read_teacher(paths, rung.temperature)


def measure(cell: Cell) -> Record:
    """Climb the ladder, or test the students of one of its teachers."""
    ladder = climbed(cell)
    if cell.part == "choose":
        return chosen_record(cell, ladder)
    rung, (artefact, real, test) = rung_of(cell, ladder), made(cell, False)
    plan, lesson, facts = cell.of(False).plan(), None, {"part": cell.part, "variant": f"{cell.arm} {cell.part}"}
    if rung is not None:
        plan = plan.changed(temperature=rung.temperature)
        lesson = Online(trained_anew(cell, rung, real))
        facts |= {"rung": rung.model_dump(mode="json"), "teacher": lesson.teacher.describe()}
    run = evaluation.measure(artefact, test, plan, 0, cell.networks, lesson=lesson)
    return evaluation.summed_up(
        "ladder", cell.dataset, plan, [run], cell.command, revision(ROOT), split="test", **facts
    )


def chosen_record(cell: Cell, ladder: teach.Ladder) -> Record:
    """Students on hard labels on the held-out clouds, with the whole ladder beside them."""
    artefact, _, test = made(cell, True)
    plan = cell.of(True).plan()
    run = evaluation.measure(artefact, test, plan, 0, cell.networks)
    ranks = {name: value if value == value else None for name, value in correlations(ladder.rungs).items()}
    return evaluation.summed_up(
        "ladder", cell.dataset, plan, [run], cell.command, revision(ROOT), split="the last fifth of train held out",
        part=cell.part, variant=f"{cell.arm} ladder", rank_correlations=ranks,
        chosen=ladder.chosen.model_dump(mode="json"), strongest=strongest(ladder.rungs).model_dump(mode="json"),
        ladder=[rung.model_dump(mode="json") for rung in ladder.rungs],
    )  # fmt: skip


def main() -> None:
    """Measure one cell, or all that have no record yet, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("arm", nargs="?", choices=cross.ARMS[:-1])
    parser.add_argument("part", nargs="?", choices=PARTS)
    parser.add_argument("--networks", type=int, default=3, help="students on the test split")
    given = parser.parse_args()
    if given.all:
        cross.measure_missing((cell.command for cell in cells()), lambda: cross.commands_in(RESULTS))
        return
    if given.part is None:
        parser.error("a data set, an arm and a part are needed, or --all")
    cell = Cell(given.dataset, given.arm, given.part, given.networks)
    record = measure(cell)
    write_record(RESULTS, record)
    print(f"{record.arm} {cell.part} {record.network}: {evaluation.accuracy_cell(record)} %")


if __name__ == "__main__":
    main()

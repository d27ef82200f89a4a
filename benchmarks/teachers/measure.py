"""Which teacher: chosen on validation among networks and snapshots, against the strongest one and hard labels.

    python -m benchmarks.teachers.measure modelnet10 random choose   # the search, on the last fifth of train
    python -m benchmarks.teachers.measure modelnet10 random chosen   # then its choice, trained anew, on the test split
    python -m benchmarks.teachers.measure                            # every cell without a record

Sets are those of the grids at 0.1 float32 clouds per class, for the choice made of the first four fifths of train only.
The search is that of `pcdistill teachers` (kept in `runs/teachers`): a student per candidate, by the set's own
protocol, `tuned`; those tested follow that of the grids, with thinned clouds. For the test split the chosen and the
strongest teacher are trained on all of train, to the same step of the same schedule, and teach at the chosen
temperature (the strongest one at the first). An ensemble is trained member by member; where an assistant was chosen,
the best candidate without one is taken. Records go to `records.jsonl`, the choice with its rank correlations.
Nothing here looks at the test set before the choice stands.
"""

from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import sets
from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import revision
from pcdistill.experiments.search import Search, TeachersSpec
from pcdistill.experiments.teachers import search
from pcdistill.geometry import farthest_points
from pcdistill.results import measure as measured
from pcdistill.results import summed_up
from pcdistill.results.record import Record, read_records, write_record
from pcdistill.results.table import accuracy_cell
from pcdistill.teaching import Online, Teacher, read_teacher
from pcdistill.teaching.candidates import Candidate, best, correlations, snapshots, strongest
from pcdistill.training.recipe import protocol as protocol_named
from pcdistill.training.trained import Trained, save_network

RECORDS, SEARCHES = Path(__file__).parent / "records.jsonl", sets.RUNS / "teachers"
STUDENT, BYTES = "tiny", 1229
TEACHERS, STEPS = ("pointnet-nano", "pointnet-tiny", "pointnet", "dgcnn"), 600
SHARES, TEMPERATURES = (0.05, 0.2, 0.5, 1.0), (1.0, 2.0, 4.0)
PARTS = ("choose", "hard", "strongest", "chosen")


class Cell(NamedTuple):
    """A set, and the search on it or what a kind of teacher is worth on the test split."""

    dataset: str
    arm: str
    part: str
    networks: int = 3

    @property
    def words(self) -> str:
        """Its name."""
        return f"{self.dataset} {self.arm} {self.part}"

    @property
    def command(self) -> str:
        """The command that measures this cell."""
        return sets.command("teachers", self.words.split())

    def set_file(self, validation: bool) -> Path:
        """The file of the set."""
        return sets.set_file(self.dataset, self.arm, BYTES, 0, validation=validation)


def cells() -> list[Cell]:
    """Every cell, each search before what hangs on it."""
    return [Cell("modelnet10", arm, part) for arm in ("random", "krr") for part in PARTS]


def searched(cell: Cell) -> Search:
    """The candidates of a set; what is there of them is not done again."""
    spec = TeachersSpec(
        source=str(cell.set_file(True)), data=cell.dataset, student=STUDENT, teachers=TEACHERS,
        output=SEARCHES / f"{Path(cell.dataset).name}-{cell.arm}", shares=SHARES, temperatures=TEMPERATURES,
        train_steps=STEPS,
    )  # fmt: skip
    return search(spec, lambda text: print(text, flush=True))


def teacher_of(cell: Cell, found: Search) -> Candidate | None:
    """The teacher of a cell; None for hard labels."""
    if cell.part == "hard":
        return None
    if cell.part == "strongest":
        return strongest(found.candidates)
    return best([candidate for candidate in found.candidates if " > " not in candidate.teacher])


def trained_anew(cell: Cell, candidate: Candidate, real: PointClouds) -> Teacher:
    """The teacher of a candidate, trained on all of `real` to the same steps."""
    thin = real.with_points(farthest_points(real.points, sets.POINTS))
    paths = []
    for member in candidate.teacher.split(" + "):
        name, _, step = member.partition("@")
        path = SEARCHES / "whole" / f"{Path(cell.dataset).name}-{name}-{step}.safetensors"
        if not path.exists():
            protocol = protocol_named("tuned", name).changed(steps=STEPS).model_copy(update={"thin": True})
            (network,) = snapshots(name, thin, protocol.recipe, 0, (int(step),)).values()
            save_network(path, Trained(network, real.class_names, protocol, cell.dataset, sets.POINTS, 0))
        paths.append(path)
    return read_teacher(paths, candidate.temperature)


def measure(cell: Cell) -> Record:
    """Search for a teacher, or test the students of one of its teachers."""
    found = searched(cell)
    if cell.part == "choose":
        return chosen_record(cell, found)
    candidate, (real, test), artefact = (
        teacher_of(cell, found),
        sets.splits(cell.dataset),
        Artefact.load(cell.set_file(False)),
    )
    protocol, supervision = sets.protocol(f"pointnet-{STUDENT}"), None
    facts: dict[str, Any] = {"part": cell.part, "variant": f"{cell.arm} {cell.part}", "split": "test"}
    if candidate is not None:
        protocol = protocol.changed(temperature=candidate.temperature)
        supervision = Online(trained_anew(cell, candidate, real))
        facts |= {"rung": candidate.model_dump(mode="json"), "teacher": supervision.teacher.describe()}
    run = measured(artefact, test, protocol, 0, cell.networks, supervision=supervision)
    return summed_up("ladder", cell.dataset, protocol, [run], cell.command, revision(sets.ROOT), **facts)


def chosen_record(cell: Cell, found: Search) -> Record:
    """Students on hard labels on the held-out clouds, with all candidates beside them."""
    artefact, test = Artefact.load(cell.set_file(True)), sets.splits(cell.dataset, True)[1]
    protocol = sets.protocol(f"pointnet-{STUDENT}")
    run = measured(artefact, test, protocol, 0, cell.networks)
    ranks = {name: value if value == value else None for name, value in correlations(found.candidates).items()}
    return summed_up(
        "ladder", cell.dataset, protocol, [run], cell.command, revision(sets.ROOT),
        split="the last fifth of train held out", part=cell.part, variant=f"{cell.arm} ladder", rank_correlations=ranks,
        chosen=found.chosen.model_dump(mode="json"), strongest=strongest(found.candidates).model_dump(mode="json"),
        ladder=[candidate.model_dump(mode="json") for candidate in found.candidates],
    )  # fmt: skip


def recorded(cell: Cell) -> bool:
    """Whether a cell was measured."""
    wanted = (cell.dataset, cell.arm, cell.part)
    return any((one.dataset, one.arm, one.part) == wanted for one in read_records(RECORDS))


def keep(cell: Cell) -> None:
    """Measure a cell and write its record."""
    record = measure(cell)
    write_record(RECORDS, record)
    print(f"{record.arm} {cell.part} {record.network}: {accuracy_cell(record)} %")


if __name__ == "__main__":
    sets.run("teachers", {cell.words: cell for cell in cells()}, recorded, keep)

"""A search for a teacher: what is asked, what it is about, and what came of it."""

from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple, Self

from pydantic import Field, model_validator

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Device, Positional, Reading
from pcdistill.core.registry import nearest
from pcdistill.core.tracking import Tracked, Tracking
from pcdistill.models import STUDENTS
from pcdistill.teaching.candidates import Candidate
from pcdistill.training.augment import Poses
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.recipe import protocol as protocol_named


class TeachersSpec(Reading, Poses, Tracked):
    """Find the teacher that suits a student and a set, among networks, snapshots and temperatures."""

    renamed: ClassVar = {"snapshots": "shares", "steps": "train_steps", "seeds": "train_seeds"}

    source: Annotated[str, Positional, Field(description="artefact, or data set, that the student is trained on")]
    output: Annotated[Path, Field(description="folder for teachers, records, table, plot and the chosen teacher")]
    data: Annotated[
        str | None, Field(description="data set that teachers are trained on (default: the one it was made from)")
    ] = None
    student: Annotated[str, Field(description="light network by its size: " + ", ".join(STUDENTS))] = "tiny"
    teachers: Annotated[tuple[str, ...], Field(min_length=1, description="networks to try")] = (
        "pointnet-nano", "pointnet-tiny", "pointnet", "dgcnn",
    )  # fmt: skip
    shares: Annotated[
        tuple[Annotated[float, Field(gt=0, le=1)], ...],
        Field(min_length=1, description="shares of a teacher's training after which it is kept"),
    ] = (0.05, 0.1, 0.2, 0.5, 1.0)
    temperatures: Annotated[
        tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...],
        Field(min_length=1, description="first that of all snapshots; the best three are tried at the others"),
    ] = (1.0, 2.0, 4.0)
    train_steps: Annotated[int, Field(ge=1, description="of every teacher's training")] = 600
    train_seeds: Annotated[int, Field(ge=1, description="students per teacher and temperature")] = 1
    protocol: Annotated[str, Field(description="that teachers are trained by: tuned, converged or published")] = "tuned"
    cheap: Annotated[
        bool, Field(description="choose by agreement with a student on hard labels; train no other student")
    ] = False
    device: Device = "cpu"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.student not in STUDENTS:
            raise InputError("student", nearest(self.student, STUDENTS), "one of " + ", ".join(STUDENTS))
        return self


COPIES = ("teacher.safetensors", "teacher-1.safetensors", "teacher-2.safetensors")  # of the chosen one, or of both
BRIEF = 0.2  # of the student's training: the one on hard labels that teachers are compared with beforehand


class Task(NamedTuple):
    """What a search is about."""

    spec: TeachersSpec
    clouds: PointClouds  # the set
    protocol: EvaluationProtocol  # the student's
    real: PointClouds  # that teachers are trained on, thinned
    held: PointClouds  # that everything is tested on
    split: str  # in words
    dataset: str
    soft: bool  # whether labels are stored with the set, which are left aside
    trained_by: tuple[str, ...]  # what `train` has to be told of the student's protocol
    told: Tracking = Tracking()

    def teaching(self) -> EvaluationProtocol:
        """How teachers are trained."""
        protocol = protocol_named(self.spec.protocol)
        shown = self.spec.shown(protocol.recipe.augmentation)
        protocol = protocol.changed(steps=self.spec.train_steps, augmentation=shown)
        return protocol.model_copy(update={"thin": True, "test_points": self.protocol.test_points})

    def file(self, name: str) -> Path:
        """Of a network in the folder of teachers."""
        return self.spec.output / "teachers" / name


class Search(NamedTuple):
    """What came of it."""

    candidates: tuple[Candidate, ...]
    hard: tuple[float, ...]  # accuracy of students without a teacher, one per seed
    chosen: Candidate
    files: tuple[Path, ...]  # of the chosen teacher

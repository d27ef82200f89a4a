"""`pcdistill train`: one network on a set."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from pcdistill.artefact.artefact import set_name
from pcdistill.commands.base import Command, tell
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_output
from pcdistill.core.options import Force, Seed, Streamed
from pcdistill.core.progress import Say, progress
from pcdistill.core.registry import nearest
from pcdistill.core.tracking import Tracked
from pcdistill.evaluation import train
from pcdistill.evaluation.subject import SupervisionSpec, Training, TrainingSpec, open_training
from pcdistill.models import STUDENTS
from pcdistill.teaching import Agreement, OnPolicy, Watched
from pcdistill.training.supervision import Supervision
from pcdistill.training.trained import save_network


class Train(TrainingSpec, SupervisionSpec, Tracked, Command):
    """Train one network on an artefact or a whole data set."""

    output: Annotated[Path, Field(description="network to write (.safetensors)")]
    points: Annotated[int | None, Field(ge=1, description="points per cloud of a data set (default: 1024)")] = None
    student: Annotated[
        str | None,
        Field(description="light network by its size: " + ", ".join(STUDENTS) + " (for --network pointnet-SIZE)"),
    ] = None
    watch: Annotated[
        int | None,
        Field(ge=1, description="note every so many steps how student and teacher agree, in a file beside the network"),
    ] = None
    seed: Seed = 0
    stream: Streamed = False
    force: Force = False

    renamed: ClassVar[Mapping[str, str]] = {"steps": "train_steps"}

    @model_validator(mode="after")
    def _check_watch(self) -> Self:
        if self.watch is not None and not self.teacher:
            raise InputError("watch", "given, but no teacher", "--teacher")
        return self

    def run(self, say: Say) -> None:
        if self.output.suffix != ".safetensors":
            raise InputError("output", str(self.output), "a name that ends in .safetensors")
        check_output(self.output, self.force)
        notes_file = self.output.with_suffix(".agreement.jsonl")
        if self.watch is not None:
            check_output(notes_file, self.force)
        spec = self.model_copy(update={"network": self._network()})
        with closing(open_training(spec, self.points, self.stream)) as training:
            self._train(training, notes_file, say)

    def _train(self, training: Training, notes_file: Path, say: Say) -> None:
        tell(training.made)
        supervision = training.supervision
        notes: list[tuple[int, int, Agreement]] = []
        losses: list[float] = []
        watched: Supervision | None = supervision
        if supervision is not None and self.watch is not None:
            watched = Watched(supervision, supervision.teacher, self.watch, notes)
        total = training.protocol.recipe.total_steps(len(training.clouds))
        with self.tracking() as tracking, progress("training", total) as report:

            def on_step(step: int, loss: float) -> None:
                losses.append(loss)
                tracking.loss(step, loss)
                report(step, f"loss {loss:.4g}")

            trained = train(
                training.clouds, training.protocol, seed=self.seed, on_step=on_step, device=self.device,
                supervision=watched,
            )  # fmt: skip
            tracking.result(self.output.name, {"network": trained.protocol.network, "steps": total, "loss": losses[-1]})
        taught = {} if supervision is None else supervision.describe()
        trained = trained._replace(dataset=set_name(training.dataset), source_fingerprint=training.source_fingerprint)
        save_network(self.output, trained._replace(taught=taught))
        if isinstance(supervision, OnPolicy):
            say(f"the teacher labelled {supervision.calls.clouds:,} clouds in {supervision.calls.seconds:.1f} s")
        if notes:
            _write_notes(notes_file, notes, say)
        say(f"wrote {self.output}: {len(losses)} steps, loss {losses[-1]:.4g}")

    def _network(self) -> str | None:
        """Registered name of what is trained, if it is given."""
        if self.student is None:
            return self.network
        if self.network is not None:
            raise InputError("student", f"{self.student} and network {self.network}", "one of the two")
        if self.student not in STUDENTS:
            raise InputError("student", nearest(self.student, STUDENTS), "one of " + ", ".join(STUDENTS))
        return f"pointnet-{self.student}"


def _write_notes(path: Path, notes: Sequence[tuple[int, int, Agreement]], say: Say) -> None:
    """Write how student and teacher agreed, a line a note, and say how it began and ended."""
    lines = [
        # Without mistakes there is no number for what the teacher says of them.
        json.dumps(
            {"step": step} | {name: None if math.isnan(value) else value for name, value in agreed._asdict().items()}
        )
        for _, step, agreed in notes
    ]
    with atomic(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    first, last = notes[0][2], notes[-1][2]
    say(
        f"student and teacher, first to last: overlap of top 3 {first.overlap:.2f} to {last.overlap:.2f}, KL "
        f"{first.kl:.2f} to {last.kl:.2f}, student wrong {100 * first.mistakes:.0f} to {100 * last.mistakes:.0f} %; "
        f"{len(notes)} notes in {path}"
    )

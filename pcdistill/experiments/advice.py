"""What a search for a teacher says: the table, the plot, and the command that goes on from there."""

import shlex
from functools import partial

from pcdistill.core.environment import hardware
from pcdistill.core.files import atomic
from pcdistill.core.options import Reading
from pcdistill.core.progress import Say
from pcdistill.evaluation import mean_std
from pcdistill.experiments.search import Search, Task, TeachersSpec
from pcdistill.results.plots import Curve, accuracy_plot
from pcdistill.results.table import Cell, Table, number, per_cent
from pcdistill.teaching.candidates import (
    Candidate,
    correlations,
    strongest,
)
from pcdistill.training.augment import Poses


def helps(found: Search) -> bool:
    """Whether students of the chosen teacher do better than on hard labels, as far as any were taught."""
    reached = found.chosen.student_accuracy
    return not reached or mean_std(reached)[0] > mean_std(found.hard)[0]


def command(found: Search, task: Task) -> str:
    """What trains a student by the chosen teacher, or without one where that does better."""
    words = ["pcdistill", "train", task.spec.source, "--student", task.spec.student]
    words += ["--output", "student.safetensors", *task.trained_by]
    for key in (*Reading.model_fields, *Poses.model_fields):
        value = getattr(task.spec, key)
        if value != TeachersSpec.model_fields[key].default:
            words += ["--" + key.replace("_", "-"), *([] if value is True else [str(value)])]
    if not helps(found):
        return shlex.join([*words, *(["--hard", "1"] if task.soft else [])])
    words += ["--teacher", *map(str, found.files)]
    return shlex.join([*words, "--temperature", f"{found.chosen.temperature:g}"])


def table(found: Search, task: Task) -> str:
    """All candidates, the choice, and how measures go with the students' accuracy, in Markdown."""
    rows = []
    for candidate in found.candidates:
        before = [number(candidate.measure(name), ".2f") for name in ("overlap", "kl", "corrected", "truth")]
        cost = [
            f"{candidate.train_seconds:.0f}",
            f"{candidate.train_gflops:,.0f}",
            f"{candidate.label_gflops:,.0f}",
            f"{candidate.nbytes:,}",
        ]
        student = Cell.of(candidate.student_accuracy) if candidate.student_accuracy else None
        mark = " (chosen)" if candidate is found.chosen else ""
        own = per_cent(candidate.teacher_accuracy)
        rows.append([candidate.teacher + mark, f"{candidate.temperature:g}", own, student, *before, *cost])
    header = [
        "teacher", "T", "teacher, %", "student, %", "top-3 overlap", "KL", "corrected", "truth", "training, s",
        "training, GFLOP", "labelling, GFLOP", "bytes",
    ]  # fmt: skip
    top = strongest(found.candidates)
    text = (
        f"{task.dataset}: student {task.protocol.network}, {len(task.held)} held-out clouds ({task.split}), "
        f"{task.spec.train_seeds} students each; "
        f"a snapshot before step {task.spec.train_steps} is one in mid-schedule.\n\n"
        f"{Table(header, rows).markdown()}\n"
        f"Hard labels: {Cell.of(found.hard)} %.\n"
        f"Strongest teacher: {top.teacher}"
        + (f", whose students reach {Cell.of(top.student_accuracy)} %.\n" if top.student_accuracy else ".\n")
        + f"Chosen{' by agreement alone' if task.spec.cheap else ''}: {found.chosen.teacher}, "
        f"T = {found.chosen.temperature:g}.\n"
        + ("" if helps(found) else "Hard labels do better than all of these teachers: train without one.\n")
    )
    if not task.spec.cheap:
        pairs = [
            [name.replace("_", " "), number(value, ".2f")] for name, value in correlations(found.candidates).items()
        ]
        text += f"\n{Table(['before training', 'rank correlation with the student'], pairs).markdown()}"
    return text + f"\nMeasured on {hardware(task.spec.device)}.\n"


def draw(found: Search, task: Task, say: Say) -> None:
    """The student's accuracy against its teacher's, a curve per network."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in sorted(found.candidates, key=lambda candidate: candidate.teacher_accuracy):
        if candidate.temperature == task.spec.temperatures[0]:
            kind = (
                "ensemble"
                if len(candidate.files) > 1
                else "assistant"
                if ">" in candidate.teacher
                else candidate.teacher
            )
            groups.setdefault(kind.partition("@")[0], []).append(candidate)
    curves = list[Curve]()
    for name, own in groups.items():
        means, deviations = zip(*map(_spread, own), strict=True)
        curves.append(Curve(name, [100 * candidate.teacher_accuracy for candidate in own], means, deviations))
    levels = [Curve("hard labels", [], [sum(found.hard) / len(found.hard)], [])]
    title = f"{task.dataset}, student {task.protocol.network}, T = {task.spec.temperatures[0]:g}"
    draw = partial(
        accuracy_plot, curves, levels, title=title, note=f"Held out: {task.split}.",
        axis="teacher's accuracy in per cent", log=False,
    )  # fmt: skip
    for picture in (task.spec.output / "plot.png", task.spec.output / "plot.svg"):
        try:
            with atomic(picture) as temporary:
                draw(temporary)
        except ImportError:
            picture.unlink(missing_ok=True)
            say("no plot: matplotlib is not installed (pip install 'pcdistill[plots]')")
            return


def _spread(candidate: Candidate) -> tuple[float, float]:
    mean, deviation = mean_std(candidate.student_accuracy)
    return mean, deviation if len(candidate.student_accuracy) > 1 else 0.0

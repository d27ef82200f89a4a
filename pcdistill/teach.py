"""`pcdistill teach`: which teacher suits a student and a set; teachers and records are kept, so that it can go on.

Teachers are trained on the first four fifths of every class of the real training set, thinned to the points of the
set's clouds, and everything is compared on the last fifth. The test split is never read.
"""

import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pcdistill import jobs
from pcdistill.clouds import PointClouds
from pcdistill.config import TeachConfig
from pcdistill.data import last_split, load
from pcdistill.environment import hardware, versions
from pcdistill.errors import InputError
from pcdistill.evaluation import as_tested, markdown_table, mean_std
from pcdistill.files import atomic, check_writable
from pcdistill.geometry import farthest_points
from pcdistill.models import Network, networks
from pcdistill.progress import progress
from pcdistill.teaching import Online, Teacher, before_training, read_teacher
from pcdistill.teaching.ladder import (
    Rung,
    assistant,
    best,
    correlations,
    own_inputs,
    pass_gflops,
    read_rungs,
    snapshot_steps,
    snapshots,
    strongest,
)
from pcdistill.trained import Trained, save_network
from pcdistill.training import Lesson, Protocol, predict, protocol, train_networks
from pcdistill.viewing.curves import Curve, accuracy_plot

Say = Callable[[str], None]
HELD_OUT = 0.2
COPIES = ("teacher.safetensors", "teacher-1.safetensors", "teacher-2.safetensors")  # of the chosen one, or of both
BRIEF = 0.2  # of the student's training: the one on hard labels that teachers are compared with beforehand


class Task(NamedTuple):
    """What a ladder is about."""

    config: TeachConfig
    clouds: PointClouds  # the set
    plan: Protocol  # the student's
    real: PointClouds  # that teachers are trained on, thinned
    held: PointClouds  # that everything is tested on
    split: str  # in words
    dataset: str
    soft: bool  # whether labels are stored with the set, which are left aside
    trained_by: tuple[str, ...]  # what `train` has to be told of the student's protocol

    def teaching(self) -> Protocol:
        """How teachers are trained."""
        plan = protocol(self.config.protocol).changed(steps=self.config.steps)
        return plan.model_copy(update={"thin": True, "test_points": self.plan.test_points})

    def file(self, name: str) -> Path:
        """Of a network in the folder of teachers."""
        return self.config.output / "teachers" / name


class Ladder(NamedTuple):
    """What was found."""

    rungs: tuple[Rung, ...]
    hard: tuple[float, ...]  # accuracy of students without a teacher, one per seed
    chosen: Rung
    files: tuple[Path, ...]  # of the chosen teacher


def run_teach(config: TeachConfig, say: Say) -> Ladder:
    """Climb a ladder and write what was found; the same call goes on from where it was stopped.

    Raises:
        InputError: bad input, unknown networks, or a folder with the ladder of other settings.
    """
    task = prepared(config)
    say(f"{len(task.held)} clouds held out: {task.split}")
    hard, brief = _hard(task)
    singles = [rung for name in dict.fromkeys(config.teachers) for rung in _singles(task, name, brief)]
    rungs = [*singles, *_joined(task, singles, brief)]
    if not config.cheap:
        rungs = _taught(task, rungs, config.temperatures[0])
        leading = sorted(rungs, key=lambda rung: rung.mean, reverse=True)[:3]
        for temperature in dict.fromkeys(config.temperatures[1:]):
            rungs += _taught(task, leading, temperature)
    chosen = best(rungs, config.cheap)
    files = _copied(task, chosen)
    found = Ladder(tuple(rungs), hard, chosen, files)
    with atomic(config.output / "ladder.jsonl") as temporary:
        temporary.write_text("".join(rung.model_dump_json() + "\n" for rung in rungs))
    text = table(found, task)
    with atomic(config.output / "table.md") as temporary:
        temporary.write_text(text)
    say(text)
    if not config.cheap:
        _plot(found, task, say)
    say(f"go on with: {command(found, task)}")
    return found


def prepared(config: TeachConfig) -> Task:
    """What is needed, read and checked before any work.

    Raises:
        InputError: see `run_teach`.
    """
    for name in config.teachers:
        networks[name]
    teaching = protocol(config.protocol)
    if teaching.grid is not None:
        raise InputError("protocol", f"{config.protocol}, which chooses among recipes", "tuned or published")
    source = jobs.open_source(config.source, config.root, None, f"pointnet-{config.student}")
    plan = source.protocol
    swept = plan.grid is not None  # a recipe of its own is wanted
    if swept:
        plan = protocol("tuned", plan.network)
    whole = load(config.data or source.dataset, "train", root=config.root, points=plan.test_points)
    if whole.class_names != source.clouds.class_names:
        wanted = f"those of {config.source}: {', '.join(source.clouds.class_names)}"
        raise InputError("data", f"classes {', '.join(whole.class_names)}", wanted)
    real, held = last_split(whole, HELD_OUT)
    given = real if source.artefact is None else source.clouds
    clouds = PointClouds(given.points, given.hard_labels, given.class_names, given.provenance)  # stored soft ones rest
    split = f"the last {HELD_OUT:.0%} of every class of train"
    if source.artefact is not None:
        rule = source.artefact.metadata.source.get("split_rule")
        apart = rule == real.provenance["split_rule"]
        split += ", which the set was made without" if apart else "; the set may have been made of them, too"
    thin = real.with_points(farthest_points(real.points, clouds.points_per_cloud))
    soft = given.labels.ndim == 2
    by = ("--protocol", "tuned") if swept else ()
    task = Task(config, clouds, plan, thin, held, split, jobs.set_name(source.dataset), soft, by)
    _claim(task)
    return task


def _claim(task: Task) -> None:
    """Refuse a folder of another ladder, else write down whose it is."""
    config, path = task.config, task.config.output / "settings.json"
    settings: dict[str, Any] = {
        "set": task.clouds.fingerprint(), "real": task.real.fingerprint(), "student": task.plan.model_dump(mode="json"),
        "teachers": task.teaching().model_dump(mode="json"), "seeds": config.seeds, "held out": task.split,
        "version": versions()["pcdistill"],
    }  # fmt: skip
    check_writable(path)
    if path.exists():
        try:
            known = json.loads(path.read_text())
        except ValueError:
            raise InputError(path, "not JSON", "what teach writes") from None
        if known != settings:
            changed = [key for key in settings if not isinstance(known, dict) or known.get(key) != settings[key]]
            raise InputError(config.output, f"a ladder of other settings ({', '.join(changed)})", "another folder")
        return
    for name in COPIES:
        if (config.output / name).exists():
            raise InputError(config.output, f"{name} of something else", "another folder")
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n")


def _hard(task: Task) -> tuple[tuple[float, ...], Network]:
    """Accuracy of students without a teacher, and one that was trained briefly."""
    recipe = task.plan.recipe
    brief = max(1, round(BRIEF * recipe.total_steps(len(task.clouds))))
    short = task.plan.changed(steps=brief).recipe
    (network,) = train_networks(task.plan.network, task.clouds, short, [0])
    path = task.config.output / "hard.json"
    if not path.exists():
        _write(path, list(_students(task, None, task.plan, "hard labels")))
    return tuple(json.loads(path.read_text())), network


def _students(task: Task, lesson: Lesson | None, plan: Protocol, title: str) -> tuple[float, ...]:
    seeds = range(task.config.seeds)
    total = plan.recipe.total_steps(len(task.clouds)) * len(seeds)
    with progress(title, total) as report:
        trained = train_networks(plan.network, task.clouds, plan.recipe, seeds, report, lesson=lesson)
    test = as_tested(task.held, task.clouds.class_names, plan, task.clouds.points_per_cloud)
    return tuple(_accuracy(predict(network, test.points), test) for network in trained)


def _accuracy(guesses: Any, test: PointClouds) -> float:
    return float((guesses.argmax(1) == test.hard_labels).double().mean())


def _singles(task: Task, name: str, brief: Network) -> list[Rung]:
    """The snapshots of one network, trained unless all are there."""
    steps = snapshot_steps(task.config.steps, task.config.snapshots)
    seconds = _trained(task, name, name, steps, None)
    return [_rung(task, f"{name}@{step}", (f"{name}-{step}",), seconds, brief) for step in steps]


def _trained(task: Task, label: str, name: str, steps: Sequence[int], teacher: Teacher | None) -> Mapping[str, float]:
    """Seconds that snapshots took, by their name; trains the network unless all of them are in the folder."""
    clock = task.file(f"{label}.json")
    known: dict[str, float] = json.loads(clock.read_text()) if clock.exists() else {}
    if all(f"{label}-{step}" in known and task.file(f"{label}-{step}.safetensors").exists() for step in steps):
        return known
    plan = task.teaching().model_copy(update={"network": name})
    ends: dict[int, float] = {}
    start = time.perf_counter()
    with progress(f"teacher {label}", task.config.steps) as report:

        def on_step(step: int, loss: float) -> None:
            ends[step] = time.perf_counter() - start
            report(step, f"loss {loss:.4g}")

        lesson = None if teacher is None else Online(teacher)
        found = snapshots(name, task.real, plan.recipe, 0, steps, on_step, lesson)
    told = {} if teacher is None else teacher.describe()
    points = task.real.points_per_cloud
    for step, network in found.items():
        trained = Trained(network, task.real.class_names, plan, task.dataset, points, 0, told)
        save_network(task.file(f"{label}-{step}.safetensors"), trained)
    known |= {f"{label}-{step}": ends[step] for step in steps}
    _write(clock, known)
    return known


def _rung(
    task: Task,
    label: str,
    names: tuple[str, ...],
    seconds: Mapping[str, float],
    brief: Network,
    under: Rung | None = None,
) -> Rung:
    """What is known of a teacher before a student is trained; `under` is the teacher of an assistant."""
    files = [task.file(f"{name}.safetensors") for name in names]
    teacher = read_teacher(files, 1.0)
    points, classes = own_inputs(task.clouds, task.plan.recipe, 0)
    start = time.perf_counter()
    before = before_training(teacher, brief, points, classes)
    each = (time.perf_counter() - start) / len(points)
    test = as_tested(task.held, task.clouds.class_names, task.teaching(), task.real.points_per_cloud)
    recipe = task.plan.recipe
    seen, count = recipe.batch * recipe.total_steps(len(task.clouds)), len(task.clouds.class_names)
    some, batch = task.real.points[:8], task.teaching().recipe.batch
    kinds = [member.protocol.network for member in teacher.members]
    lengths = [int(name.rpartition("-")[2]) for name in names]
    training = [batch * step * pass_gflops(kind, count, some, True) for kind, step in zip(kinds, lengths, strict=True)]
    above = 0.0
    if under is not None:
        above = under.train_gflops + batch * sum(lengths) * under.label_gflops / seen
    return Rung(
        teacher=label,
        files=tuple(path.name for path in files),
        steps=sum(lengths) + (under.steps if under else 0),
        temperature=task.config.temperatures[0],
        teacher_accuracy=_accuracy(teacher.probabilities(test.points), test),
        before={name: None if math.isnan(value) else value for name, value in before._asdict().items()},
        train_seconds=sum(seconds[name] for name in names) + (under.train_seconds if under else 0),
        train_gflops=sum(training) + above,
        label_seconds=each * seen,
        label_gflops=seen * sum(pass_gflops(kind, count, some, False) for kind in kinds),
        nbytes=sum(path.stat().st_size for path in files),
    )


def _joined(task: Task, singles: Sequence[Rung], brief: Network) -> list[Rung]:
    """An ensemble of the best snapshots of the two best networks, and an assistant of the best."""
    leaders: dict[str, Rung] = {}
    for rung in sorted(singles, key=lambda rung: rung.teacher_accuracy, reverse=True):
        leaders.setdefault(rung.teacher.partition("@")[0], rung)
    first, *others = leaders.values()
    found = []
    if others:
        pair = (first, others[0])
        names = tuple(Path(rung.files[0]).stem for rung in pair)
        seconds = {name: rung.train_seconds for name, rung in zip(names, pair, strict=True)}
        found.append(_rung(task, " + ".join(rung.teacher for rung in pair), names, seconds, brief))
    big = first.teacher.partition("@")[0]
    middle = assistant(big, task.plan.network, len(task.real.class_names), task.config.teachers)
    if middle is not None:
        label = f"{Path(first.files[0]).stem}-to-{middle}"
        teacher = read_teacher([task.file(first.files[0])], 1.0)
        steps = (task.config.steps,)
        taken = _trained(task, label, middle, steps, teacher)
        found.append(_rung(task, f"{first.teacher} > {middle}", (f"{label}-{steps[0]}",), taken, brief, first))
    return found


def _taught(task: Task, rungs: Sequence[Rung], temperature: float) -> list[Rung]:
    """The rungs at a temperature with the accuracy of their students, trained unless that was done before."""
    plan = task.plan.changed(temperature=temperature)
    path = task.config.output / "students.jsonl"
    known = {(rung.files, rung.temperature): rung for rung in read_rungs(path)}
    done = []
    for rung in rungs:
        if (rung.files, temperature) not in known:
            teacher = read_teacher([task.file(name) for name in rung.files], temperature)
            accuracy = _students(task, Online(teacher), plan, f"student of {rung.teacher}, T = {temperature:g}")
            known[rung.files, temperature] = rung.model_copy(
                update={"temperature": temperature, "student_accuracy": accuracy}
            )
            with atomic(path) as temporary:
                temporary.write_text("".join(each.model_dump_json() + "\n" for each in known.values()))
        done.append(known[rung.files, temperature])
    return done


def _copied(task: Task, chosen: Rung) -> tuple[Path, ...]:
    """The chosen networks, under names that do not depend on which they are; those of an earlier choice go."""
    folder, several = task.config.output, len(chosen.files) > 1
    names = COPIES[1 : len(chosen.files) + 1] if several else COPIES[:1]
    for name in set(COPIES) - set(names):
        (folder / name).unlink(missing_ok=True)
    for name, file in zip(names, chosen.files, strict=True):
        with atomic(folder / name) as temporary:
            temporary.write_bytes(task.file(file).read_bytes())
    return tuple(folder / name for name in names)


def helps(found: Ladder) -> bool:
    """Whether students of the chosen teacher do better than on hard labels, as far as any were taught."""
    reached = found.chosen.student_accuracy
    return not reached or mean_std(reached)[0] > mean_std(found.hard)[0]


def command(found: Ladder, task: Task) -> str:
    """What trains a student by the chosen teacher, or without one where that does better."""
    words = ["pcdistill", "train", task.config.source, "--student", task.config.student]
    words += ["--output", "student.safetensors", *task.trained_by]
    words += ["--root", str(task.config.root)] if task.config.root is not None else []
    if not helps(found):
        return shlex.join([*words, *(["--hard", "1"] if task.soft else [])])
    words += ["--teacher", *map(str, found.files)]
    return shlex.join([*words, "--temperature", f"{found.chosen.temperature:g}"])


def table(found: Ladder, task: Task) -> str:
    """All rungs, the choice, and how measures go with the students' accuracy, in Markdown."""
    rows = []
    for rung in found.rungs:
        before = [_number(rung.measure(name)) for name in ("overlap", "kl", "corrected", "truth")]
        cost = [
            f"{rung.train_seconds:.0f}",
            f"{rung.train_gflops:,.0f}",
            f"{rung.label_gflops:,.0f}",
            f"{rung.nbytes:,}",
        ]
        student = _percent(rung.student_accuracy) if rung.student_accuracy else "–"
        mark = " (chosen)" if rung is found.chosen else ""
        own = f"{100 * rung.teacher_accuracy:.1f}"
        rows.append([rung.teacher + mark, f"{rung.temperature:g}", own, student, *before, *cost])
    header = [
        "teacher", "T", "teacher, %", "student, %", "top-3 overlap", "KL", "corrected", "truth", "training, s",
        "training, GFLOP", "labelling, GFLOP", "bytes",
    ]  # fmt: skip
    top = strongest(found.rungs)
    text = (
        f"{task.dataset}: student {task.plan.network}, {len(task.held)} held-out clouds ({task.split}), "
        f"{task.config.seeds} students each; a snapshot before step {task.config.steps} is one in mid-schedule.\n\n"
        f"{markdown_table(header, rows)}\n"
        f"Hard labels: {_percent(found.hard)} %.\n"
        f"Strongest teacher: {top.teacher}"
        + (f", whose students reach {_percent(top.student_accuracy)} %.\n" if top.student_accuracy else ".\n")
        + f"Chosen{' by agreement alone' if task.config.cheap else ''}: {found.chosen.teacher}, "
        f"T = {found.chosen.temperature:g}.\n"
        + ("" if helps(found) else "Hard labels do better than all of these teachers: train without one.\n")
    )
    if not task.config.cheap:
        pairs = [[name.replace("_", " "), _number(value)] for name, value in correlations(found.rungs).items()]
        text += f"\n{markdown_table(['before training', 'rank correlation with the student'], pairs)}"
    return text + f"\nMeasured on {hardware()}.\n"


def _plot(found: Ladder, task: Task, say: Say) -> None:
    """The student's accuracy against its teacher's, a curve per network."""
    groups: dict[str, list[Rung]] = {}
    for rung in sorted(found.rungs, key=lambda rung: rung.teacher_accuracy):
        if rung.temperature == task.config.temperatures[0]:
            kind = "ensemble" if len(rung.files) > 1 else "assistant" if ">" in rung.teacher else rung.teacher
            groups.setdefault(kind.partition("@")[0], []).append(rung)
    curves = [
        Curve(name, [100 * rung.teacher_accuracy for rung in own], *zip(*map(_spread, own), strict=True))
        for name, own in groups.items()
    ]
    levels = [Curve("hard labels", [], [sum(found.hard) / len(found.hard)], [])]
    title = f"{task.dataset}, student {task.plan.network}, T = {task.config.temperatures[0]:g}"
    draw = partial(
        accuracy_plot, curves, levels, title=title, note=f"Held out: {task.split}.",
        axis="teacher's accuracy in per cent", log=False,
    )  # fmt: skip
    for picture in (task.config.output / "plot.png", task.config.output / "plot.svg"):
        try:
            with atomic(picture) as temporary:
                draw(temporary)
        except ImportError:
            picture.unlink(missing_ok=True)
            say("no plot: matplotlib is not installed (pip install 'pcdistill[plots]')")
            return


def _spread(rung: Rung) -> tuple[float, float]:
    mean, deviation = mean_std(rung.student_accuracy)
    return mean, deviation if len(rung.student_accuracy) > 1 else 0.0


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _percent(accuracy: Sequence[float]) -> str:
    mean, deviation = mean_std(accuracy)
    return f"{100 * mean:.1f}" + (f" ± {100 * deviation:.1f}" if len(accuracy) > 1 else "")


def _write(path: Path, content: object) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")

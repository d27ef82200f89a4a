"""Which teacher suits a student and a set; teachers and students are kept, so that a search can go on."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pcdistill.clouds import PointClouds
from pcdistill.core.files import atomic
from pcdistill.core.progress import Say, progress
from pcdistill.core.tracking import Tracking
from pcdistill.data import skipped
from pcdistill.evaluation import as_tested
from pcdistill.experiments.advice import command, draw, table
from pcdistill.experiments.preparation import prepared
from pcdistill.experiments.search import BRIEF, COPIES, Search, Task, TeachersSpec
from pcdistill.models import Network
from pcdistill.teaching import Online, Teacher, before_training, read_teacher
from pcdistill.teaching.candidates import (
    Candidate,
    assistant,
    best,
    own_inputs,
    pass_gflops,
    read_candidates,
    snapshot_steps,
    snapshots,
)
from pcdistill.training.loop import predict, train_networks
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.supervision import Supervision
from pcdistill.training.trained import Trained, save_network


def search(spec: TeachersSpec, say: Say, told: Tracking | None = None) -> Search:
    """Try all candidates and write what came of it; the same call goes on from where it was stopped.

    Args:
        spec: what is tried.
        say: takes lines of output.
        told: of losses of teachers and of what every candidate reached.

    Raises:
        InputError: bad input, unknown networks, or a folder with a search of other settings.
    """
    task = prepared(spec)._replace(told=told or Tracking())
    for line in skipped(task.clouds, task.real):
        say(f"left out: {line}")
    say(f"{len(task.held)} clouds held out: {task.split}")
    hard, brief = _hard(task)
    singles = [candidate for name in dict.fromkeys(spec.teachers) for candidate in _singles(task, name, brief)]
    candidates = [*singles, *_joined(task, singles, brief)]
    if not spec.cheap:
        candidates = _taught(task, candidates, spec.temperatures[0])
        leading = sorted(candidates, key=lambda candidate: candidate.mean, reverse=True)[:3]
        for temperature in dict.fromkeys(spec.temperatures[1:]):
            candidates += _taught(task, leading, temperature)
    for one in candidates:
        facts = one.model_dump(mode="json", include={"teacher_accuracy", "steps", "temperature", "nbytes"})
        task.told.result(f"{one.teacher}, T = {one.temperature:g}", {**facts, "student_accuracy": one.mean})
    chosen = best(candidates, spec.cheap)
    files = _copied(task, chosen)
    found = Search(tuple(candidates), hard, chosen, files)
    with atomic(spec.output / "candidates.jsonl") as temporary:
        temporary.write_text("".join(candidate.model_dump_json() + "\n" for candidate in candidates), encoding="utf-8")
    text = table(found, task)
    with atomic(spec.output / "table.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(text)
    if not spec.cheap:
        draw(found, task, say)
    say(f"go on with: {command(found, task)}")
    return found


def _hard(task: Task) -> tuple[tuple[float, ...], Network]:
    """Accuracy of students without a teacher, and one that was trained briefly."""
    recipe = task.protocol.recipe
    brief = max(1, round(BRIEF * recipe.total_steps(len(task.clouds))))
    short = task.protocol.changed(steps=brief).recipe
    (network,) = train_networks(task.protocol.network, task.clouds, short, [0], device=task.spec.device)
    path = task.spec.output / "hard.json"
    if not path.exists():
        _write(path, list(_students(task, None, task.protocol, "hard labels")))
    return tuple(json.loads(path.read_text(encoding="utf-8"))), network


def _students(
    task: Task, supervision: Supervision | None, protocol: EvaluationProtocol, title: str
) -> tuple[float, ...]:
    seeds = range(task.spec.train_seeds)
    total = protocol.recipe.total_steps(len(task.clouds)) * len(seeds)
    with progress(title, total) as report:
        trained = train_networks(
            protocol.network, task.clouds, protocol.recipe, seeds, report, task.spec.device, supervision
        )
    test = as_tested(task.held, task.clouds.class_names, protocol, task.clouds.points_per_cloud)
    return tuple(_accuracy(predict(network, test.points), test) for network in trained)


def _accuracy(guesses: Any, test: PointClouds) -> float:
    return float((guesses.argmax(1) == test.hard_labels).double().mean())


def _singles(task: Task, name: str, brief: Network) -> list[Candidate]:
    """The snapshots of one network, trained unless all are there."""
    steps = snapshot_steps(task.spec.train_steps, task.spec.shares)
    seconds = _trained(task, name, name, steps, None)
    return [_candidate(task, f"{name}@{step}", (f"{name}-{step}",), seconds, brief) for step in steps]


def _trained(task: Task, label: str, name: str, steps: Sequence[int], teacher: Teacher | None) -> Mapping[str, float]:
    """Seconds that snapshots took, by their name; trains the network unless all of them are in the folder."""
    clock = task.file(f"{label}.json")
    taken: dict[str, float] = json.loads(clock.read_text(encoding="utf-8")) if clock.exists() else {}
    if all(f"{label}-{step}" in taken and task.file(f"{label}-{step}.safetensors").exists() for step in steps):
        return taken
    protocol = task.teaching().model_copy(update={"network": name})
    ends: dict[int, float] = {}
    start = time.perf_counter()
    with progress(f"teacher {label}", task.spec.train_steps) as report:

        def on_step(step: int, loss: float) -> None:
            ends[step] = time.perf_counter() - start
            task.told.loss(step, loss, f"loss/{label}")
            report(step, f"loss {loss:.4g}")

        supervision = None if teacher is None else Online(teacher)
        kept = snapshots(name, task.real, protocol.recipe, 0, steps, on_step, supervision, task.spec.device)
    facts = {} if teacher is None else teacher.describe()
    points = task.real.points_per_cloud
    for step, network in kept.items():
        trained = Trained(network, task.real.class_names, protocol, task.dataset, points, 0, facts)
        save_network(task.file(f"{label}-{step}.safetensors"), trained)
    taken |= {f"{label}-{step}": ends[step] for step in steps}
    _write(clock, taken)
    return taken


def _candidate(
    task: Task,
    label: str,
    names: tuple[str, ...],
    seconds: Mapping[str, float],
    brief: Network,
    under: Candidate | None = None,
) -> Candidate:
    """What is known of a teacher before a student is trained; `under` is the teacher of an assistant."""
    files = [task.file(f"{name}.safetensors") for name in names]
    teacher = read_teacher(files, 1.0, task.spec.device)
    points, classes = own_inputs(task.clouds, task.protocol.recipe, 0)
    start = time.perf_counter()
    before = before_training(teacher, brief, points, classes)
    each = (time.perf_counter() - start) / len(points)
    test = as_tested(task.held, task.clouds.class_names, task.teaching(), task.real.points_per_cloud)
    recipe = task.protocol.recipe
    seen, count = recipe.batch * recipe.total_steps(len(task.clouds)), len(task.clouds.class_names)
    some, batch = task.real.points[:8], task.teaching().recipe.batch
    kinds = [member.protocol.network for member in teacher.members]
    lengths = [int(name.rpartition("-")[2]) for name in names]
    training = [batch * step * pass_gflops(kind, count, some, True) for kind, step in zip(kinds, lengths, strict=True)]
    above = 0.0
    if under is not None:
        above = under.train_gflops + batch * sum(lengths) * under.label_gflops / seen
    return Candidate(
        teacher=label,
        files=tuple(path.name for path in files),
        steps=sum(lengths) + (under.steps if under else 0),
        temperature=task.spec.temperatures[0],
        teacher_accuracy=_accuracy(teacher.probabilities(test.points), test),
        before={name: None if math.isnan(value) else value for name, value in before._asdict().items()},
        train_seconds=sum(seconds[name] for name in names) + (under.train_seconds if under else 0),
        train_gflops=sum(training) + above,
        label_seconds=each * seen,
        label_gflops=seen * sum(pass_gflops(kind, count, some, False) for kind in kinds),
        nbytes=sum(path.stat().st_size for path in files),
    )


def _joined(task: Task, singles: Sequence[Candidate], brief: Network) -> list[Candidate]:
    """An ensemble of the best snapshots of the two best networks, and an assistant of the best."""
    leaders: dict[str, Candidate] = {}
    for candidate in sorted(singles, key=lambda candidate: candidate.teacher_accuracy, reverse=True):
        leaders.setdefault(candidate.teacher.partition("@")[0], candidate)
    first, *others = leaders.values()
    found = []
    if others:
        pair = (first, others[0])
        names = tuple(Path(candidate.files[0]).stem for candidate in pair)
        seconds = {name: candidate.train_seconds for name, candidate in zip(names, pair, strict=True)}
        found.append(_candidate(task, " + ".join(candidate.teacher for candidate in pair), names, seconds, brief))
    big = first.teacher.partition("@")[0]
    middle = assistant(big, task.protocol.network, len(task.real.class_names), task.spec.teachers)
    if middle is not None:
        label = f"{Path(first.files[0]).stem}-to-{middle}"
        teacher = read_teacher([task.file(first.files[0])], 1.0, task.spec.device)
        steps = (task.spec.train_steps,)
        taken = _trained(task, label, middle, steps, teacher)
        found.append(_candidate(task, f"{first.teacher} > {middle}", (f"{label}-{steps[0]}",), taken, brief, first))
    return found


def _taught(task: Task, candidates: Sequence[Candidate], temperature: float) -> list[Candidate]:
    """The candidates at a temperature with the accuracy of their students, trained unless that was done before."""
    protocol = task.protocol.changed(temperature=temperature)
    path = task.spec.output / "students.jsonl"
    taught = {(candidate.files, candidate.temperature): candidate for candidate in read_candidates(path)}
    done = []
    for candidate in candidates:
        if (candidate.files, temperature) not in taught:
            teacher = read_teacher([task.file(name) for name in candidate.files], temperature, task.spec.device)
            accuracy = _students(
                task, Online(teacher), protocol, f"student of {candidate.teacher}, T = {temperature:g}"
            )
            taught[candidate.files, temperature] = candidate.model_copy(
                update={"temperature": temperature, "student_accuracy": accuracy}
            )
            with atomic(path) as temporary:
                temporary.write_text(
                    "".join(each.model_dump_json() + "\n" for each in taught.values()), encoding="utf-8"
                )
        done.append(taught[candidate.files, temperature])
    return done


def _copied(task: Task, chosen: Candidate) -> tuple[Path, ...]:
    """The chosen networks, under names that do not depend on which they are; those of an earlier choice go."""
    folder, several = task.spec.output, len(chosen.files) > 1
    names = COPIES[1 : len(chosen.files) + 1] if several else COPIES[:1]
    for name in set(COPIES) - set(names):
        (folder / name).unlink(missing_ok=True)
    for name, file in zip(names, chosen.files, strict=True):
        with atomic(folder / name) as temporary:
            temporary.write_bytes(task.file(file).read_bytes())
    return tuple(folder / name for name in names)


def _write(path: Path, content: object) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

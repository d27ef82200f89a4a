"""Jobs that make what cells need: networks of the real set, teachers, and training sets."""

import time
from collections.abc import Iterable
from pathlib import Path

from pcdistill.artefact.artefact import Artefact, set_name
from pcdistill.clouds import PointClouds, placed
from pcdistill.condense import make as making
from pcdistill.condense.plan import objective_of, resolve
from pcdistill.condense.spec import DistillSpec, SelectSpec
from pcdistill.condense.told import Told, facts_of
from pcdistill.evaluation.scores import peak_mib
from pcdistill.experiments.cells import SetTask, Source, Teacher
from pcdistill.experiments.files import Made, set_file, student_file, teacher_file, there, write_json
from pcdistill.experiments.sources import thinned_whole, training_set
from pcdistill.experiments.spec import GridSpec
from pcdistill.models import build
from pcdistill.training.loop import train
from pcdistill.training.trained import Trained, save_network


def prepare(given: Iterable[DistillSpec], source: Source, spec: GridSpec) -> None:
    """Have in the cache what these distillations need of the real set."""
    real, _ = training_set(source, spec)
    for one in given:
        objective_of(one).prepare(placed(real, spec.device))


def teach(teacher: Teacher, spec: GridSpec) -> None:
    """Train a teacher and keep it."""
    real, protocol = training_set(teacher.source, spec)[0], teacher.protocol()
    clouds = thinned_whole(real, teacher.settings["points"])
    network = build(teacher.spec.network, clouds.num_classes, 0).to(spec.device)
    start = time.perf_counter()
    train(network, clouds, protocol.recipe, 0)
    seconds = time.perf_counter() - start
    name, path = set_name(teacher.source.data), teacher_file(teacher, spec)
    save_network(path, Trained(network, clouds.class_names, protocol, name, clouds.points_per_cloud, 0))
    write_json(path.with_suffix(".json"), {"settings": teacher.settings, "seconds": seconds})


def make(task: SetTask, spec: GridSpec) -> None:
    """Make and keep a training set; what is beside its JSON file is then whole."""
    path = set_file(task, spec)
    checkpoint = path.with_name(path.name + ".checkpoint")
    start = time.perf_counter()
    artefact = _made(task, spec, training_set(task.cell.source, spec)[0], checkpoint)
    facts = artefact.metadata
    seconds = facts.distill_seconds if facts.distilled else time.perf_counter() - start
    artefact.save(path)
    made = Made(seconds=seconds, peak_mib=peak_mib())
    write_json(path.with_suffix(".json"), {"settings": task.settings, "made": made.model_dump()})
    checkpoint.unlink(missing_ok=True)


def _made(task: SetTask, spec: GridSpec, real: PointClouds, checkpoint: Path) -> Artefact:
    given, labels = task.given, spec.label(task.cell.labels)
    if task.teacher is not None and labels is not None:
        path = teacher_file(task.teacher, spec)
        kind = "network" if labels.by == "file" else "teacher"
        labelling = {"labels": kind, "teacher": (path,), "temperature": labels.temperature}
        given = given.model_copy(update=labelling)
    if isinstance(given, SelectSpec):
        return making.select(real, resolve(given, spec.device), dataset=task.cell.data)
    if task.focus is not None:
        given = given.model_copy(update={"focus": _student(task, task.focus, spec)})
    again = checkpoint.exists()
    plan = resolve(given, spec.device)
    with spec.tracking(again, f"sets/{task.key}") as tracking:
        followers = [Told(tracking, str(real.provenance.get("up_axis", "z")))] if tracking else []
        made = making.distill(
            real, plan, dataset=task.cell.data, checkpoint=checkpoint, resume=again, followers=followers
        )
        tracking.result(str(task.cell), facts_of(made))
    return made


def _student(task: SetTask, first: SetTask, spec: GridSpec) -> Path:
    """The file of a student of another set, which this one is to complement."""
    path, protocol = student_file(task, spec), task.cell.protocol(spec)
    clouds = there(first, spec)[0].training_clouds
    network = build(protocol.network, clouds.num_classes, task.cell.number).to(spec.device)
    train(network, clouds, protocol.recipe, task.cell.number)
    name = set_name(task.cell.data)
    save_network(path, Trained(network, clouds.class_names, protocol, name, clouds.points_per_cloud, task.cell.number))
    return path

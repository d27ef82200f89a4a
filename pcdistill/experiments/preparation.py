"""What a search for a teacher needs, read and checked before any work.

Teachers are trained on the first four fifths of every class of the real training set, thinned to the points of the
set's clouds, and everything is compared on the last fifth. The test split is never read.
"""

import json
from typing import Any

from pcdistill.artefact.artefact import set_name
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import versions
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.core.options import Reading
from pcdistill.data import last_split
from pcdistill.data.reading import read
from pcdistill.evaluation.subject import TrainingSpec, open_training, told
from pcdistill.experiments.search import COPIES, Task, TeachersSpec
from pcdistill.experiments.sources import thinned_whole
from pcdistill.models import networks
from pcdistill.training.augment import Poses
from pcdistill.training.recipe import protocol as protocol_named

HELD_OUT = 0.2


def prepared(spec: TeachersSpec) -> Task:
    """What is needed, read and checked before any work.

    Raises:
        InputError: see `search`.
    """
    for name in spec.teachers:
        networks[name]
    teaching = protocol_named(spec.protocol)
    if teaching.grid is not None:
        raise InputError("protocol", f"{spec.protocol}, which chooses among recipes", "tuned, converged or published")
    same = spec.model_dump(include={*Reading.model_fields, *Poses.model_fields})
    training = TrainingSpec(source=spec.source, network=f"pointnet-{spec.student}", **same)
    source = open_training(training)
    if source.clouds.parts is not None:
        raise InputError(spec.source, "points with parts", "a set without: no teacher labels points")
    protocol = source.protocol
    swept = protocol.grid is not None  # a recipe of its own is wanted
    if swept:
        protocol = protocol_named("tuned", protocol.network)
        protocol = protocol.changed(augmentation=spec.shown(protocol.recipe.augmentation))
    data = spec.data or source.dataset
    if spec.data is None and source.artefact is not None:
        data = told(data, source.source_fingerprint, spec.source, "--data with the set that teachers are trained on")
    whole = read(spec, data, points=protocol.test_points, at_most=True)
    if whole.class_names != source.clouds.class_names:
        expected = f"those of {spec.source}: {', '.join(source.clouds.class_names)}"
        raise InputError("data", f"classes {', '.join(whole.class_names)}", expected)
    real, held = last_split(whole, HELD_OUT)
    given = real if source.artefact is None else source.artefact.training_clouds
    clouds = PointClouds(given.points, given.hard_labels, given.class_names, given.provenance)  # stored soft ones rest
    split = f"the last {HELD_OUT:.0%} of every class of train"
    if source.artefact is not None:
        rule = source.artefact.metadata.source.get("split_rule")
        apart = rule == real.provenance["split_rule"]
        split += ", which the set was made without" if apart else "; the set may have been made of them, too"
    thin = thinned_whole(real, clouds.points_per_cloud)
    kept = source.artefact is not None and source.artefact.teacher is not None
    soft = given.labels.ndim == 2 or kept
    by = ("--protocol", "tuned") if swept else ()
    task = Task(spec, clouds, protocol, thin, held, split, set_name(source.dataset), soft, by)
    _claim(task)
    return task


def _claim(task: Task) -> None:
    """Refuse a folder of another search, else write down whose it is."""
    spec, path = task.spec, task.spec.output / "settings.json"
    settings: dict[str, Any] = {
        "set": task.clouds.fingerprint(), "real": task.real.fingerprint(),
        "student": task.protocol.model_dump(mode="json"), "teachers": task.teaching().model_dump(mode="json"),
        "seeds": spec.train_seeds, "held out": task.split,
        "version": versions()["pcdistill"],
    }  # fmt: skip
    check_writable(path)
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(path, "not JSON", "what teachers writes") from None
        if there != settings:
            changed = [key for key in settings if not isinstance(there, dict) or there.get(key) != settings[key]]
            raise InputError(spec.output, f"a search of other settings ({', '.join(changed)})", "another folder")
        return
    for name in COPIES:
        if (spec.output / name).exists():
            raise InputError(spec.output, f"{name} of something else", "another folder")
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

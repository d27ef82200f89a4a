"""The files of a grid, each whole once it is there, and what is read of them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pcdistill.artefact.artefact import Artefact
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.options import Options
from pcdistill.experiments.cells import CellTask, SetTask, Teacher
from pcdistill.experiments.spec import GridSpec
from pcdistill.results.record import Run

UNUSABLE = (OSError, ValueError, KeyError, TypeError)  # of a file that is made again


class Made(Options):
    """What making a training set took, besides what its artefact says."""

    seconds: float  # to select or distill
    peak_mib: int


class Result(NamedTuple):
    """What came out of a cell: a run per condition, and what stands in the record besides."""

    runs: dict[str, Run]
    facts: dict[str, Any]


def set_file(task: SetTask, spec: GridSpec) -> Path:
    return _sets(spec) / f"{task.key}.h5"


def student_file(task: SetTask, spec: GridSpec) -> Path:
    """The student of the set that `task` complements."""
    return _sets(spec) / f"{task.key}.student.safetensors"


def teacher_file(teacher: Teacher, spec: GridSpec) -> Path:
    return _sets(spec) / f"{teacher.key}.safetensors"


def cell_file(task: CellTask, spec: GridSpec) -> Path:
    return spec.output / "cells" / f"{task.key}.json"


def _sets(spec: GridSpec) -> Path:
    return spec.sets or spec.output / "artefacts"


def write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _read_json(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What was kept under these settings.

    Raises:
        ValueError, OSError, ...: `UNUSABLE`: it is not there, or of other settings.
    """
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if stored["settings"] != settings:
        raise ValueError(f"{path}: of other settings")
    return stored


def finished(task: CellTask, spec: GridSpec) -> Result | None:
    """The result of a cell that was carried out before, with the same settings."""
    try:
        stored = _read_json(cell_file(task, spec), task.settings)
        runs = {name: Run.model_validate(run) for name, run in stored["runs"].items()}
        return Result(runs, dict(stored["facts"]))
    except UNUSABLE:
        return None  # not there, or not what this package writes: do it again


def read_set(task: SetTask, spec: GridSpec) -> tuple[Artefact, Made] | None:
    """A training set, if it was made before with the same settings."""
    path = set_file(task, spec)
    try:
        made = Made.model_validate(_read_json(path.with_suffix(".json"), task.settings)["made"])
        return Artefact.load(path), made
    except UNUSABLE:
        return None


def teacher_seconds(teacher: Teacher, spec: GridSpec) -> float | None:
    """What training a teacher took; None if it is not there."""
    path = teacher_file(teacher, spec)
    try:
        seconds = _read_json(path.with_suffix(".json"), teacher.settings)["seconds"]
        return TypeAdapter(float).validate_python(seconds) if path.exists() else None
    except UNUSABLE:
        return None


def there(task: SetTask, spec: GridSpec) -> tuple[Artefact, Made]:
    made = read_set(task, spec)
    if made is None:
        raise InputError(set_file(task, spec), "not the set of this cell", "what was made just now")
    return made

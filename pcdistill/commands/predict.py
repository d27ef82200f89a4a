"""`pcdistill predict`: say what objects are."""

import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from pcdistill.clouds import PartNames
from pcdistill.commands.base import Command, warn
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, check_output
from pcdistill.core.options import Device, Force, LeastPoints, Positional, Seed, SkipBad
from pcdistill.core.progress import Say
from pcdistill.data.layouts.folders import is_object
from pcdistill.data.objects import READERS, Mesh, original, read_object, whole_or_sampled
from pcdistill.data.prepare import Bad, Wanted, z_up
from pcdistill.evaluation import thinning
from pcdistill.evaluation.labelling import class_called, label_points
from pcdistill.export import load_model, measure_latency
from pcdistill.export.clouds import labelled_ply
from pcdistill.geometry import farthest_points
from pcdistill.training.loop import predict
from pcdistill.training.trained import Trained

T = TypeVar("T")


class Guess(NamedTuple):
    """What a network says of one file."""

    file: str
    points: int  # that were looked at
    probabilities: dict[str, float]  # by class, the most probable first


class Predict(Command):
    """Say what objects are: class probabilities of clouds or meshes in files; or what their points are parts of."""

    model: Annotated[Path, Positional, Field(description="network (.onnx or .safetensors)")]
    files: Annotated[
        tuple[Path, ...],
        Positional,
        Field(
            description="meshes and clouds (OFF, OBJ, STL, PLY, GLB, PCD, XYZ, CSV, NPY, LAS ...), an object each, or "
            "folders of them"
        ),
    ] = ()
    points: Annotated[
        int | None, Field(ge=1, description="points of every object that are looked at (default: the protocol's)")
    ] = None
    up_axis: Annotated[Literal["z", "y"], Field(description="up axis of the files")] = "z"
    least_points: LeastPoints = 1
    skip_bad: SkipBad = False
    top: Annotated[int, Field(ge=1, description="classes printed of every file, the most probable")] = 3
    output: Annotated[
        Path | None,
        Field(description="folder for a PLY of every file, whose points are labelled (of networks that label points)"),
    ] = None
    class_: Annotated[
        str | None, Field(alias="class", description="of the objects, if known (of networks that label points)")
    ] = None
    latency: Annotated[bool, Field(description="measure time and memory of an .onnx file at one thread")] = False
    json_: Annotated[bool, Field(alias="json", description="print one JSON object instead of text")] = False
    device: Device = "cpu"
    seed: Seed = 0
    force: Force = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.files and not self.latency:
            raise InputError("predict", "no files", "clouds or meshes, or --latency")
        if self.latency and self.model.suffix != ".onnx":
            raise InputError("latency", f"of {self.model}", "an .onnx file, as pcdistill export writes")
        return self

    def run(self, say: Say) -> None:
        if self.model.suffix == ".h5":
            raise InputError(self.model, "a set of clouds", "a network, as pcdistill train makes one of it")
        trained = load_model(self.model)
        trained.network.to(self.device)
        points = self.points or trained.protocol.test_points
        files = [file for given in self.files for file in _files(given)]
        if trained.part_names is not None:
            self._label(trained, trained.part_names, files, points, say)
            return
        for name in ("output", "class_"):
            if getattr(self, name) is not None:
                found = f"of {self.model}, which names objects"
                raise InputError(name.rstrip("_"), found, "a network that labels points")
        objects = self._sound(files, partial(self._object, points=points))  # all, before anything is said of one
        guesses = [_guess(trained, file, cloud) for file, cloud in objects]
        few = {file: cloud.shape[1] for file, cloud in objects if cloud.shape[1] < points}
        if few:
            least = min(few, key=lambda file: few[file])
            found = f"{len(few)} of {len(objects)} files have fewer points than the {points} looked at"
            warn(f"{found}: {least} {few[least]}")
        points = trained.network.fixed_points or points
        speed = measure_latency(self.model, points) if self.latency else None
        if self.json_:
            size = self.model.stat().st_size
            timed = {} if speed is None else {"latency": {"points": points, "nbytes": size, **speed}}
            say(json.dumps({"guesses": [guess._asdict() for guess in guesses], **timed}))
            return
        self._say(guesses, say)
        if speed is not None:
            say(f"{points} points on one thread: {speed['p50_ms']:.2f} ms (p50), {speed['p99_ms']:.2f} ms (p99)")
            say(
                f"file {self.model.stat().st_size:,} bytes; peak memory {speed['peak_mib']:.0f} MiB, of which Python "
                f"and the runtime take {speed['runtime_mib']:.0f}"
            )

    def _label(self, trained: Trained, names: PartNames, files: list[Path], points: int, say: Say) -> None:
        """Label all points of every file, of a mesh those of a sample; write them, and say what shares parts have."""
        if self.latency:
            raise InputError("latency", f"of {self.model}, which labels points", "a network that names objects")
        label = class_called(trained, self.class_)
        if self.output is not None:
            targets = [self.output / f"{file.stem}.ply" for file in files]
            if twice := next((path for path in targets if targets.count(path) > 1), None):
                raise InputError("output", f"two files for {twice}", "names that differ before their ending")
            for path in targets:
                check_output(path, self.force)
        objects = self._sound(files, partial(_points, points=points, seed=self.seed, least=self.least_points))
        if self.output is not None:
            self.output.mkdir(parents=True, exist_ok=True)
        guesses = []
        for file, (own, cloud) in objects:
            seen = torch.from_numpy(np.ascontiguousarray(z_up(cloud, self.up_axis), dtype=np.float32))
            found = label_points(trained, seen, points, label, self.seed).numpy()
            counts = np.bincount(found, minlength=len(names))
            shares = {names.names[part]: counts[part] / len(found) for part in np.argsort(-counts, kind="stable")}
            guesses.append(Guess(os.fspath(file), len(found), {name: share for name, share in shares.items() if share}))
            if self.output is not None:
                with atomic(self.output / f"{file.stem}.ply") as temporary:
                    temporary.write_bytes(labelled_ply(own, found, names))
        if self.json_:
            facts = [{"file": one.file, "points": one.points, "shares": one.probabilities} for one in guesses]
            say(json.dumps({"parts": facts}))
            return
        self._say(guesses, say)
        if self.output is not None:
            say(f"wrote {self.output}: {len(objects)} PLY files whose property 'label' is the part of a point")

    def _say(self, guesses: Sequence[Guess], say: Say) -> None:
        width = max((len(guess.file) for guess in guesses), default=0)
        for guess in guesses:
            likely = list(guess.probabilities.items())[: self.top]
            shares = "   ".join(f"{name} {100 * share:.1f} %" for name, share in likely)
            say(f"{guess.file:{width}}   {shares}")

    def _sound(self, files: Sequence[Path], read: Callable[[Path], T]) -> list[tuple[Path, T]]:
        """What is read of every file, without those that are to be left out, which are listed.

        Raises:
            InputError: one that cannot be read or has too few points, all of them at once; or there is no other.
        """
        bad, found = Bad(Wanted(skip_bad=self.skip_bad)), list[tuple[Path, T]]()
        for file in files:
            try:
                found.append((file, read(file)))
            except InputError as problem:
                bad.note(problem)
        bad.facts("predict", len(files))
        for line in bad.lines:
            warn(f"left out: {line}")
        return found

    def _object(self, file: Path, points: int) -> Tensor:
        """A file's object `(1, P, 3)` in the frame of training clouds.

        It is turned to z up if it is stored otherwise, moved to mean zero and scaled to the unit sphere; a mesh is
        sampled, of a cloud of more points a random part is taken, both by the seed.
        """
        _check_file(file)
        least = self.least_points
        cloud = z_up(read_object(file, points, self.seed, file.name, fewer=True, least_points=least), self.up_axis)
        return torch.from_numpy(np.ascontiguousarray(cloud, dtype=np.float32))[None]


def _check_file(file: Path) -> None:
    if not file.is_file():
        raise InputError(file, "no such file", "a cloud or a mesh")
    if file.suffix.lower() not in READERS:
        raise InputError(file, f"suffix '{file.suffix}'", "one of " + ", ".join(READERS))


def _points(file: Path, points: int, seed: int, least: int) -> tuple[NDArray[np.floating], NDArray[np.float32]]:
    """All points of a file `(M, 3)` as they are, and in the unit sphere; of a mesh a sample of so many, there."""
    _check_file(file)
    found = original(file, least)
    if isinstance(found, Mesh):
        sampled = whole_or_sampled(found, file, seed, file.name, points)
        return sampled, sampled
    return found, whole_or_sampled(found, file, seed, file.name, None)


def _files(given: Path) -> list[Path]:
    """A file, or the files of a folder that can be read.

    Raises:
        InputError: there are none.
    """
    if not given.is_dir():
        return [given]
    files = sorted(file for file in given.iterdir() if is_object(file))
    if not files:
        raise InputError(given, "no object files", "files of " + " ".join(sorted(READERS)))
    return files


def _guess(trained: Trained, file: Path, cloud: Tensor) -> Guess:
    fewer = thinning(trained.protocol, cloud.shape[1], trained.points)
    seen = cloud if fewer is None else farthest_points(cloud, fewer)
    shares = predict(trained.network, seen).softmax(1)[0]
    order = shares.argsort(descending=True, stable=True).tolist()
    named = {trained.class_names[place]: shares[place].item() for place in order}
    return Guess(os.fspath(file), seen.shape[1], named)

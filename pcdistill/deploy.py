"""`pcdistill export` and `pcdistill predict`: networks and clouds for others, and what a network says of objects."""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.config import ExportConfig, PredictConfig
from pcdistill.data import load
from pcdistill.data.objects import READERS, read_object
from pcdistill.data.prepare import z_up
from pcdistill.errors import InputError
from pcdistill.evaluation import thinned
from pcdistill.export import (
    Exported,
    Written,
    card_of,
    check_target,
    export_executorch,
    export_onnx,
    fine_tuned,
    folded,
    height_colouring,
    load_model,
    measure_latency,
    write_clouds,
)
from pcdistill.export.executorch import LARGEST
from pcdistill.export.folding import can_be_folded
from pcdistill.export.quantise import TuneRecipe
from pcdistill.files import atomic, check_other, check_writable
from pcdistill.geometry import normalise
from pcdistill.jobs import NETWORK_FILES, set_name
from pcdistill.progress import progress
from pcdistill.storage import Artefact
from pcdistill.trained import Trained, load_network
from pcdistill.training import predict

POINTS = 1024  # of an object, for networks that do not say what they were trained on
SUFFIXES = (".onnx", ".pte")
# What is of no use to the one and to the other.
OF_NETWORKS, OF_CLOUDS = ("int8", "tune", "clouds"), ("split", "format", "colour")


def run_export(config: ExportConfig) -> Exported | Written:
    """Write a trained network for devices, or clouds for other tools, in the format that the output names.

    Of an artefact the stored clouds are written, not what an expansion makes of them; see `export.write_clouds`.

    Raises:
        InputError: settings that exclude one another, a network that cannot be exported, clouds of other classes,
            a source or an output that is none.
    """
    network = config.source.endswith(NETWORK_FILES) or config.output.suffix in SUFFIXES
    for name in OF_CLOUDS if network else OF_NETWORKS:
        if getattr(config, name) != ExportConfig.model_fields[name].default:
            wanted = "clouds" if network else "a trained network"
            raise InputError(name, f"of {config.source} as {config.output}", wanted)
    return _export_network(config) if network else _export_clouds(config)


def _export_clouds(config: ExportConfig) -> Written:
    output, is_artefact = config.output, Artefact.is_one(config.source)
    check_target(output, config.format)
    check_other(output, config.source)
    if is_artefact and config.split != "train":
        raise InputError("split", f"of an artefact ({config.source})", "a data set")
    if not output.is_dir():
        check_writable(output)
    if is_artefact:
        clouds = Artefact.load(config.source).clouds
    else:
        clouds = load(config.source, config.split, root=config.root, seed=config.seed)
    colours = height_colouring(clouds) if config.colour == "height" else None
    return write_clouds(clouds, output, colours, config.format)


def _export_network(config: ExportConfig) -> Exported:
    source = Path(config.source)
    suffix, rounds = config.output.suffix, config.int8 or config.tune
    if suffix not in SUFFIXES:
        raise InputError("output", str(config.output), "a name that ends in .onnx or .pte, for a network")
    if Artefact.is_one(source):
        raise InputError(source, "an artefact", f"a trained network (.safetensors) for {config.output}")
    if suffix == ".pte" and rounds:
        raise InputError("int8", "with a .pte file", "an .onnx file")
    if rounds and config.clouds is None:
        raise InputError("int8", "and no --clouds", "the set that the network was trained on")
    if config.clouds is not None and not rounds:
        raise InputError("clouds", f"{config.clouds} and no --int8", "both or neither")
    check_writable(config.output)
    trained = load_network(source)
    if not can_be_folded(trained.network):
        if rounds or suffix == ".pte":
            found = f"a {trained.protocol.network}"
            raise InputError(source, found, "a PointNet with batch norm, as pointnet-tiny, for int8 and .pte")
        return export_onnx(trained.network, trained, config.output, card_of(trained))
    network = folded(trained.network)
    if suffix == ".pte":
        nbytes, parity = export_executorch(network, config.output, min(trained.points or POINTS, LARGEST))
        card = card_of(trained, parity=parity)
        with atomic(config.output.with_name(config.output.name + ".json")) as temporary:  # which has no room for it
            temporary.write_text(card.model_dump_json() + "\n")
        return Exported(nbytes, card)
    if not rounds:
        return export_onnx(network, trained, config.output, card_of(trained))
    clouds, facts = _clouds(config, trained)
    if config.tune:
        with progress("fine-tuning", TuneRecipe().steps) as report:
            recipe = trained.protocol.recipe
            network = fine_tuned(
                network, trained, clouds, recipe, config.seed, lambda step, loss: report(step, f"loss {loss:.4g}")
            )
    card = card_of(trained, trained_on=facts, tuned=config.tune)
    return export_onnx(network, trained, config.output, card, clouds)


class Latency(NamedTuple):
    """Of one cloud at a time, on one thread."""

    points: int
    nbytes: int  # of the file
    p50_ms: float
    p99_ms: float
    peak_mib: float  # of a process that does nothing else
    runtime_mib: float  # of it, Python and the runtime before the model is read


class Guess(NamedTuple):
    """What a network says of one file."""

    file: str
    points: int  # that were looked at
    probabilities: dict[str, float]  # by class, the most probable first


def run_predict(config: PredictConfig) -> list[Guess]:
    """Class probabilities of objects in files, clouds or meshes.

    Every object is turned to z up if it is stored otherwise, moved to mean zero and scaled to the unit sphere, as
    training clouds are; a mesh is sampled, of a cloud of more points a random part is taken, both by the seed.

    Raises:
        InputError: a model or a file that cannot be read, before anything is said of the others.
    """
    trained = load_model(config.model)
    plan = trained.protocol
    clouds = [_object(file, config.points or plan.test_points, config) for file in config.files]
    guesses = []
    for file, cloud in zip(config.files, clouds, strict=True):
        seen = thinned(cloud, plan, trained.points)
        shares = predict(trained.network, seen).softmax(1)[0]
        order = shares.argsort(descending=True, stable=True).tolist()
        named = {trained.class_names[place]: shares[place].item() for place in order}
        guesses.append(Guess(os.fspath(file), seen.shape[1], named))
    return guesses


def run_latency(config: PredictConfig) -> Latency:
    """How fast the model is, and what it takes.

    Raises:
        InputError: a model that is not in ONNX, or does not run.
    """
    if config.model.suffix != ".onnx":
        raise InputError("latency", f"of {config.model}", "an .onnx file, as pcdistill export writes")
    points = config.points or load_model(config.model).protocol.test_points
    return Latency(points, config.model.stat().st_size, **measure_latency(config.model, points))


def _object(file: Path, points: int, config: PredictConfig) -> Tensor:
    """A file's object `(1, P, 3)` in the frame of training clouds."""
    if not file.is_file():
        raise InputError(file, "no such file", "a cloud or a mesh")
    if file.suffix.lower() not in READERS:
        raise InputError(file, f"suffix '{file.suffix}'", "one of " + ", ".join(READERS))
    cloud = z_up(read_object(file, points, config.seed, file.name, fewer=True), config.up_axis)
    return torch.from_numpy(np.ascontiguousarray(cloud, dtype=np.float32))[None]


def _clouds(config: ExportConfig, trained: Trained) -> tuple[PointClouds, dict[str, object]]:
    """What ranges are taken from, and what the card says of it."""
    name = str(config.clouds)
    if Artefact.is_one(name):
        artefact = Artefact.load(name)
        clouds, facts = artefact.training_clouds, artefact.metadata
        told: dict[str, object] = {
            "arm": facts.arm, "dataset": facts.dataset, "bytes_per_class": artefact.bytes_per_class,
            "clouds_per_class": facts.clouds_per_class,
        }  # fmt: skip
    else:
        clouds = load(name, "train", root=config.root, points=trained.points)
        told = {"dataset": set_name(name)}
    if clouds.class_names != trained.class_names:
        found = f"classes {', '.join(clouds.class_names)}"
        raise InputError(name, found, f"those of the network: {', '.join(trained.class_names)}")
    if trained.protocol.recipe.normalise:  # as it was trained on them
        clouds = clouds.with_points(normalise(clouds.points))
    return clouds, told

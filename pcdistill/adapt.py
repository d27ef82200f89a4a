"""`pcdistill adapt`: a trained network learns new classes or a new domain where it is used."""

from typing import NamedTuple

from pcdistill.clouds import PointClouds
from pcdistill.config import AdaptConfig
from pcdistill.data import load
from pcdistill.errors import InputError
from pcdistill.evaluation import of_classes
from pcdistill.files import check_writable
from pcdistill.geometry import farthest_points, normalise
from pcdistill.jobs import set_name
from pcdistill.progress import progress
from pcdistill.registry import nearest
from pcdistill.selection import select
from pcdistill.storage import Artefact
from pcdistill.teaching.adaptation import adapt, joined
from pcdistill.trained import Trained, load_network, save_network
from pcdistill.training import predict

RANK = 4


class Part(NamedTuple):
    """One side of what a network was adapted with, and the share of it that the network gets right afterwards."""

    clouds: int
    classes: int
    accuracy: float


class Adapted(NamedTuple):
    """What was made of a network."""

    trained: Trained
    added: int  # classes
    memory: Part | None
    new: Part


def run_adapt(config: AdaptConfig) -> Adapted:
    """Adapt a network and write it as one that `evaluate`, `export` and `predict` take like any other.

    Raises:
        InputError: a file that cannot be read, classes or points that do not fit, before anything is written.
    """
    if config.output.suffix != ".safetensors":
        raise InputError("output", str(config.output), "a name that ends in .safetensors")
    if config.rank is not None and config.how != "lora":
        raise InputError("rank", f"with --how {config.how}", "--how lora")
    check_writable(config.output)
    trained = load_network(config.source)
    memory = _memory(config, trained)
    new, dataset = _new(config, trained, memory)
    plan = trained.protocol.changed(steps=config.steps, lr=config.lr)
    with progress("adapting", config.steps) as report:
        made = adapt(
            trained, [] if memory is None else [memory], new, config.how, plan.recipe, config.seed,
            config.rank or RANK, lambda step, loss: report(step, f"loss {loss:.4g}"),
        )  # fmt: skip
    known = dataset if dataset == trained.dataset else f"{trained.dataset} and {dataset}"
    made = made._replace(dataset=known)
    save_network(config.output, made)
    added = len(made.class_names) - len(trained.class_names)
    return Adapted(made, added, None if memory is None else _part(made, memory), _part(made, new))


def _memory(config: AdaptConfig, trained: Trained) -> PointClouds | None:
    """The clouds of all artefacts that the network is reminded by, among its classes."""
    sets: list[PointClouds] = []
    for path in config.memory:
        clouds = Artefact.load(path).training_clouds
        unknown = [name for name in clouds.class_names if name not in trained.class_names]
        if unknown:
            wanted = f"some of the network's: {', '.join(trained.class_names)}"
            raise InputError(path, f"classes {', '.join(unknown)}", wanted)
        if sets and clouds.points_per_cloud != sets[0].points_per_cloud:
            wanted = f"{sets[0].points_per_cloud} as in {config.memory[0]}"
            raise InputError(path, f"{clouds.points_per_cloud} points per cloud", wanted)
        sets.append(clouds)
    return joined(sets, trained.class_names) if sets else None


def _new(config: AdaptConfig, trained: Trained, memory: PointClouds | None) -> tuple[PointClouds, str]:
    """The new clouds, with as many points as the memory's, and the name of their data set."""
    points = trained.points if memory is None else memory.points_per_cloud
    if Artefact.is_one(config.new):
        artefact = Artefact.load(config.new)
        clouds, dataset = artefact.training_clouds, artefact.metadata.dataset
        if points is not None and clouds.points_per_cloud != points:
            found, wanted = f"{clouds.points_per_cloud} points per cloud", f"{points} as in the memory or the network"
            raise InputError(config.new, found, wanted)
    else:
        clouds = load(config.new, "train", root=config.root, points=trained.protocol.test_points)
        dataset = set_name(config.new)
    for name in config.classes:
        if name not in clouds.class_names:
            raise InputError("classes", nearest(name, clouds.class_names), f"some of {', '.join(clouds.class_names)}")
    if config.classes:
        clouds = of_classes(clouds, [clouds.class_names.index(name) for name in dict.fromkeys(config.classes)])
    if config.shots is not None:
        clouds = select(clouds, "random", config.shots, seed=config.seed)
    if points is not None and points < clouds.points_per_cloud:
        # As stored clouds are thinned: the network must not tell old from new by how points were drawn.
        clouds = clouds.with_points(farthest_points(clouds.points, points))
    return clouds, dataset


def _part(made: Trained, clouds: PointClouds) -> Part:
    seen = normalise(clouds.points) if made.protocol.recipe.normalise else clouds.points
    labels = clouds.with_classes(made.class_names).hard_labels
    right = predict(made.network, seen).argmax(1) == labels
    return Part(len(clouds), len(labels.unique()), float(right.float().mean()))

"""`pcdistill adapt`: a trained network learns new classes or a new domain where it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from pcdistill.artefact.artefact import Artefact, set_name
from pcdistill.clouds import PointClouds
from pcdistill.commands.base import Command, tell
from pcdistill.core.errors import InputError
from pcdistill.core.files import check_output
from pcdistill.core.options import Device, Force, Paths, Positional, Reading, Seed
from pcdistill.core.progress import Say, progress
from pcdistill.core.registry import nearest
from pcdistill.core.tracking import Tracked
from pcdistill.evaluation import of_classes
from pcdistill.evaluation.subject import open_set
from pcdistill.selection import select
from pcdistill.teaching.adaptation import How, adapt, as_stored, joined
from pcdistill.training.loop import predict
from pcdistill.training.trained import Trained, load_network, save_network

RANK = 4


class Adapt(Reading, Tracked, Command):
    """Teach a trained network new classes, or a new domain, from few clouds and a memory of what it knows."""

    source: Annotated[Path, Positional, Field(description="trained network (.safetensors)")]
    memory: Annotated[
        Paths, Field(description="artefact of classes that the network knows, or several: what it must not forget")
    ] = ()
    new: Annotated[str, Field(description="artefact or data set of new classes, or of known ones in a new domain")]
    output: Annotated[Path, Field(description="network to write (.safetensors)")]
    how: Annotated[
        How, Field(description="train the whole network, its head alone, or low-rank updates of its weights (lora)")
    ] = "whole"
    rank: Annotated[int | None, Field(ge=1, description=f"of low-rank updates (default: {RANK})")] = None
    train_steps: Annotated[int, Field(ge=1, description="of training")] = 300
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False, description="learning rate")] = 2e-3
    shots: Annotated[
        int | None, Field(ge=1, description="new clouds of every class, drawn by the seed (default: all)")
    ] = None
    classes: Annotated[tuple[str, ...], Field(description="of the new set that are learned (default: all)")] = ()
    device: Device = "cpu"
    seed: Seed = 0
    force: Force = False

    renamed: ClassVar[Mapping[str, str]] = {"steps": "train_steps"}

    def run(self, say: Say) -> None:
        if self.output.suffix != ".safetensors":
            raise InputError("output", str(self.output), "a name that ends in .safetensors")
        if self.rank is not None and self.how != "lora":
            raise InputError("rank", f"with --how {self.how}", "--how lora")
        check_output(self.output, self.force)
        trained = load_network(self.source)
        trained.network.to(self.device)
        memory = self._remembered(trained)
        new, dataset = self._learned(trained, None if memory is None else memory.points_per_cloud)
        recipe = trained.protocol.changed(steps=self.train_steps, lr=self.lr).recipe
        with self.tracking() as tracking:
            with progress("adapting", self.train_steps) as report:

                def on_step(step: int, loss: float) -> None:
                    tracking.loss(step, loss)
                    report(step, f"loss {loss:.4g}")

                adapted = adapt(
                    trained, [] if memory is None else [memory], new, self.how, recipe, self.seed, self.rank or RANK,
                    on_step,
                )  # fmt: skip
            learned = {"memory": memory, "new": new}
            right = {name: _right(adapted, clouds) for name, clouds in learned.items() if clouds is not None}
            tracking.result(self.output.name, {f"{name}_accuracy": share for name, share in right.items()})
        both = dataset if dataset == trained.dataset else f"{trained.dataset} and {dataset}"
        save_network(self.output, adapted._replace(dataset=both))
        added = len(adapted.class_names) - len(trained.class_names)
        say(f"wrote {self.output}: {len(adapted.class_names)} classes, {added} of them new")
        for name, clouds in learned.items():
            if clouds is not None:
                has = f"{len(clouds)} clouds of {len(clouds.hard_labels.unique())} classes"
                say(f"  {name:7} {has}, {100 * right[name]:.1f} % right, of those that it was trained on")

    def _remembered(self, trained: Trained) -> PointClouds | None:
        """The clouds of all artefacts that the network is reminded by, among its classes."""
        sets: list[PointClouds] = []
        for path in self.memory:
            clouds = Artefact.load(path).training_clouds
            unknown = [name for name in clouds.class_names if name not in trained.class_names]
            if unknown:
                expected = f"some of the network's: {', '.join(trained.class_names)}"
                raise InputError(path, f"classes {', '.join(unknown)}", expected)
            if sets and clouds.points_per_cloud != sets[0].points_per_cloud:
                expected = f"{sets[0].points_per_cloud} as in {self.memory[0]}"
                raise InputError(path, f"{clouds.points_per_cloud} points per cloud", expected)
            sets.append(clouds)
        return joined(sets, trained.class_names) if sets else None

    def _learned(self, trained: Trained, points: int | None) -> tuple[PointClouds, str]:
        """The new clouds, of as many points as the memory's or the network's, and the name of their data set."""
        points = points or trained.points
        made = open_set(self.new, self, points=trained.protocol.test_points)
        tell(made)
        if isinstance(made, Artefact):
            clouds, dataset = made.training_clouds, made.metadata.dataset
            if points is not None and clouds.points_per_cloud != points:
                expected = f"{points} as in the memory or the network"
                raise InputError(self.new, f"{clouds.points_per_cloud} points per cloud", expected)
        else:
            clouds, dataset = made, set_name(self.new)
        for name in self.classes:
            if name not in clouds.class_names:
                raise InputError(
                    "classes", nearest(name, clouds.class_names), f"some of {', '.join(clouds.class_names)}"
                )
        if self.classes:
            clouds = of_classes(clouds, [clouds.class_names.index(name) for name in dict.fromkeys(self.classes)])
        if self.shots is not None:
            clouds = select(clouds, "random", self.shots, seed=self.seed)
        return clouds if points is None else as_stored(clouds, points), dataset


def _right(adapted: Trained, clouds: PointClouds) -> float:
    """The share that the network gets right of what it was adapted with."""
    labels = clouds.with_classes(adapted.class_names).hard_labels
    return (predict(adapted.network, adapted.seen(clouds.points)).argmax(1) == labels).float().mean().item()

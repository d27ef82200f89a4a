"""`pcdistill export`: networks for devices, and clouds for other tools."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from pcdistill.artefact.artefact import Artefact, set_name
from pcdistill.clouds import PointClouds
from pcdistill.commands.base import Command, tell
from pcdistill.core.errors import InputError
from pcdistill.core.files import check_other, check_output
from pcdistill.core.options import Force, Positional, Reading, Seed
from pcdistill.core.progress import Say, progress
from pcdistill.data.reading import read
from pcdistill.evaluation.subject import open_set
from pcdistill.export import (
    NETWORK_FILES,
    Exported,
    check_network_target,
    check_target,
    height_colouring,
    write_clouds,
    write_network,
)
from pcdistill.export.networks import SUFFIXES
from pcdistill.export.quantise import TuneRecipe
from pcdistill.training.trained import Trained, load_network

# What is of no use to the one and to the other.
OF_NETWORKS, OF_CLOUDS = ("int8", "tune", "training_set"), ("split", "format", "colour")


class Export(Reading, Command):
    """Write a trained network for a device, ONNX in float32 or int8 or ExecuTorch, or clouds for other tools.

    Of an artefact the stored clouds are written, not what an expansion makes of them.
    """

    source: Annotated[str, Positional, Field(description="trained network (.safetensors), artefact or data set")]
    output: Annotated[
        Path,
        Field(description="to write; of a network .onnx or .pte, of clouds .npz, .h5 (ModelNet's layout) or a folder"),
    ]
    int8: Annotated[bool, Field(description="round weights and activations to 8 bits (.onnx)")] = False
    tune: Annotated[
        bool, Field(description="fine-tune the network under that rounding first (quantisation-aware training)")
    ] = False
    training_set: Annotated[
        str | None,
        Field(description="artefact or data set that the network was trained on: the rounding is fitted to it"),
    ] = None
    split: Annotated[Literal["train", "test"], Field(description="of a data set")] = "train"
    format: Annotated[Literal["ply", "pcd", "xyz"] | None, Field(description="of clouds, in a folder")] = None
    colour: Annotated[Literal["height", "none"], Field(description="of the points of clouds")] = "height"
    seed: Seed = 0
    force: Force = False

    renamed: ClassVar[Mapping[str, str]] = {"clouds": "training_set"}

    def run(self, say: Say) -> None:
        network = self.source.endswith(NETWORK_FILES) or self.output.suffix in SUFFIXES
        for name in OF_CLOUDS if network else OF_NETWORKS:
            if getattr(self, name) != type(self).model_fields[name].default:
                expected = "clouds" if network else "a trained network"
                raise InputError(name, f"of {self.source} as {self.output}", expected)
        if network:
            self._network(say)
        else:
            self._clouds(say)

    def _clouds(self, say: Say) -> None:
        check_target(self.output, self.format)
        check_other(self.output, self.source)
        artefact = Artefact.load_if_one(self.source)
        if artefact is not None and self.split != "train":
            raise InputError("split", f"of an artefact ({self.source})", "a data set")
        if not self.output.is_dir():
            check_output(self.output, self.force)
        clouds = read(self, self.source, self.split, seed=self.seed) if artefact is None else artefact.clouds
        if artefact is None:
            tell(clouds)
        colours = height_colouring(clouds) if self.colour == "height" else None
        written = write_clouds(clouds, self.output, colours, self.format)
        what = f"{written.clouds:,} clouds x {written.points} points"
        if written.kind == self.format:
            what = f"{written.files:,} {written.kind.upper()} files"
        say(f"wrote {self.output}: {what}, {written.nbytes:,} bytes")

    def _network(self, say: Say) -> None:
        rounds = self.int8 or self.tune
        check_network_target(self.output, rounds)
        if Artefact.is_one(self.source):
            raise InputError(self.source, "an artefact", f"a trained network (.safetensors) for {self.output}")
        if rounds and self.training_set is None:
            raise InputError("int8", "and no --training-set", "the set that the network was trained on")
        if self.training_set is not None and not rounds:
            raise InputError("training_set", f"{self.training_set} and no --int8", "both or neither")
        check_output(self.output, self.force)
        trained = load_network(Path(self.source))
        clouds, facts = None, dict[str, JsonValue]()
        if self.training_set is not None:
            clouds, facts = self._calibration(self.training_set, trained)
        exported = self._written(trained, clouds, facts)
        card = exported.card
        tuned = ", fine-tuned under rounding" if card.tuned else ""
        parameters = f"{card.parameters:,} parameters in {card.precision}{tuned}"
        say(f"wrote {self.output}: {exported.nbytes:,} bytes, {parameters}")
        say(f"  float32 logits differ by at most {card.parity:.1g} from the network's")
        if card.difference is not None:
            say(f"  rounding to int8 moves logits by {card.difference:.2g} on average")

    def _written(self, trained: Trained, clouds: PointClouds | None, facts: Mapping[str, JsonValue]) -> Exported:
        if not self.tune:
            return write_network(trained, self.output, calibration=clouds, trained_on=facts)
        with progress("fine-tuning", TuneRecipe().steps) as report:
            return write_network(
                trained, self.output, calibration=clouds, trained_on=facts, tune=True, seed=self.seed,
                on_step=lambda step, loss: report(step, f"loss {loss:.4g}"),
            )  # fmt: skip

    def _calibration(self, name: str, trained: Trained) -> tuple[PointClouds, dict[str, JsonValue]]:
        """The clouds that a network was trained on, as it saw them, and what its card says of them."""
        made = open_set(name, self, points=trained.points)
        tell(made)
        if isinstance(made, Artefact):
            clouds = made.training_clouds
            facts: dict[str, JsonValue] = {
                "arm": made.metadata.arm, "dataset": made.metadata.dataset, "bytes_per_class": made.bytes_per_class,
                "clouds_per_class": made.metadata.clouds_per_class,
            }  # fmt: skip
        else:
            clouds, facts = made, {"dataset": set_name(name)}
        if clouds.class_names != trained.class_names:
            ours, theirs = ", ".join(trained.class_names), ", ".join(clouds.class_names)
            raise InputError(name, f"classes {theirs}", f"those of the network: {ours}")
        return clouds.with_points(trained.seen(clouds.points)), facts

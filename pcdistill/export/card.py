"""The model card: what a file for a device says of itself."""

import json
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from pcdistill.core.environment import versions
from pcdistill.core.errors import InputError
from pcdistill.core.options import Options
from pcdistill.training.recipe import EvaluationProtocol
from pcdistill.training.trained import Trained

FORMAT = "pcdistill model 1"
KEY = "pcdistill"  # of the card among an ONNX file's metadata
LONGEST = 2**20  # characters of a card that is read; files are not trusted
CLASS_INPUT = "; classes (batch, classes) float32: 1 at the class of the cloud, 0 elsewhere, or zeros where unknown"
INPUT = "points (batch, points, 3) float32: every cloud's mean at the origin, largest norm 1, z up"


class Card(Options):
    """What is known of an exported network.

    Attributes:
        class_names: in the order of the logits.
        protocol, dataset, points, seed, taught: as in `Trained`.
        source_fingerprint: of the clouds that its set was made from.
        parameters: of the network that was exported.
        input: what it is to be given.
        trained_on: facts of the artefact that it was calibrated on or that the user named.
        precision: of weights and activations: `float32`, or `int8`.
        tuned: whether it was fine-tuned under the rounding that int8 brings.
        parity: largest difference of logits between the float32 file and the network it was made from.
        difference: mean absolute difference of logits that rounding to int8 brings on the calibration clouds.
        part_names: of a network that labels points, in the order of its logits.
        licence: a note.
        versions: of what made the file.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ("source_fingerprint", "part_names")

    format: str = FORMAT
    class_names: tuple[str, ...] = Field(min_length=1)
    protocol: EvaluationProtocol
    dataset: str
    source_fingerprint: str = ""
    points: int | None = Field(ge=1)
    seed: int | None
    taught: dict[str, JsonValue]
    parameters: int = Field(ge=0)
    input: str = INPUT
    trained_on: dict[str, JsonValue] = Field(default_factory=dict)
    precision: Literal["float32", "int8"] = "float32"
    tuned: bool = False
    parity: float | None = None
    difference: float | None = None
    part_names: JsonValue = None
    licence: str = "none stated; that of the training data applies as well"
    versions: dict[str, str] = Field(default_factory=versions)

    @model_validator(mode="after")
    def _check(self) -> Self:
        json.dumps([self.taught, self.trained_on], allow_nan=False)  # NaN and infinity, which JSON has not
        return self


def card_of(trained: Trained, **more: Any) -> Card:
    """The card of a trained network, with further fields."""
    if trained.part_names is not None:
        more = {"input": INPUT + CLASS_INPUT, "part_names": trained.part_names.facts(), **more}
    return Card(
        class_names=trained.class_names,
        protocol=trained.protocol,
        dataset=trained.dataset,
        source_fingerprint=trained.source_fingerprint,
        points=trained.points,
        seed=trained.seed,
        taught=dict(trained.taught),
        parameters=sum(value.numel() for value in trained.network.parameters()),
        **more,
    )


def read_card(text: str | None, place: object) -> Card:
    """A card as it stands in a file, which is not trusted.

    Raises:
        InputError: none, or not such a card.
    """
    if text is None:
        raise InputError(place, "no model card", "a file written by pcdistill export")
    if len(text) > LONGEST:
        raise InputError(place, f"a model card of {len(text)} characters", f"at most {LONGEST}")
    card = Card.from_json(text, f"{place}: model card")
    if card.format != FORMAT:
        raise InputError(place, f"format {card.format!r:.80}", f"'{FORMAT}'")
    return card

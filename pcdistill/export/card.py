"""The model card: what a file for a device says of itself."""

import json
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from pcdistill.environment import versions
from pcdistill.errors import InputError
from pcdistill.trained import Trained
from pcdistill.training import Protocol

FORMAT = "pcdistill model 1"
KEY = "pcdistill"  # of the card among an ONNX file's metadata
LONGEST = 2**20  # characters of a card that is read; files are not trusted
INPUT = "points (batch, points, 3) float32: every cloud's mean at the origin, largest norm 1, z up"


class Card(BaseModel):
    """What is known of an exported network.

    Attributes:
        class_names: in the order of the logits.
        protocol, dataset, points, seed, taught: as in `Trained`.
        parameters: of the network that was exported.
        input: what it is to be given.
        trained_on: facts of the artefact that it was calibrated on or that the user named.
        precision: of weights and activations: `float32`, or `int8`.
        tuned: whether it was fine-tuned under the rounding that int8 brings.
        parity: largest difference of logits between the float32 file and the network it was made from.
        difference: mean absolute difference of logits that rounding to int8 brings on the calibration clouds.
        licence: a note.
        versions: of what made the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: str = FORMAT
    class_names: tuple[str, ...] = Field(min_length=1)
    protocol: Protocol
    dataset: str
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
    licence: str = "none stated; that of the training data applies as well"
    versions: dict[str, str] = Field(default_factory=versions)


def card_of(trained: Trained, **more: Any) -> Card:
    """The card of a trained network, with further fields."""
    return Card(
        class_names=trained.class_names,
        protocol=trained.protocol,
        dataset=trained.dataset,
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
    try:
        card = Card.model_validate(json.loads(text, parse_constant=_no_number))
    except (ValidationError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "not JSON"}
        found = ": ".join([*map(str, first["loc"]), str(first["msg"])])
        raise InputError(place, f"model card: {found[:120]}", "a file written by pcdistill export") from None
    if card.format != FORMAT:
        raise InputError(place, f"format {card.format!r:.80}", f"'{FORMAT}'")
    return card


def _no_number(word: str) -> NoReturn:
    """Python reads NaN and Infinity, which JSON does not have."""
    raise ValueError(word)

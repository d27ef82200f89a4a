"""The model card, and cards that are none."""

import json
import re
from typing import Any

import pytest

from pcdistill.errors import InputError
from pcdistill.export.card import LONGEST, Card, card_of, read_card
from tests.export.conftest import Made


@pytest.fixture
def text(made: Made) -> str:
    return json.dumps(card_of(made.trained, trained_on={"arm": "krr"}).model_dump(mode="json"))


def test_a_card_survives_json_and_says_what_it_is_of(made: Made, text: str) -> None:
    card = read_card(text, "x")
    assert card == card_of(made.trained, trained_on={"arm": "krr"})
    assert (card.class_names, card.points, card.seed) == (("ball", "box", "ring"), 64, 0)
    assert card.protocol == made.trained.protocol
    # 3 x 32, 32 x 64, 64 x 256, 256 x 128 without biases, two of each norm, and the classifier
    assert card.parameters == 96 + 2048 + 16384 + 32768 + 2 * (32 + 64 + 256 + 128) + 128 * 3 + 3
    assert "/" not in card.dataset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pcdistill model 2"}, "x: format 'pcdistill model 2', expected 'pcdistill model 1'"),
        ({"class_names": []}, "x: model card: class_names: "),
        ({"class_names": "ball"}, "x: model card: class_names: "),
        ({"points": 0}, "x: model card: points: "),
        ({"points": "many"}, "x: model card: points: "),
        ({"parameters": -1}, "x: model card: parameters: "),
        ({"precision": "int4"}, "x: model card: precision: "),
        ({"parity": float("nan")}, "x: model card: not JSON"),
        ({"difference": float("inf")}, "x: model card: not JSON"),
        ({"more": 1}, "x: model card: more: "),
        ({"protocol": {}}, "x: model card: protocol: "),
        ({"protocol": None}, "x: model card: protocol: "),
        ({"k" * 1000: 1}, "x: model card: kkk"),
    ],
)
def test_damaged_cards_are_one_line(text: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(message)) as caught:
        read_card(json.dumps({**json.loads(text), **change}), "x")
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("key", [name for name, field in Card.model_fields.items() if field.is_required()])
def test_nothing_that_is_needed_may_be_missing(text: str, key: str) -> None:
    facts = json.loads(text)
    del facts[key]
    with pytest.raises(InputError, match=f"x: model card: {key}: "):
        read_card(json.dumps(facts), "x")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '"card"', "1e999"])
def test_what_is_no_card(text: str) -> None:
    with pytest.raises(InputError, match="x: model card: "):
        read_card(text, "x")


def test_an_infinity_in_other_words(text: str) -> None:
    with pytest.raises(InputError, match="x: model card: parity"):
        read_card(text.replace('"parity": null', '"parity": 1e999'), "x")


def test_no_card_and_one_too_long() -> None:
    with pytest.raises(InputError, match="x: no model card"):
        read_card(None, "x")
    with pytest.raises(InputError, match=f"x: a model card of {LONGEST + 1} characters"):
        read_card(" " * (LONGEST + 1), "x")

"""The model card, and cards that are none."""

import json
import re
from typing import Any

import pytest

from pcdistill.core.errors import InputError
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
        ({"class_names": []}, "x: model card: class_names = [], expected at least 1 item"),
        ({"class_names": "ball"}, "x: model card: class_names = 'ball', expected a valid array"),
        ({"points": 0}, "x: model card: points = 0, expected "),
        ({"points": "many"}, "x: model card: points = 'many', expected "),
        ({"parameters": -1}, "x: model card: parameters = -1, expected "),
        ({"precision": "int4"}, "x: model card: precision = 'int4', expected 'float32' or 'int8'"),
        ({"parity": float("nan")}, "x: model card: parity = nan, expected a finite number"),
        ({"difference": float("inf")}, "x: model card: difference = inf, expected a finite number"),
        ({"taught": {"temperature": float("nan")}}, "x: model card: Out of range"),
        ({"trained_on": {"a": [float("-inf")]}}, "x: model card: Out of range"),
        ({"more": 1}, "x: model card: unknown field 'more'"),
        ({"protocol": {}}, "x: model card: 'protocol.name' is missing"),
        ({"protocol": None}, "x: model card: protocol = None, expected "),
        ({"k" * 1000: 1}, "x: model card: unknown field 'kkk"),
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
    with pytest.raises(InputError, match=f"x: model card: '{key}' is missing"):
        read_card(json.dumps(facts), "x")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '"card"', "1e999"])
def test_what_is_no_card(text: str) -> None:
    with pytest.raises(InputError, match="x: model card: "):
        read_card(text, "x")


def test_an_infinity_in_other_words(text: str) -> None:
    with pytest.raises(InputError, match="x: model card: parity = inf, expected a finite number"):
        read_card(text.replace('"parity": null', '"parity": 1e999'), "x")


def test_no_card_and_one_too_long() -> None:
    with pytest.raises(InputError, match="x: no model card"):
        read_card(None, "x")
    with pytest.raises(InputError, match=f"x: a model card of {LONGEST + 1} characters"):
        read_card(" " * (LONGEST + 1), "x")

"""What is taken for what: shares, words and tables."""

import math
from collections.abc import Callable

import pytest

from pcdistill.core.errors import InputError
from pcdistill.results.confusion import Confusion, common_names, per_class
from pcdistill.results.record import Record

MATRIX = [[3, 1, 0], [0, 0, 0], [2, 2, 4]]


def test_per_class_accuracies_and_what_is_mistaken() -> None:
    text = per_class(MATRIX, ["a", "bb", "c"], most=2)
    assert text.splitlines() == [
        "  a    75.0 %", "  bb      –", "  c    50.0 %", "taken for another class most often:",
        "  a    25.0 % for bb", "  c    25.0 % for a",
    ]  # fmt: skip
    assert per_class([[1, 0], [0, 1]], ["a", "b"]).splitlines() == ["  a  100.0 %", "  b  100.0 %"]


def test_shares_and_tables() -> None:
    confusion = Confusion(["a", "bb", "c"], MATRIX)
    assert confusion.recalls[::2] == [0.75, 0.5]
    assert math.isnan(confusion.recalls[1])
    assert confusion.mistakes() == [(0.25, "a", "bb"), (0.25, "c", "a"), (0.25, "c", "bb")]
    assert confusion.table().csv() == "class,a,bb,c\na,3,1,0\nbb,0,0,0\nc,2,2,4\n"
    assert confusion.mistakes_table().csv().splitlines()[:2] == ["class,taken for,per cent", "a,bb,25.0"]


def test_classes_have_numbers_where_no_record_names_them(recorded: Callable[..., Record]) -> None:
    named = Confusion.of(recorded([0.5], confusion=[[1, 0], [0, 1]], class_names=["cup", "chair"]))
    unnamed = Confusion.of(recorded([0.5], confusion=[[1, 0], [0, 1]]))
    assert named is not None
    assert unnamed is not None
    assert Confusion.of(recorded([0.5])) is None
    assert (unnamed.class_names, unnamed.named) == (["0", "1"], False)
    assert common_names([unnamed, named]) == ["cup", "chair"]
    assert common_names([unnamed]) == ["0", "1"]
    with pytest.raises(InputError, match="records of 2 and 3 classes"):
        common_names([named, Confusion(["a", "b", "c"], MATRIX)])

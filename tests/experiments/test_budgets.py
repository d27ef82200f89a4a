"""Budgets as grids write them."""

import pytest

from pcdistill.condense.spec import BudgetSpec
from pcdistill.core.errors import InputError
from pcdistill.experiments.budgets import budget_text, class_bytes, parse_budget


@pytest.mark.parametrize(
    ("text", "fields", "again", "nbytes"),
    [
        (" 4x128@8 ", {"clouds_per_class": 4, "points": 128, "bits": 8}, "4x128@8", 4 * 384),
        ("1×5@5", {"clouds_per_class": 1, "points": 5, "bits": 5}, "1x5@5", 10),
        ("1229B", {"bytes_per_class": 1229}, "1229B", 1229),
        ("0.10ppc", {"ppc": 0.1}, "0.1ppc", 1228),
        ("1229B@128x5", {"bytes_per_class": 1229, "points": 128, "bits": 5}, "1229B@128x5", 1229),
        ("2ppc@256×6", {"ppc": 2.0, "points": 256, "bits": 6}, "2ppc@256x6", 24576),
    ],
)
def test_a_budget_is_read_and_written(text: str, fields: dict[str, float], again: str, nbytes: int) -> None:
    budget = parse_budget(text)
    assert budget == BudgetSpec.checked(fields)
    assert budget_text(budget) == again
    assert parse_budget(again) == budget
    assert class_bytes(budget) == nbytes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8@8", "budgets: '8@8', expected clouds x points @ bits of a class as in 4x128@8, or its bytes as in 1229B"),
        ("1229", "its bytes as in 1229B"),
        ("1229B@128", "its bytes as in 1229B"),
        ("-1ppc", "its bytes as in 1229B"),
        ("0B", "budget 0B: bytes_per_class = 0"),
        ("0x8@8", "budget 0x8@8: clouds_per_class = 0"),
        ("1x8@13", "bits: 13"),
        ("9B@8x13", "bits: 13"),
    ],
)
def test_what_is_no_budget_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_budget(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)

"""Sizes of sets as a grid names them: in clouds, `4x128@8`, or in bytes, `1229B`, `0.1ppc` or `1229B@128x5`."""

import re

from pcdistill.condense.spec import BudgetSpec
from pcdistill.core.errors import InputError

CLOUDS = re.compile(r"(?P<clouds>\d{1,9})[x×](?P<points>\d{1,9})@(?P<bits>\d{1,3})")
BYTES = re.compile(
    r"((?P<bytes>\d{1,12})B|(?P<ppc>\d{1,9}(\.\d{1,9})?)ppc)(@(?P<points>\d{1,9})[x×](?P<bits>\d{1,3}))?"
)
FORMS = "clouds x points @ bits of a class as in 4x128@8, or its bytes as in 1229B, 0.1ppc or 1229B@128x5"


def parse_budget(text: str) -> BudgetSpec:
    """The budget of every class that a text names; of bytes without points and bits, what is expected to serve best.

    >>> parse_budget("4x128@8") == BudgetSpec(clouds_per_class=4, points=128, bits=8)
    True
    >>> parse_budget("0.1ppc@128x5") == BudgetSpec(ppc=0.1, points=128, bits=5)
    True

    Raises:
        InputError: anything else, or numbers out of range.
    """
    match = CLOUDS.fullmatch(text.strip()) or BYTES.fullmatch(text.strip())
    if match is None:
        raise InputError("budgets", f"'{text}'", FORMS)
    given = {name: value for name, value in match.groupdict().items() if value is not None}
    names = {"clouds": "clouds_per_class", "bytes": "bytes_per_class"}
    numbers = {names.get(name, name): float(value) if name == "ppc" else int(value) for name, value in given.items()}
    budget = BudgetSpec.checked(numbers, f"budget {text.strip()}")
    budget.check_budget()
    return budget


def budget_text(budget: BudgetSpec) -> str:
    """The text that names a budget."""
    if budget.clouds_per_class is not None:
        return f"{budget.clouds_per_class}x{budget.points}@{budget.bits}"
    size = f"{budget.bytes_per_class}B" if budget.bytes_per_class is not None else f"{budget.ppc:g}ppc"
    return size if budget.points is None else f"{size}@{budget.points}x{budget.bits}"


def class_bytes(budget: BudgetSpec) -> int:
    """Bytes that a class may take; of a number of clouds, what their coordinates take, packed."""
    if budget.clouds_per_class is not None:
        return budget.clouds_per_class * -(-3 * (budget.points or 0) * (budget.bits or 0) // 8)
    return budget.total_bytes(1, 0) or 0

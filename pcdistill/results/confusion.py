"""What is taken for what."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

from pcdistill.core.errors import InputError
from pcdistill.results.record import Record
from pcdistill.results.table import Table, per_cent

OFTEN = 10  # mistakes that are listed


class Confusion(NamedTuple):
    """How many test clouds of class i were taken for class j, at [i][j] of a square, by all networks of a record."""

    class_names: Sequence[str]  # their numbers where the record does not say
    matrix: Sequence[Sequence[int]]
    named: bool = True

    @classmethod
    def of(cls, record: Record) -> Self | None:
        """Those of a record that has them."""
        if not record.confusion:
            return None
        numbers = [str(number) for number in range(len(record.confusion))]
        return cls(record.class_names or numbers, record.confusion, bool(record.class_names))

    @property
    def recalls(self) -> list[float]:
        """Of every class the share that is right; NaN without test clouds."""
        return [line[i] / sum(line) if sum(line) else math.nan for i, line in enumerate(self.matrix)]

    def mistakes(self) -> list[tuple[float, str, str]]:
        """Shares of a class that are taken for another, with the names of both, the largest first."""
        pairs = [
            (count / sum(line), name, other)
            for i, (name, line) in enumerate(zip(self.class_names, self.matrix, strict=True))
            for j, (other, count) in enumerate(zip(self.class_names, line, strict=True))
            if i != j and count
        ]
        return sorted(pairs, key=lambda pair: -pair[0])

    def table(self) -> Table:
        """Classes by classes."""
        lines = zip(self.class_names, self.matrix, strict=True)
        return Table(["class", *self.class_names], [[name, *line] for name, line in lines])

    def mistakes_table(self) -> Table:
        """The largest of the mistakes."""
        worst = [[name, other, per_cent(share)] for share, name, other in self.mistakes()[:OFTEN]]
        return Table(["class", "taken for", "per cent"], worst)


def per_class(confusion: Sequence[Sequence[int]], class_names: Sequence[str], most: int = OFTEN) -> str:
    """Every class's accuracy, and the pairs that are mistaken most often, as text.

    Args:
        confusion: test clouds of class i taken for class j at [i][j], of all networks.
        class_names: of these.
        most: pairs at most.
    """
    whole = Confusion(class_names, confusion)
    width = max(map(len, class_names))
    lines = [
        f"  {name:{width}}  {per_cent(recall):>5}{'' if math.isnan(recall) else ' %'}"
        for name, recall in zip(class_names, whole.recalls, strict=True)
    ]
    mistakes = [
        f"  {name:{width}}  {per_cent(share):>5} % for {other}" for share, name, other in whole.mistakes()[:most]
    ]
    return "\n".join([*lines, *(["taken for another class most often:", *mistakes] if mistakes else [])])


def common_names(confusions: Sequence[Confusion]) -> Sequence[str]:
    """Names of the classes; their numbers where no record says.

    Raises:
        InputError: they are of other numbers of classes.
    """
    sizes = {len(one.matrix) for one in confusions}
    if len(sizes) > 1:
        raise InputError("report", f"records of {' and '.join(map(str, sorted(sizes)))} classes", "the same classes")
    return next((one.class_names for one in confusions if one.named), confusions[0].class_names)

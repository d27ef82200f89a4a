"""What points of clouds are parts of: names, which class has which, and labels checked against them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pcdistill.core.errors import InputError


@dataclass(frozen=True)
class PartNames:
    """Names of parts, and which class has which.

    Args:
        names: one per part, unique.
        of_class: for every class the numbers of its parts, ascending, at least one; together all of them.

    Raises:
        InputError: other names, or a part of no class.
    """

    names: tuple[str, ...]
    of_class: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        place, count = "part names", len(self.names)
        if count == 0 or len(set(self.names)) != count or not all(isinstance(n, str) and n for n in self.names):
            raise InputError(place, f"{list(self.names)!r:.80}", "at least one, all different and not empty")
        for number, own in enumerate(self.of_class):
            if not own or list(own) != sorted(set(own)) or not 0 <= own[0] <= own[-1] < count:
                found = f"parts {list(own)!r:.80} of class {number}"
                raise InputError(place, found, f"some of 0 to {count - 1}, ascending")
        lonely = sorted(set(range(count)).difference(*self.of_class))
        if lonely:
            raise InputError(place, f"part '{self.names[lonely[0]]}' of no class", "at least one that has it")

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def shared(cls, names: Iterable[str], classes: int) -> Self:
        """Parts that all of so many classes have."""
        kept = tuple(names)
        return cls(kept, (tuple(range(len(kept))),) * classes)

    @classmethod
    def seen(cls, names: Sequence[str], parts: Tensor, labels: Tensor, classes: int) -> Self:
        """Parts that a class has where a point `(N, P)` of a cloud of it `(N,)` does; all where it has no cloud."""
        return cls(tuple(names), tuple(_met(parts[labels == label], len(names)) for label in range(classes)))

    def table(self) -> Tensor:
        """`(C, L)` bool: whether a class has a part."""
        found = torch.zeros(len(self.of_class), len(self), dtype=torch.bool)
        for label, own in enumerate(self.of_class):
            found[label, list(own)] = True
        return found

    def facts(self) -> dict[str, Any]:
        """As JSON values: what `of_facts` reads."""
        return {"names": list(self.names), "of_class": [list(own) for own in self.of_class]}

    @classmethod
    def of_facts(cls, facts: object, classes: int, place: object) -> Self:
        """The inverse of `facts`, which is not trusted.

        Raises:
            InputError: naming `place`.
        """
        given: dict[str, Any] = facts if isinstance(facts, dict) and facts.keys() == {"names", "of_class"} else {}
        names, rows = given.get("names", 0), given.get("of_class", 0)
        listed = isinstance(names, list) and isinstance(rows, list) and len(rows) == classes
        if not listed or not all(isinstance(row, list) and all(type(at) is int for at in row) for row in rows):
            raise InputError(place, f"{facts!r:.80}", f"names of parts, and those of {classes} classes")
        try:
            return cls(tuple(names), tuple(map(tuple, rows)))
        except InputError as error:
            raise InputError(place, str(error)) from None

    def of_classes(self, kept: Sequence[int]) -> Self:
        """For these classes, in this order; names of parts stay, unless none of them has a part."""
        own = [self.of_class[label] for label in kept]
        left = sorted({number for parts in own for number in parts})
        places = {number: place for place, number in enumerate(left)}
        names = tuple(self.names[number] for number in left)
        return type(self)(names, tuple(tuple(places[number] for number in parts) for parts in own))


def _met(parts: Tensor, count: int) -> tuple[int, ...]:
    """Numbers that occur; all of them where there is nothing to look at."""
    return tuple(parts.unique().tolist()) if parts.numel() else tuple(range(count))


def checked_parts(parts: Tensor, points: Tensor, classes: Tensor, names: PartNames, place: str) -> Tensor:
    """Labels of points as int64.

    Args:
        parts: `(N, P)` integers.
        points: `(N, P, 3)`.
        classes: `(N,)` class of every cloud.
        names: the parts that there are.
        place: for messages.

    Raises:
        InputError: naming cloud and point, for a shape or type other than these, a number beyond the names, or a part
            that the cloud's class has not.
    """
    shape = tuple(points.shape[:2])
    if tuple(parts.shape) != shape:
        raise InputError(place, f"parts of shape {tuple(parts.shape)}", f"{shape}, one for each point")
    if parts.is_floating_point() or parts.is_complex() or parts.dtype == torch.bool:
        raise InputError(place, f"parts of type {parts.dtype}", "integers")
    parts = parts.to(torch.int64)
    outside = ((parts < 0) | (parts >= len(names))).nonzero()
    if len(outside):
        cloud, point = outside[0].tolist()
        found = f"part {int(parts[cloud, point])} of point {point} of cloud {cloud}"
        raise InputError(place, found, f"0 to {len(names) - 1} for {len(names)} parts")
    foreign = (~names.table().to(parts.device)[classes[:, None], parts]).nonzero()
    if len(foreign):
        cloud, point = foreign[0].tolist()
        found = f"part '{names.names[int(parts[cloud, point])]}' in cloud {cloud} of class {int(classes[cloud])}"
        own = ", ".join(names.names[number] for number in names.of_class[int(classes[cloud])])
        raise InputError(place, found, f"parts of that class: {own:.200}")
    return parts

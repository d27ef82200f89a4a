"""Base of storages that are more than points: a few named parts, each with its type, and a rule that makes clouds."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.limits import check_room
from pcdistill.storage.base import Arrays, Budget, check_bits, check_counts
from pcdistill.storage.labels import LABEL_PACE, SoftStorage
from pcdistill.storage.points import FLOATS
from pcdistill.storage.quantise import decode, encode, pack, round_through, unpack

Values = dict[str, Tensor]
LARGEST_HALF = 65504.0
MOST_NUMBERS = 2**27
LARGEST = 2**31  # integer of a layout: shapes made of larger ones fit no array


@dataclass(frozen=True)
class Part:
    """One array of a storage.

    Args:
        shape: of the values; the first dimension counts rows, whose codes start on a byte each.
        kind: `coordinates` are stored at the budget's bits, in [-1, 1] where these are fixed-point codes; `weights`
            as float16, as float32 at 32 bits; `choices` are integers from 0, a byte each, and not learned.
        choices: how many values a choice may take.
    """

    shape: tuple[int, ...]
    kind: Literal["coordinates", "weights", "choices"] = "weights"
    choices: int = 0

    def nbytes(self, bits: int) -> int:
        """Bytes of the array."""
        if self.kind == "choices":
            return math.prod(self.shape)
        if self.kind == "weights":
            return math.prod(self.shape) * (4 if bits == 32 else 2)
        return self.shape[0] * -(-math.prod(self.shape[1:]) * bits // 8)

    def write(self, values: Tensor, bits: int) -> np.ndarray[Any, Any]:
        """The array that holds `values`."""
        if self.kind == "choices":
            return values.numpy().astype(np.uint8)
        if self.kind == "weights":
            return _round_weights(values.detach(), bits).cpu().numpy().astype(np.float32 if bits == 32 else np.float16)
        if bits in FLOATS:
            return values.detach().cpu().numpy().astype(FLOATS[bits])
        return pack(encode(values, bits).flatten(1).cpu().numpy(), bits)

    def read(self, name: str, stored: np.ndarray[Any, Any] | None, bits: int) -> Tensor:
        """The inverse of `write`; trusts nothing."""
        dtype, shape = self._stored(bits)
        wanted = f"{np.dtype(dtype)} of shape {shape}"
        if stored is None:
            raise InputError(name, "missing", wanted)
        if stored.dtype != dtype or stored.shape != shape:
            raise InputError(name, f"{stored.dtype} of shape {stored.shape}", wanted)
        if self.kind == "choices":
            if stored.max() >= self.choices:
                raise InputError(name, f"value {stored.max()}", f"0 to {self.choices - 1}")
            return torch.from_numpy(stored.astype(np.int64))
        if self.kind == "coordinates" and bits not in FLOATS:
            return decode(torch.from_numpy(unpack(stored, bits, math.prod(self.shape[1:]))), bits).view(self.shape)
        values = torch.from_numpy(stored.astype(np.float32))
        if not torch.isfinite(values).all():
            raise InputError(name, "NaN or infinity", "finite values")
        return values

    def rounded(self, values: Tensor, bits: int) -> Tensor:
        """`values` as they will be read back, with the gradient of the identity."""
        if self.kind == "choices":
            return values
        return _round_weights(values, bits) if self.kind == "weights" else round_through(values, bits)

    def _stored(self, bits: int) -> tuple[type, tuple[int, ...]]:
        if self.kind == "choices":
            return np.uint8, self.shape
        if self.kind == "weights":
            return (np.float32 if bits == 32 else np.float16), self.shape
        if bits in FLOATS:
            return FLOATS[bits], self.shape
        return np.uint8, (self.shape[0], self.nbytes(bits) // self.shape[0])


class PartedStorage(SoftStorage):
    """Clouds that a formula makes of a few parts.

    A subclass says which integers it needs (`rule`, `check`), which parts it keeps (`parts`), what they are for given
    clouds (`fit`) and how they make clouds (`assemble`); bytes, rounding, reading without trust and soft labels (a
    byte per cloud and class, as in `points`) are here. Every class holds equally many clouds, class by class.

    Attributes:
        values: the parts by name, before rounding; all but choices are learned.
        sizes: integers that give the shapes of the parts: `bits`, `points` (P), `clouds` (n, per class, decoded) and
            those of `fields`. They are the layout.
        label_logits: `(n * C, C)` with soft labels, else None; learned if it requires a gradient.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    pace: ClassVar[Mapping[str, float]] = {"labels": LABEL_PACE}

    def __init__(self, values: Values, sizes: Mapping[str, int], class_names: tuple[str, ...]) -> None:
        self.sizes = dict(sizes)
        self.class_names = class_names
        self.labels = torch.arange(len(class_names)).repeat_interleave(sizes["clouds"])
        self._parts = self.stored_parts(self.sizes, len(class_names))
        self.values: Values = {
            name: value.detach().clone().requires_grad_(self._parts[name].kind != "choices")
            for name, value in values.items()
            if name in self._parts
        }

    @classmethod
    def rule(cls, clouds: int, points: int) -> dict[str, int]:
        """The integers of `fields` for n clouds of P points per class."""
        return {}

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        """Raise `InputError` where the integers of `fields` do not fit; shapes are `parts`' business."""

    @classmethod
    @abstractmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        """The arrays by name; one without values is left out."""

    @classmethod
    @abstractmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        """Parts whose clouds are nearest to `points` `(n * C, P, 3)`, class by class; deterministic."""

    @classmethod
    @abstractmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        """Clouds `(len(index), P, 3)` of rounded parts; a cloud's bits do not hang on which others are asked for."""

    @classmethod
    def stored_parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        """`parts` that hold anything."""
        return {name: part for name, part in cls.parts(sizes, classes).items() if math.prod(part.shape)}

    @classmethod
    def stored_bytes(cls, budget: Budget, classes: int) -> int:
        """`nbytes` of a set of `classes` classes with hard labels, before there is one: the byte rule."""
        sizes = cls._sizes(budget)
        return sum(part.nbytes(budget.bits) for part in cls.stored_parts(sizes, classes).values())

    @classmethod
    def _sizes(cls, budget: Budget) -> dict[str, int]:
        clouds = budget.clouds_per_class
        if not isinstance(clouds, int):
            raise InputError(f"storage {cls.name}", f"{min(clouds)} to {max(clouds)} clouds per class", "equally many")
        sizes = {"bits": budget.bits, "points": budget.points, "clouds": clouds}
        return sizes | cls.rule(clouds, budget.points)

    @classmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget, **chosen: int) -> Self:
        """As in `Storage`; `chosen` are integers of `fields` that `rule` would set otherwise."""
        cls.refuse_parts(initial)
        check_counts(initial, budget)
        if unknown := chosen.keys() - set(cls.fields):
            raise InputError(f"storage {cls.name}", min(unknown), f"one of {', '.join(cls.fields) or 'none'}")
        sizes = cls._sizes(budget) | chosen
        cls.check(sizes)
        return cls(cls.fit(initial.points.detach(), sizes, initial.num_classes), sizes, initial.class_names)

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int], class_names: tuple[str, ...]
    ) -> Self:
        sizes: dict[str, int] = {}
        for field in ("bits", "points", "clouds", *cls.fields):
            value = layout.get(field)
            if type(value) is not int or not 1 <= value < LARGEST:
                raise InputError(f"layout '{field}'", f"{value!r:.40}", f"an integer from 1 to {LARGEST - 1}")
            sizes[field] = value
        check_bits(sizes["bits"])
        numbers = len(class_names) * sizes["clouds"] * sizes["points"] * max(3, sizes.get("width", 0))
        if numbers > MOST_NUMBERS:  # a few parts may make many clouds
            raise InputError("layout", f"{numbers} numbers when decoded", f"at most {MOST_NUMBERS}")
        check_room(4 * numbers, sum(array.nbytes for array in arrays.values()), "layout")
        cls.check(sizes)
        parts = cls.stored_parts(sizes, len(class_names))
        values = {name: part.read(name, arrays.get(name), sizes["bits"]) for name, part in parts.items()}
        storage = cls(values, sizes, class_names)
        with torch.no_grad():
            storage.decode()  # finite parts may make clouds that are not, which `PointClouds` refuses
        storage.restore_soft(arrays, layout)
        return storage

    def arrays(self) -> Arrays:
        bits = self.sizes["bits"]
        return {name: self._parts[name].write(value, bits) for name, value in self.values.items()} | self.soft_arrays()

    def layout(self) -> dict[str, int]:
        return self.sizes | self.soft_layout()

    def learned(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.values.items() if value.requires_grad} | self.soft_learned()

    def decode(self, index: Tensor | None = None) -> PointClouds:
        chosen = torch.arange(len(self)) if index is None else index
        bits = self.sizes["bits"]
        rounded = {name: self._parts[name].rounded(value, bits) for name, value in self.values.items()}
        return self.labelled(self.assemble(rounded, self.sizes, chosen), chosen)


def _round_weights(values: Tensor, bits: int) -> Tensor:
    """Float16, what lies beyond its range at the ends; float32 at 32 bits. Gradient of the identity."""
    if bits == 32:
        return round_through(values, 32)
    exact = values.detach()
    stored = exact.clamp(-LARGEST_HALF, LARGEST_HALF).half().to(values.dtype)
    return stored + (values - exact) if values.requires_grad and torch.is_grad_enabled() else stored

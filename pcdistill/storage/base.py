"""What a storage (a parameterisation) is: the numbers that are kept, learned and counted in bytes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.registry import Registry

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Budget:
    """How much a synthetic set may hold: the same number of clouds for every class.

    Args:
        clouds_per_class: n.
        points: P, points per cloud.
        bits: per coordinate; 32 is float32, 16 is float16, 2 to 12 are fixed-point codes.
        extra_bytes: of a cloud besides its coordinates: its soft label, and what the storage keeps of it.

    Raises:
        InputError: naming the number that is out of range.
    """

    clouds_per_class: int
    points: int
    bits: int = 8
    extra_bytes: int = 0

    def __post_init__(self) -> None:
        check_bits(self.bits)
        for name, value in (("clouds_per_class", self.clouds_per_class), ("points", self.points)):
            if value < 1:
                raise InputError(name, str(value), "at least 1")
        if self.extra_bytes < 0:
            raise InputError("extra_bytes", str(self.extra_bytes), "at least 0")

    @property
    def cloud_bytes(self) -> int:
        """Bytes of one cloud, all counted."""
        return -(-self.points * 3 * self.bits // 8) + self.extra_bytes

    @classmethod
    def from_bytes(cls, bytes_per_class: int, points: int, bits: int, extra_bytes: int = 0) -> "Budget":
        """As many clouds as fit in `bytes_per_class`.

        Raises:
            InputError: not even one cloud fits.
        """
        one = cls(1, points, bits, extra_bytes)
        if bytes_per_class < one.cloud_bytes:
            more = f" with {extra_bytes} bytes besides" if extra_bytes else ""
            wanted = f"at least {one.cloud_bytes}, the size of one {points}-point {bits}-bit cloud{more}"
            raise InputError("bytes_per_class", str(bytes_per_class), wanted)
        return cls(bytes_per_class // one.cloud_bytes, points, bits, extra_bytes)


def check_bits(bits: int) -> None:
    """Raise `InputError` unless coordinates can be stored in `bits` bits."""
    if bits not in (16, 32) and not 2 <= bits <= 12:
        raise InputError("bits", str(bits), "2 to 12 (fixed point), 16 or 32 (floating point)")


class Storage(ABC):
    """Numbers that decode into labelled clouds.

    A subclass is one file and one `storages.register(name)`. Class names and the order of clouds (class by
    class) are the container's business; a storage holds coordinates and, after `soften`, soft labels. Those are
    what decoded clouds carry; `labels` remain the classes that clouds are grouped and drawn by.
    """

    name: ClassVar[str]
    pace: ClassVar[Mapping[str, float]] = {}  # of what is learned: factors of the learning rate of coordinates
    side_bytes: ClassVar[int] = 0  # of a cloud besides coordinates and soft label
    labels: Tensor  # (n * C,) int64: hard labels, class by class
    class_names: tuple[str, ...]

    @classmethod
    @abstractmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget) -> Self:
        """Storage whose decoded clouds are (as nearly as it can) `initial`, with hard labels.

        Raises:
            InputError: `initial` has not the number of clouds or points that `budget` asks for.
        """

    @classmethod
    @abstractmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int], class_names: tuple[str, ...]
    ) -> Self:
        """The inverse of `arrays` and `layout`; trusts neither.

        Raises:
            InputError: naming the array or field that does not fit.
        """

    @abstractmethod
    def arrays(self) -> Arrays:
        """Exactly the arrays that the artefact holds."""

    @abstractmethod
    def layout(self) -> dict[str, int]:
        """The few integers needed to read `arrays` again; constant size, part of the fixed overhead."""

    @abstractmethod
    def learned(self) -> dict[str, Tensor]:
        """Leaf tensors that an optimiser may change in place, by name."""

    @abstractmethod
    def decode(self, index: Tensor | None = None) -> PointClouds:
        """Clouds `(len(index), P, 3)` in the unit sphere's frame, all of them by default.

        Differentiable with respect to `learned`; under `no_grad` a copy, and what a reader of the artefact gets.
        """

    def soften(self, labels: Tensor, *, learn: bool = False) -> None:
        """Keep soft labels from now on: `(n * C, C)` probabilities, fixed or to be learned too.

        Raises:
            InputError: of another shape or no probabilities; or a storage that keeps hard labels only.
        """
        raise InputError(f"storage {self.name}", "soft labels", "hard ones: it keeps no others")

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays, exactly as in the artefact."""
        return sum(array.nbytes for array in self.arrays().values())

    def __len__(self) -> int:
        return len(self.labels)


storages: Registry[type[Storage]] = Registry("storage")


def class_major(clouds: PointClouds) -> bool:
    """Whether clouds stand class by class, the same number of each."""
    count = len(clouds) // clouds.num_classes
    return torch.equal(clouds.hard_labels, torch.arange(clouds.num_classes).repeat_interleave(count))

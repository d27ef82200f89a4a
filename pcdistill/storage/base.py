"""What a storage (a parameterisation) is: the numbers that are kept, learned and counted in bytes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry

Arrays = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Budget:
    """How much a synthetic set may hold.

    Args:
        clouds_per_class: n for every class, or one number for each.
        points: P, points per cloud.
        bits: per coordinate; 32 is float32, 16 is float16, 2 to 12 are fixed-point codes.
        extra_bytes: of a cloud besides its coordinates: its soft label, and what the storage keeps of it.
        side: cells a side of its grid, in a storage of grids; 0 in one of points.

    Raises:
        InputError: naming the number that is out of range.
    """

    clouds_per_class: int | tuple[int, ...]
    points: int
    bits: int = 8
    extra_bytes: int = 0
    side: int = 0

    def __post_init__(self) -> None:
        check_bits(self.bits)
        for name, value in (("clouds_per_class", self.clouds_per_class), ("points", self.points)):
            if (value if isinstance(value, int) else min(value, default=0)) < 1:
                raise InputError(name, str(value), "at least 1")
        for name, value in (("extra_bytes", self.extra_bytes), ("side", self.side)):
            if value < 0:
                raise InputError(name, str(value), "at least 0")

    def counts(self, classes: int) -> tuple[int, ...]:
        """Clouds of each of `classes` classes.

        Raises:
            InputError: the budget is one for another number of classes.
        """
        if isinstance(self.clouds_per_class, int):
            return (self.clouds_per_class,) * classes
        if len(self.clouds_per_class) != classes:
            raise InputError("clouds_per_class", f"{len(self.clouds_per_class)} numbers", f"{classes}, one for a class")
        return self.clouds_per_class

    @property
    def cloud_bytes(self) -> int:
        """Bytes of one cloud as raw codes, all counted; of a grid, which is always coded, what is to be expected."""
        if self.side:
            return max(1, self.side**2 // 10) + self.extra_bytes
        return -(-self.points * 3 * self.bits // 8) + self.extra_bytes


def check_bits(bits: int) -> None:
    """Raise `InputError` unless coordinates can be stored in `bits` bits."""
    if bits not in (16, 32) and not 2 <= bits <= 12:
        raise InputError("bits", str(bits), "2 to 12 (fixed point), 16 or 32 (floating point)")


class Storage(ABC):
    """Numbers that decode into labelled clouds.

    A subclass is one file and one `storages.register(name, cites=...)`. Class names and the order of clouds (class by
    class) are the container's business; a storage holds coordinates and, after `soften`, soft labels. Those are
    what decoded clouds carry; `labels` remain the classes that clouds are grouped and drawn by.
    """

    name: ClassVar[str]
    pace: ClassVar[Mapping[str, float]] = {}  # of what is learned: factors of the learning rate of coordinates
    patience: ClassVar[float] = 1.0  # of the steps that an objective likes, those that serve
    dense: ClassVar[bool] = False  # made of all points of a cloud, not of a budget's: a grid of cells (`Budget.side`)
    keeps_parts: ClassVar[bool] = False  # whether points may be labelled with the parts that they belong to
    side_bytes: ClassVar[int] = 0  # of a cloud besides coordinates and soft label
    labels: Tensor  # (N,) int64: hard labels, ascending
    class_names: tuple[str, ...]

    @classmethod
    @abstractmethod
    def from_clouds(cls, initial: PointClouds, budget: Budget) -> Self:
        """Storage whose decoded clouds are (as nearly as it can) `initial`, with hard labels.

        Raises:
            InputError: `initial` has not the number of clouds that `budget` asks for, or, unless the storage is
                `dense`, not that of points; or it has parts, which the storage does not keep (`refuse_parts`).
        """

    @classmethod
    @abstractmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int], class_names: tuple[str, ...]
    ) -> Self:
        """The inverse of `arrays` and `layout`; trusts neither.

        A storage that keeps parts takes their names, `PartNames` or None, as a fourth argument.

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

    def rate(self, decoded: PointClouds) -> Tensor:
        """Expected bits of a decoded point, differentiable in it: what distilling can be made to save.

        Raises:
            InputError: a storage whose size does not depend on where points are.
        """
        raise InputError(f"storage {self.name}", "a rate", "storage 'coded', whose size depends on its points")

    def kept(self, index: Tensor) -> Self:
        """A storage of the clouds at `index`, ascending, of which every class has some.

        Raises:
            InputError: a storage whose clouds share numbers, so that none can be left out.
        """
        raise InputError(f"storage {self.name}", "clouds to be left out", "one whose clouds are stored one by one")

    def to(self, device: str) -> None:
        """Have numbers, as new leaves, on a device; labels and choices, which only choose among them, stay."""
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(self, name, {key: _on(inner, device) for key, inner in value.items()})
            else:
                setattr(self, name, _on(value, device))

    def soften(self, labels: Tensor, *, learn: bool = False) -> None:
        """Keep soft labels from now on: `(N, C)` probabilities, fixed or to be learned too.

        Raises:
            InputError: of another shape or no probabilities; or a storage that keeps hard labels only.
        """
        raise InputError(f"storage {self.name}", "soft labels", "hard ones: it keeps no others")

    @classmethod
    def refuse_parts(cls, initial: PointClouds) -> None:
        """Raise `InputError` for clouds with parts, unless the storage keeps them."""
        if initial.parts is not None and not cls.keeps_parts:
            able = ", ".join(name for name in storages if storages[name].keeps_parts)
            raise InputError(f"storage {cls.name}", "clouds with parts", f"one that keeps them: {able}")

    @classmethod
    def costs(cls, real: CloudSource, budget: Budget) -> Tensor:
        """`(N,)` positive, in proportion to the bytes that each cloud of a set would take, as far as that is known."""
        return torch.ones(len(real.labels), dtype=torch.float64)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored arrays, exactly as in the artefact."""
        return sum(array.nbytes for array in self.arrays().values())

    def __len__(self) -> int:
        return len(self.labels)


def _on(value: Any, device: str) -> Any:
    """A tensor of numbers on a device; anything else, and what is there already, as it is."""
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.device == torch.device(device):
        return value
    return value.detach().to(device).requires_grad_(value.requires_grad)


storages: Registry[type[Storage]] = Registry("storage", group="pcdistill.storages")


def check_counts(initial: PointClouds, budget: Budget) -> None:
    """Raise `InputError` unless `initial` has, class by class, as many clouds and points as `budget` says."""
    counts = torch.tensor(budget.counts(initial.num_classes))
    labels = torch.arange(initial.num_classes).repeat_interleave(counts)
    wanted = (len(labels), budget.points, 3)
    if initial.points.shape != wanted or not torch.equal(initial.hard_labels, labels):
        found = f"shape {tuple(initial.points.shape)}"
        raise InputError("initial clouds", found, f"{wanted}, class by class, as many of each as budgeted")


def counts_array(labels: Tensor, classes: int) -> Arrays:
    """Array `counts` of clouds per class, where not every class has the same number."""
    counts = torch.bincount(labels, minlength=classes)
    if counts.max() > 65535:
        raise InputError("counts", f"{int(counts.max())} clouds of a class", "at most 65535")
    return {} if (counts == counts[0]).all() else {"counts": counts.numpy().astype(np.uint16)}


def stored_labels(arrays: Mapping[str, np.ndarray[Any, Any]], clouds: int, classes: int) -> Tensor:
    """Hard labels, ascending, of `clouds` clouds by array `counts`, without which every class has as many.

    Raises:
        InputError: counts that do not fit.
    """
    counts = arrays.get("counts")
    if counts is None:
        if clouds < 1 or clouds % classes:
            raise InputError("codes", f"{clouds} clouds", f"a multiple of {classes} classes")
        return torch.arange(classes).repeat_interleave(clouds // classes)
    if counts.dtype != np.uint16 or counts.shape != (classes,) or not counts.all() or counts.sum() != clouds:
        found = f"{counts.dtype} of shape {counts.shape}, {int(counts.sum())} clouds in all"
        raise InputError("counts", found, f"uint16 of shape ({classes},), {clouds} in all, none 0")
    return torch.arange(classes).repeat_interleave(torch.from_numpy(counts.astype(np.int64)))

"""`PointClouds`: the value that flows through every room of the package."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import torch
from torch import Tensor

from pcdistill.clouds.parts import PartNames, checked_parts
from pcdistill.clouds.source import Provenance
from pcdistill.core.errors import InputError

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset


@dataclass(frozen=True, eq=False)
class PointClouds:
    """A labelled set of 3D point clouds, immutable and checked when made.

    It is a data set as torch has them: `clouds[3]` is the pair (points, label), with parts a triple, a `DataLoader`
    takes it as it is. Indexed by anything else (a slice, a mask, indices) it gives a set.

    Args:
        points: `(N, P, 3)`, made float32; N and P at least 1, all finite. Readers of this package
            deliver them centred, scaled to the unit sphere, with z up unless the provenance says so. Of points that are
            differentiated through, values are not looked at: who differentiates looks at the loss.
        labels: `(N,)` class indices, made int64, or `(N, C)` float soft labels whose rows are
            probabilities.
        class_names: one name per class, unique.
        classes: `(N,)` class that each cloud stands for, where its soft label may find another one more probable.
        provenance: where the clouds come from: `name`, `split`, `source`, `up_axis`, ...
        parts: `(N, P)` part that each point belongs to, made int64; of a set with hard labels.
        part_names: what parts there are, and which class has which; with `parts`, and not without.

    Raises:
        InputError: naming the field, what was found and what was expected.
    """

    points: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    provenance: Provenance = field(default_factory=dict)
    classes: Tensor | None = None
    parts: Tensor | None = None
    part_names: PartNames | None = None

    def __post_init__(self) -> None:
        place = str(self.provenance.get("source", "point clouds"))
        points = _checked_points(torch.as_tensor(self.points), place)
        names = checked_names(self.class_names, place)
        labels = _checked_labels(torch.as_tensor(self.labels), len(points), len(names), place)
        if self.classes is not None:
            _checked_labels(self.classes, len(points), len(names), place)
        for name, value in (
            ("points", points),
            ("labels", labels),
            ("class_names", names),
            ("parts", self._checked_parts(points, labels, place)),
            ("provenance", MappingProxyType(dict(self.provenance))),
        ):
            object.__setattr__(self, name, value)

    def _checked_parts(self, points: Tensor, labels: Tensor, place: str) -> Tensor | None:
        if (self.parts is None) != (self.part_names is None):
            found = "parts without names" if self.part_names is None else "names of parts, but no parts"
            raise InputError(place, found, "both or neither")
        if self.parts is None or self.part_names is None:
            return None
        if labels.ndim != 1:
            raise InputError(place, "soft labels of clouds with parts", "one class a cloud")
        if len(self.part_names.of_class) != self.num_classes:
            found = f"parts of {len(self.part_names.of_class)} classes"
            raise InputError(place, found, f"of all {self.num_classes}")
        return checked_parts(torch.as_tensor(self.parts), points, labels, self.part_names, place)

    @staticmethod
    def from_arrays(
        points: Any,
        labels: Any,
        class_names: Sequence[str] | None = None,
        points_per_cloud: int | None = 1024,
        normalise: bool = True,
        seed: int = 0,
        up_axis: str = "z",
        *,
        name: str = "arrays",
        parts: Any = None,
        part_names: "PartNames | Sequence[str] | None" = None,
    ) -> "PointClouds":
        """Arrays or tensors of one's own in the frame that everything here expects.

        Args:
            points: `(N, P, 3 or more)`, or a sequence of clouds `(P, 3 or more)` of any sizes; NumPy, torch or lists,
                any type of numbers. Columns after the third are dropped.
            labels: one a cloud: numbers of classes from 0; other things, such as strings; or probabilities `(N, C)`.
            class_names: in the order of the numbers or columns. None: of numbers and probabilities "0", "1", ...; of
                other things their names, sorted.
            points_per_cloud: larger clouds are sampled at so many, smaller ones filled up with repeats of their
                points. None: as many as they have, if all have the same number, else 1024.
            normalise: centre every cloud on the mean of its points and scale it to largest norm 1. Without, what is
                trained on them expects clouds of about that size all the same.
            seed: of what is sampled and repeated, cloud by cloud.
            up_axis: "z", "y" (turned, so that z is up) or "unspecified".
            name: of the set, for messages and for what is made of it.
            parts: of every cloud a number for each of its points: `(N, P)`, or a sequence of `(P,)`.
            part_names: in the order of the numbers; a class has the parts that occur in its clouds, unless `PartNames`
                say otherwise. None: "0", "1", ... up to the largest number.

        Raises:
            InputError: naming the cloud, for another shape, NaN, infinity, points that all coincide, or no label.
        """
        from pcdistill.clouds.arrays import from_arrays

        return from_arrays(
            points, labels, class_names, points_per_cloud, normalise, seed, up_axis, name, parts, part_names
        )

    def __len__(self) -> int:
        return len(self.points)

    def __reduce__(self) -> tuple[Any, ...]:
        """Made anew, and so checked, by `copy` and `pickle`, which cannot take a mapping proxy."""
        facts = dict(self.provenance)
        return PointClouds, (
            self.points, self.labels, self.class_names, facts, self.classes, self.parts, self.part_names,
        )  # fmt: skip

    def __repr__(self) -> str:
        name = self.provenance.get("name", "unnamed")
        parts = "" if self.part_names is None else f", {len(self.part_names)} parts"
        sizes = f"{len(self)} clouds x {self.points_per_cloud} points, {self.num_classes} classes{parts}"
        return f"PointClouds({name}: {sizes})"

    @property
    def points_per_cloud(self) -> int:
        return self.points.shape[1]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def hard_labels(self) -> Tensor:
        """`(N,)` int64: the labels themselves, of soft ones `classes`, or else the most probable."""
        if self.classes is not None:
            return self.classes
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(dim=1)

    @property
    def class_counts(self) -> Tensor:
        """`(C,)` int64: clouds per class by hard label."""
        return torch.bincount(self.hard_labels, minlength=self.num_classes)

    def batch(self, index: Tensor) -> Tensor:
        """Points of the clouds at `index`; see `CloudSource`."""
        return self.points[index]

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, ...]: ...

    @overload
    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> "PointClouds": ...

    def __getitem__(self, index: int | Tensor | Sequence[int] | slice) -> "tuple[Tensor, ...] | PointClouds":
        """One cloud and its label, or the clouds at `index`, classes unchanged.

        Args:
            index: a number (of Python, NumPy, or a tensor `()`): a pair, points `(P, 3)` and label `()` or `(C,)`, and
                third the parts `(P,)` if there are some. int64 indices, a boolean mask or a slice: a set.

        Raises:
            IndexError: no cloud of that number.
            InputError: no clouds at all.
        """
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
            if index.ndim == 0 and index.dtype != torch.bool:
                return tuple(values[index] for values in self._columns())
        classes = None if self.classes is None else self.classes[index]
        parts = None if self.parts is None else self.parts[index]
        return replace(self, points=self.points[index], labels=self.labels[index], classes=classes, parts=parts)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Pairs (points, label), one after the other; with parts triples."""
        return zip(*self._columns(), strict=True)

    def _columns(self) -> tuple[Tensor, ...]:
        return (self.points, self.labels) if self.parts is None else (self.points, self.labels, self.parts)

    def with_points(self, points: Tensor) -> "PointClouds":
        """The same labels and names on other coordinates `(N, P', 3)`; with parts, of the same points (P' = P)."""
        return replace(self, points=points)

    def at_points(self, index: Tensor | slice) -> "PointClouds":
        """Some points of every cloud, with their parts: `(N, K)` int64 places, or a slice that all clouds share."""
        if isinstance(index, slice):
            return replace(
                self, points=self.points[:, index], parts=None if self.parts is None else self.parts[:, index]
            )
        points = self.points.gather(1, index[..., None].expand(-1, -1, 3).to(self.points.device))
        parts = None if self.parts is None else self.parts.gather(1, index.to(self.parts.device))
        return replace(self, points=points, parts=parts)

    def without_parts(self) -> "PointClouds":
        """The same clouds as a set of objects alone."""
        return replace(self, parts=None, part_names=None)

    def with_classes(self, class_names: Sequence[str]) -> "PointClouds":
        """The same clouds among classes that hold all of theirs, in this order; soft labels are zero at new ones.

        Raises:
            InputError: a class of these clouds is not among them.
        """
        unknown = [name for name in self.class_names if name not in class_names]
        if unknown:
            place = str(self.provenance.get("name", "point clouds"))
            raise InputError(place, f"classes {', '.join(unknown)}", f"some of {', '.join(class_names)}")
        places = torch.tensor([class_names.index(name) for name in self.class_names])
        labels = places[self.labels] if self.labels.ndim == 1 else self.labels.new_zeros(len(self), len(class_names))
        if self.labels.ndim == 2:
            labels[:, places] = self.labels
        classes = None if self.classes is None else places[self.classes]
        part_names = self.part_names
        if part_names is not None:
            if len(class_names) != self.num_classes:
                place = str(self.provenance.get("name", "point clouds"))
                raise InputError(place, "clouds with parts among further classes", "those classes alone")
            order = places.argsort().tolist()
            part_names = PartNames(part_names.names, tuple(part_names.of_class[label] for label in order))
        return replace(self, labels=labels, class_names=tuple(class_names), classes=classes, part_names=part_names)

    def to_torch(self) -> "TensorDataset":
        """The same points and labels, and parts, as a `TensorDataset`, for code that asks for a torch `Dataset`."""
        from torch.utils.data import TensorDataset

        return TensorDataset(*self._columns())

    def to_open3d(self) -> list[Any]:
        """One `open3d.geometry.PointCloud` per cloud; axes and scale stay as they are.

        Raises:
            InputError: Open3D is not installed.
        """
        try:
            from open3d import geometry, utility
        except ImportError:
            raise InputError("to_open3d", "open3d is not installed", "pip install 'pcdistill[open3d]'") from None
        points = self.points.detach().cpu().double().numpy()
        return [geometry.PointCloud(utility.Vector3dVector(cloud)) for cloud in points]

    def fingerprint(self) -> str:
        """Hex SHA-256 over shapes, coordinates, labels and class names, and over parts where there are some."""
        digest = hashlib.sha256(repr((tuple(self.points.shape), self.class_names)).encode())
        digest.update(self.points.detach().contiguous().cpu().numpy().data)
        digest.update(self.labels.detach().contiguous().cpu().numpy().data)
        if self.parts is not None:
            digest.update(repr(self.part_names).encode())
            digest.update(self.parts.contiguous().cpu().numpy().data)
        return digest.hexdigest()


def _checked_points(points: Tensor, place: str) -> Tensor:
    if points.ndim != 3 or points.shape[-1] != 3:
        raise InputError(place, f"points of shape {tuple(points.shape)}", "(clouds, points, 3)")
    if not points.is_floating_point():
        raise InputError(place, f"points of type {points.dtype}", "floating point")
    if len(points) == 0 or points.shape[1] == 0:
        raise InputError(place, f"{len(points)} clouds of {points.shape[1]} points", "at least one of each")
    points = points.to(torch.float32)
    if points.grad_fn is not None:
        return points  # made by a storage that is learned: to look at values at every step is to wait for a device
    bad = (~torch.isfinite(points.detach()).flatten(1).all(dim=1)).nonzero()
    if len(bad):
        raise InputError(place, f"cloud {int(bad[0])} has NaN or infinite coordinates", "finite ones")
    return points


def checked_names(names: Iterable[str], place: str) -> tuple[str, ...]:
    """Names of classes, or InputError: not strings, empty ones, or two that are the same."""
    if not isinstance(names, str) and isinstance(names, Iterable):
        names = tuple(names)
    if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
        raise InputError(place, f"class names {names!r}", "a sequence of non-empty strings")
    if len(names) == 0 or len(set(names)) != len(names):
        raise InputError(place, f"class names {list(names)}", "at least one, all different")
    return tuple(names)


def _checked_labels(labels: Tensor, clouds: int, classes: int, place: str) -> Tensor:
    if labels.shape not in ((clouds,), (clouds, classes)):
        raise InputError(place, f"labels of shape {tuple(labels.shape)}", f"({clouds},) or ({clouds}, {classes})")
    if labels.ndim == 2:
        return _checked_soft(labels, place)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(place, f"labels of type {labels.dtype}", "integers")
    labels = labels.to(torch.int64)
    bad = ((labels < 0) | (labels >= classes)).nonzero()
    if len(bad):
        at = int(bad[0])
        raise InputError(place, f"label {int(labels[at])} of cloud {at}", f"0 to {classes - 1} for {classes} classes")
    return labels


def _checked_soft(labels: Tensor, place: str) -> Tensor:
    labels = labels.to(torch.float32)
    if labels.grad_fn is not None:
        return labels  # as of points
    values = labels.detach()
    rows = torch.isfinite(values).all(1) & (values >= 0).all(1) & ((values.sum(1) - 1).abs() < 1e-3)
    if not rows.all():
        raise InputError(place, f"soft label {int((~rows).nonzero()[0])} is not a distribution", "rows that sum to 1")
    return labels

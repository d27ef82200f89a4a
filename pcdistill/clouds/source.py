"""What the package knows of a real set: a labelled set read a batch at a time, with weights or without."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from pcdistill.core.errors import InputError

if TYPE_CHECKING:
    from pcdistill.clouds.parts import PartNames

Provenance = Mapping[str, str | int | float | bool]


class CloudSource(Protocol):
    """A labelled set read a batch at a time, in memory or on disk.

    `PointClouds` is one, `data.StreamedClouds`, for files larger than memory, another.
    """

    @property
    def labels(self) -> Tensor: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def points_per_cloud(self) -> int: ...

    @property
    def provenance(self) -> Provenance: ...

    @property
    def hard_labels(self) -> Tensor:
        """`(N,)` int64: one class per cloud."""
        ...

    def batch(self, index: Tensor) -> Tensor:
        """Points `(len(index), P, 3)` float32 of the clouds at `index`, ascending int64."""
        ...

    def fingerprint(self) -> str:
        """Hex digest of the content: equal digests mean equal clouds, labels and class names."""
        ...


class Weighted:
    """A `CloudSource` whose clouds count unequally where objectives draw some of them, or average over a class.

    A weight acts within its class: every class counts as much as without weights, except where whole batches are drawn
    (the experts of `tm`). Equal weights in a class are none. Surrogates are made on clouds without weights (`uniform`).

    Args:
        whole: the set.
        weights: `(N,)`, made float64; finite, 0 or more, in every class one above 0 at least. Zero: never drawn.

    Raises:
        InputError: other weights.
    """

    def __init__(self, whole: CloudSource, weights: Tensor) -> None:
        place, labels = "weights of clouds", whole.hard_labels
        if weights.shape != labels.shape:
            raise InputError(place, f"shape {tuple(weights.shape)}", f"({len(labels)},)")
        weights = weights.to(torch.float64)
        bad = (~(weights.isfinite() & (weights >= 0))).nonzero()
        if len(bad):
            raise InputError(place, f"{float(weights[bad[0]])} of cloud {int(bad[0])}", "a finite one, 0 or more")
        seen = torch.bincount(labels, weights=weights, minlength=len(whole.class_names))
        empty = ((seen == 0) & (torch.bincount(labels, minlength=len(seen)) > 0)).nonzero()
        if len(empty):
            name = whole.class_names[int(empty[0])]
            raise InputError(place, f"none above 0 in class '{name}'", "at least one")
        self.whole, self.weights = whole, weights
        self.class_names, self.points_per_cloud = whole.class_names, whole.points_per_cloud
        self.labels, self.hard_labels = whole.labels, labels

    @property
    def provenance(self) -> Provenance:
        """That of the set; not kept here, as a mapping proxy cannot be pickled."""
        return self.whole.provenance

    def batch(self, index: Tensor) -> Tensor:
        """Points of the clouds at `index`; see `CloudSource`."""
        return self.whole.batch(index)

    def fingerprint(self) -> str:
        """Hex SHA-256 of the set's fingerprint and the weights: what is cached of the one is not of the other."""
        digest = hashlib.sha256(self.whole.fingerprint().encode())
        digest.update(self.weights.numpy().data)
        return digest.hexdigest()


def uniform(source: CloudSource) -> CloudSource:
    """The set without weights."""
    return source.whole if isinstance(source, Weighted) else source


def weights_of(source: CloudSource) -> Tensor | None:
    """`(N,)` float64 weights of the clouds of a set; None where all count the same."""
    return source.weights if isinstance(source, Weighted) else None


class Placed:
    """A `CloudSource` whose points are on a device.

    Those of a set in memory are moved when they are first asked for, all of them and once, those of another with every
    batch. Labels and indices stay on the processor, where what is drawn and counted by them waits for no device.
    """

    def __init__(self, whole: CloudSource, device: torch.device) -> None:
        self.whole, self.device = whole, device
        self.class_names, self.points_per_cloud = whole.class_names, whole.points_per_cloud
        self.labels, self.hard_labels = whole.labels, whole.hard_labels
        self._points: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the points on the device: another process moves them itself."""
        return {**vars(self), "_points": None}

    @property
    def provenance(self) -> Provenance:
        """That of the set."""
        return self.whole.provenance

    def batch(self, index: Tensor) -> Tensor:
        """Points of the clouds at `index`, on the device; see `CloudSource`."""
        if self._points is None:
            points: Tensor | None = getattr(self.whole, "points", None)
            if points is None:
                return self.whole.batch(index).to(self.device)
            self._points = points.to(self.device)
        return self._points[index]

    def fingerprint(self) -> str:
        """That of the set: its content is the same everywhere."""
        return self.whole.fingerprint()


def placed(source: CloudSource, device: str) -> CloudSource:
    """The set with its points on a device; on the processor, where they are read, the set itself."""
    if torch.device(device).type == "cpu":
        return source
    if isinstance(source, Weighted):
        return Weighted(placed(source.whole, device), source.weights)
    return Placed(source, torch.device(device))


def device_of(source: CloudSource) -> torch.device:
    """Where the points of a set are."""
    whole = uniform(source)
    return whole.device if isinstance(whole, Placed) else torch.device("cpu")


def in_memory(source: CloudSource) -> CloudSource:
    """The set without weights and where it was read, whatever device its points are taken to."""
    whole = uniform(source)
    return whole.whole if isinstance(whole, Placed) else whole


def parts_of(source: CloudSource) -> "tuple[Tensor, PartNames] | None":
    """Parts `(N, P)` of the points of a set in memory, and their names; None of one that has none, as one on disk."""
    whole = in_memory(source)
    parts, names = getattr(whole, "parts", None), getattr(whole, "part_names", None)
    return None if parts is None or names is None else (parts, names)

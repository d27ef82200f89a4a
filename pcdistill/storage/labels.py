"""Soft labels, rounded: a byte per cloud and class, or levels that are entropy-coded. Learned through the rounding."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage.base import Arrays, Storage
from pcdistill.storage.coding import Ints
from pcdistill.storage.label_coding import LEVELS, decode_levels, encode_levels

LABEL_PACE = 10.0
"""Learning rate of logits in units of that of coordinates.

A step of 0.02 that is large for a coordinate moves a probability by 0.005 at most. The factor is a round number that
makes both kinds of learned values cross their range in about as many steps; it was not tuned.
"""


def smoothed(labels: Tensor, classes: int, own: float) -> Tensor:
    """`(N,)` class indices as `(N, C)` probabilities: `own` for the class itself, the rest shared equally.

    Label smoothing (Szegedy et al. 2016), who write it as a mixture with the uniform distribution.
    """
    if classes == 1:
        return torch.ones(len(labels), 1)
    shared = torch.full((len(labels), classes), (1 - own) / (classes - 1))
    return shared.scatter(1, labels[:, None], own)


class Rounding(NamedTuple):
    """Codes of probabilities as shares of the cloud's largest: round(top · share^(1 / power)).

    Attributes:
        top: code of the most probable class of every cloud.
        power: 1 for equal steps of probability; 2 for steps that grow with it, as small ones are many and say much.
    """

    top: int
    power: int

    @property
    def floor(self) -> float:
        """Share that stands for code 0: finite as a logit, and rounds to 0."""
        return float((0.25 / self.top) ** self.power)

    def logits(self, probabilities: Tensor) -> Tensor:
        """Finite logits `(N, C)` float32, zero for the likeliest class, whose codes are those of `probabilities`."""
        shares = probabilities.detach().to(torch.float32)
        return (shares / shares.amax(1, keepdim=True)).clamp_min(self.floor).log()

    def codes(self, logits: Tensor) -> Tensor:
        """Codes `(N, C)` uint8; the largest of every cloud is `top`."""
        exact = logits.detach()
        shares: Tensor = ((exact - exact.amax(1, keepdim=True)) / self.power).exp()
        return (shares * self.top).round().to(torch.uint8)

    def probabilities(self, codes: Tensor) -> Tensor:
        """Codes to the `power`, over the sum of a cloud's, float32."""
        values = codes.to(torch.float32) ** self.power
        return values / values.sum(1, keepdim=True)

    def through(self, logits: Tensor) -> Tensor:
        """Probabilities exactly as they will be read back, with the gradient of the softmax (straight through)."""
        stored = self.probabilities(self.codes(logits)).to(logits.dtype)
        if not (logits.requires_grad and torch.is_grad_enabled()):
            return stored
        soft = logits.softmax(1)
        return stored + (soft - soft.detach())

    def restored(self, codes: np.ndarray[Any, Any]) -> Tensor:
        """Logits of stored codes `(N, C)`, which are not trusted.

        Raises:
            InputError: a cloud whose largest code is not `top` (all zeros among them).
        """
        largest = codes.max(axis=1)
        if (largest != self.top).any():
            at = int((largest != self.top).argmax())
            raise InputError("labels", f"largest code {largest[at]} of cloud {at}", f"{self.top} in every cloud")
        return self.logits(torch.from_numpy(codes.astype(np.float32)) ** self.power)


BYTES, CODED = 1, 2  # what a layout says of how labels are kept
ROUNDINGS = {BYTES: Rounding(255, 1), CODED: Rounding(LEVELS - 1, 2)}
# Of more classes than this, labels that are coded use every third level: half the bytes, and the clouds in their place
# are worth more than what is finer (docs/notebook/18-taught-voxels.md). Readers know all levels, whatever the classes.
FEW = 20
COARSE = Rounding((LEVELS - 1) // 3, 2)


def stored_bytes(stored: np.ndarray[Any, Any] | None, clouds: int, classes: int) -> np.ndarray[Any, Any]:
    """Codes of labels that are kept as bytes.

    Raises:
        InputError: missing, or of another type or shape.
    """
    wanted = f"uint8 of shape ({clouds}, {classes})"
    if stored is None:
        raise InputError("labels", "missing", wanted)
    if stored.dtype != np.uint8 or stored.shape != (clouds, classes):
        raise InputError("labels", f"{stored.dtype} of shape {stored.shape}", wanted)
    return stored


def stored_levels(stored: np.ndarray[Any, Any] | None, classes: Ints, names: int) -> Ints:
    """Codes of labels that are coded, of clouds that stand under `classes`.

    Raises:
        InputError: missing, of another type, or no stream of as many levels.
    """
    if stored is None or stored.dtype != np.uint8 or stored.ndim != 1:
        found = "missing" if stored is None else f"{stored.dtype} of shape {stored.shape}"
        raise InputError("labels", found, "uint8 of one dimension")
    return decode_levels(stored, classes, names)


def soften_by(storage: Storage, label: Callable[[Tensor], Tensor], *, learn: bool = False) -> None:
    """Give a storage the soft labels `(N, C)` that `label` has for its clouds `(N, P, 3)`, as they are read.

    Raises:
        InputError: as `Storage.soften`.
    """
    with torch.no_grad():
        points = storage.decode().points
    storage.soften(label(points), learn=learn)


class SoftStorage(Storage):
    """A storage that may keep soft labels beside whatever it keeps of coordinates.

    Learned ones take a byte per cloud and class, so that their size is known before they are. Those that are fixed are
    coded, in a storage that codes (`codes_labels`).

    Attributes:
        label_logits: `(N, C)` with soft labels, else None; learned if it requires a gradient.
        label_kind: `BYTES` or `CODED`, as read from a file or chosen by `soften`.
    """

    codes_labels: ClassVar[bool] = False
    label_logits: Tensor | None = None
    label_kind: int = BYTES

    def soften(self, labels: Tensor, *, learn: bool = False) -> None:
        shape = (len(self), len(self.class_names))
        if labels.shape != shape:
            raise InputError("soft labels", f"shape {tuple(labels.shape)}", f"{shape}")
        source = {"source": "soft labels"}
        checked = PointClouds(torch.zeros(len(labels), 1, 3), labels, self.class_names, source).labels
        self.label_kind = CODED if self.codes_labels and not learn else BYTES
        if self.label_kind == CODED and len(self.class_names) > FEW:
            checked = COARSE.probabilities(COARSE.codes(COARSE.logits(checked)))
        self.label_logits = ROUNDINGS[self.label_kind].logits(checked).requires_grad_(learn)

    def soft_arrays(self) -> Arrays:
        """What is kept of soft labels: nothing where there are none."""
        if self.label_logits is None:
            return {}
        codes = ROUNDINGS[self.label_kind].codes(self.label_logits).cpu().numpy()
        return {"labels": codes if self.label_kind == BYTES else encode_levels(codes, self.labels.numpy())}

    def soft_layout(self) -> dict[str, int]:
        """What the layout says of them."""
        return {} if self.label_logits is None else {"soft_labels": self.label_kind}

    def soft_learned(self) -> dict[str, Tensor]:
        """Their logits, if they are learned."""
        logits = self.label_logits
        return {} if logits is None or not logits.requires_grad else {"labels": logits}

    def restore_soft(self, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int]) -> None:
        """Take over the soft labels of a layout that has them; trusts neither.

        Raises:
            InputError: a kind of labels that this storage does not keep, or labels that do not fit.
        """
        kind, stored, names = layout.get("soft_labels"), arrays.get("labels"), len(self.class_names)
        if "label_views" in layout:
            found = f"{layout['label_views']!r:.80}, labels of each cloud"
            raise InputError("layout 'label_views'", found, "one label a cloud (pcdistill 0.1 reads several)")
        if kind is None:
            return
        if type(kind) is not int or kind not in (BYTES, CODED) or (kind == CODED and not self.codes_labels):
            wanted = "1 or 2, or no such field" if self.codes_labels else "1, or no such field"
            raise InputError("layout 'soft_labels'", repr(kind), wanted)
        if kind == BYTES:
            codes = stored_bytes(stored, len(self), names)
        else:
            codes = stored_levels(stored, self.labels.numpy(), names)
        self.label_kind, self.label_logits = kind, ROUNDINGS[kind].restored(codes)

    def keep_soft(self, other: "SoftStorage", index: Tensor) -> None:
        """Take over the soft labels that `other`, of the same kind of storage, has of the clouds at `index`."""
        if other.label_logits is not None:
            self.label_kind = other.label_kind
            self.label_logits = other.label_logits.detach()[index].requires_grad_(other.label_logits.requires_grad)

    def labelled(self, points: Tensor, chosen: Tensor | slice) -> PointClouds:
        """`points` of the `chosen` clouds with their labels, differentiable in soft ones."""
        soft = self.label_logits
        labels = self.labels[chosen] if soft is None else ROUNDINGS[self.label_kind].through(soft[chosen])
        classes = None if soft is None else self.labels[chosen]
        return PointClouds(points, labels, self.class_names, {"source": f"storage '{self.name}'"}, classes)

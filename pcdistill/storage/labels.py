"""Soft labels at one byte per cloud and class, learned as logits through the rounding."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.errors import InputError
from pcdistill.storage.base import Arrays, Storage

TOP = 255  # code of the most probable class of every cloud
FLOOR = 0.25 / TOP  # share of the most probable class that stands for code 0: finite as a logit, and rounds to 0
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


def to_logits(probabilities: Tensor) -> Tensor:
    """Finite logits `(N, C)` float32, zero for the most probable class, whose codes are those of `probabilities`."""
    shares = probabilities.detach().to(torch.float32)
    return (shares / shares.amax(1, keepdim=True)).clamp_min(FLOOR).log()


def to_codes(logits: Tensor) -> Tensor:
    """Codes `(N, C)` uint8 in proportion to the probabilities; the largest of every cloud is 255."""
    exact = logits.detach()
    shares: Tensor = (exact - exact.amax(1, keepdim=True)).exp()
    return (shares * TOP).round().to(torch.uint8)


def to_probabilities(codes: Tensor) -> Tensor:
    """Codes over the sum of a cloud's codes, float32."""
    values = codes.to(torch.float32)
    return values / values.sum(1, keepdim=True)


def labels_through(logits: Tensor) -> Tensor:
    """Probabilities exactly as they will be read back, with the gradient of the softmax (straight through)."""
    stored = to_probabilities(to_codes(logits)).to(logits.dtype)
    if not (logits.requires_grad and torch.is_grad_enabled()):
        return stored
    soft = logits.softmax(1)
    return stored + (soft - soft.detach())


def from_codes(stored: np.ndarray[Any, Any] | None, clouds: int, classes: int) -> Tensor:
    """Logits of stored codes, which are not trusted.

    Raises:
        InputError: missing, of another type or shape, or a cloud whose largest code is not 255 (all zeros among them).
    """
    wanted = f"uint8 of shape ({clouds}, {classes})"
    if stored is None:
        raise InputError("labels", "missing", wanted)
    if stored.dtype != np.uint8 or stored.shape != (clouds, classes):
        raise InputError("labels", f"{stored.dtype} of shape {stored.shape}", wanted)
    largest = stored.max(axis=1)
    if (largest != TOP).any():
        at = int((largest != TOP).argmax())
        raise InputError("labels", f"largest code {largest[at]} of cloud {at}", f"{TOP} in every cloud")
    return to_logits(torch.from_numpy(stored.astype(np.float32)))


class SoftStorage(Storage):
    """A storage that may keep soft labels: a byte per cloud and class beside whatever it keeps of coordinates.

    Attributes:
        label_logits: `(N, C)` with soft labels, else None; learned if it requires a gradient.
    """

    label_logits: Tensor | None = None

    def soften(self, labels: Tensor, *, learn: bool = False) -> None:
        wanted = (len(self), len(self.class_names))
        if labels.shape != wanted:
            raise InputError("soft labels", f"shape {tuple(labels.shape)}", f"{wanted}")
        checked = PointClouds(torch.zeros(len(self), 1, 3), labels, self.class_names, {"source": "soft labels"}).labels
        self.label_logits = to_logits(checked).requires_grad_(learn)

    def soft_arrays(self) -> Arrays:
        """What is kept of soft labels: nothing where there are none."""
        return {} if self.label_logits is None else {"labels": to_codes(self.label_logits).numpy()}

    def soft_layout(self) -> dict[str, int]:
        """What the layout says of them."""
        return {} if self.label_logits is None else {"soft_labels": 1}

    def soft_learned(self) -> dict[str, Tensor]:
        """Their logits, if they are learned."""
        logits = self.label_logits
        return {} if logits is None or not logits.requires_grad else {"labels": logits}

    def restore_soft(self, arrays: Mapping[str, np.ndarray[Any, Any]], layout: Mapping[str, int]) -> None:
        """Take over the soft labels of a layout that has them; trusts neither."""
        if "soft_labels" in layout:
            self.label_logits = from_codes(arrays.get("labels"), len(self), len(self.class_names))

    def labelled(self, points: Tensor, chosen: Tensor | slice) -> PointClouds:
        """`points` of the `chosen` clouds with their labels, differentiable in soft ones."""
        soft = self.label_logits
        labels = self.labels[chosen] if soft is None else labels_through(soft[chosen])
        classes = None if soft is None else self.labels[chosen]
        return PointClouds(points, labels, self.class_names, {"source": f"storage '{self.name}'"}, classes)


def check_soft(layout: Mapping[str, int]) -> None:
    """Raise `InputError` unless a layout, which is not trusted, says of soft labels what a writer would."""
    if type(layout.get("soft_labels", 1)) is not int or layout.get("soft_labels", 1) != 1:
        raise InputError("layout 'soft_labels'", repr(layout["soft_labels"]), "1, or no such field")

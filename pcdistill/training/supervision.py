"""Who labels a batch: the set itself, or a teacher."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from pcdistill.models import Network


class Batch(NamedTuple):
    """What networks are shown at a step, and its labels."""

    points: Tensor  # (B, N, 3), augmented
    labels: Tensor  # (B,) class indices, or (B, C) probabilities
    classes: Tensor  # (B,) class that each cloud stands for
    step: int  # from 0
    total: int  # steps of the training
    labelled: Tensor | None = None  # (B,) bool: whose probabilities hold; others have their class only. None: all


# The batch that is trained on, given the one that was drawn and the networks in training, each with its share of it.
OnBatch = Callable[[Batch, Sequence[Network]], Batch]


class Supervision(Protocol):
    """Who changes clouds or labels of the batches that networks are trained on; see `teaching`."""

    @property
    def follows(self) -> bool:
        """Whether it looks at the network in training: then networks are trained one by one."""
        ...

    def begin(self, seeds: Sequence[int]) -> OnBatch:
        """What is called at every step of one training of the networks with these seeds."""
        ...

"""What every selection method has in common: its signature, its registry, its door check."""

from inspect import signature
from typing import Protocol, cast

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry


class Selector(Protocol):
    """Chooses clouds of one class by their features.

    Takes features `(n, D)`, the number of clouds to choose, and a generator (deterministic methods
    leave it alone). Gives `(count,)` int64 on the processor, all different, in order of importance:
    the first k are what to keep when only k can stay. Ties go to the lowest index.

    Raises:
        InputError: count below 1 or above n, or features that are not finite `(n, D)`.
    """

    def __call__(self, features: Tensor, count: int, generator: torch.Generator) -> Tensor: ...


class CostlySelector(Protocol):
    """A `Selector` that also looks at what storing each cloud takes, `(n,)`, where that is known."""

    def __call__(self, features: Tensor, count: int, generator: torch.Generator, *, costs: Tensor) -> Tensor: ...


selectors: Registry[Selector] = Registry("selection", group="pcdistill.selectors")


def exact_features(features: Tensor, count: int) -> Tensor:
    """Features as float64 on the processor, so that rounding decides no choice; bad ones are refused."""
    if features.ndim != 2:
        raise InputError("selection", f"features of shape {tuple(features.shape)}", "(clouds, channels)")
    if not 1 <= count <= len(features):
        raise InputError("selection", f"count {count}", f"1 to {len(features)}, the clouds to choose from")
    features = features.detach().cpu().double()
    if not features.isfinite().all():
        raise InputError("selection", "features with NaN or infinite values", "finite ones")
    return features


def weighs_costs(selector: Selector) -> CostlySelector | None:
    """The method as one that looks at what storing a cloud takes; None if it does not."""
    return cast(CostlySelector, selector) if "costs" in signature(selector).parameters else None

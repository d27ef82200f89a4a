"""What every selection method has in common: its signature, its registry, its door check."""

from collections.abc import Callable
from inspect import signature
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry


class Selector(Protocol):
    """Chooses clouds of one class by their features.

    Takes features `(n, D)`, the number of clouds to choose, and a generator (deterministic methods
    leave it alone). Gives `(count,)` int64 on the processor, all different, in order of importance:
    the first k are what to keep when only k can stay. Ties go to the lowest index.

    What else it looks at it asks for by name, as further parameters: `costs`, what storing each cloud takes, with a
    default for where that is not known; `el2n` and `aum`, how hard each was for networks (`Dynamics`); each `(n,)`. And
    `skip`, with a default: the share of the class, its hardest clouds, that is left out where enough others are there.

    Raises:
        InputError: count below 1 or above n, or features that are not finite `(n, D)`.
    """

    def __call__(
        self, features: Tensor, count: int, generator: torch.Generator, *more: Any, **asked: Any
    ) -> Tensor: ...


selectors: Registry[Selector] = Registry("selection", group="pcdistill.selectors")

Method = TypeVar("Method", bound=Callable[..., Tensor])


def compares_trained(method: Method) -> Method:
    """Decorator of a method that compares clouds by features of trained networks, unless others are named."""
    method.__dict__["features"] = "trained"
    return method


def usual_features(selector: Selector) -> str:
    """Name of the features that a method compares clouds by, unless others are named: its attribute, else `raw`."""
    return str(getattr(selector, "features", "raw"))


def asked_by(selector: Selector) -> frozenset[str]:
    """Names of what a method looks at."""
    return frozenset(signature(selector).parameters)


def check_skip(method: str, skip: float | None) -> None:
    """Refuse a share that is to be left out by a method that leaves none out.

    Raises:
        InputError: naming the methods that do.
    """
    if skip is not None and "skip" not in asked_by(selectors[method]):
        able = " or ".join(name for name in selectors if "skip" in asked_by(selectors[name]))
        raise InputError("skip", f"with method {method}", able)


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


def distances(features: Tensor) -> Tensor:
    """`(n, n)` Euclidean distances of features `(n, D)`."""
    # The mode without a matrix product keeps the distance of a cloud to its copy exactly zero.
    return torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")


def without_hardest(hardness: Tensor, skip: float, count: int) -> Tensor:
    """Ascending indices of all clouds but the hardest share `skip`, or as many of these as leave `count`.

    Of equally hard ones the first go.

    Args:
        hardness: `(n,)`, more is harder.
    """
    out = min(int(skip * len(hardness)), len(hardness) - count)
    return hardness.argsort(descending=True, stable=True)[out:].sort().values

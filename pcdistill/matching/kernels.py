"""The squared maximum mean discrepancy of two samples (Gretton et al., JMLR 2012)."""

import torch
from torch import Tensor

KERNELS = 5


def class_mmd(values: Tensor, labels: Tensor, real: Tensor) -> Tensor:
    """`mmd` of the values `(B, ...)` of each class that occurs against `real (C, S, ...)`: `(K,)`, ascending class."""
    terms = [mmd(values[labels == label].flatten(1), real[label].flatten(1)) for label in labels.unique()]
    return torch.stack(terms)


def mmd(synthetic: Tensor, real: Tensor) -> Tensor:
    """Biased squared MMD of `(n, F)` and `(m, F)`, a scalar.

    The kernel is the mean of `KERNELS` Gaussian ones, `exp(-d^2 / h)`, with `h` from 1/4 to 4 times the mean squared
    distance over all pairs of both samples. That unit counts as a constant: it has no gradient.
    """
    both = torch.cat([synthetic, real])
    norms = both.square().sum(1)
    distance = (norms[:, None] + norms - 2 * both @ both.T).clamp_min(0)
    unit = bandwidth(distance.detach())
    powers = range(-(KERNELS // 2), KERNELS // 2 + 1)
    kernel = torch.stack([torch.exp(-distance / (unit * 2.0**power)) for power in powers]).mean(0)
    n = len(synthetic)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def bandwidth(distance: Tensor) -> Tensor:
    """The unit of squared distance among `(n + m, n + m)` of them, those of points to themselves included."""
    return distance.mean().clamp_min(1e-12)

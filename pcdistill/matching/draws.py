"""Random numbers of steps, and clouds augmented by them."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, weights_of
from pcdistill.core.errors import InputError
from pcdistill.training.augment import Augmentation, apply


def step_generator(purpose: str, seed: int, step: int) -> torch.Generator:
    """Random numbers for one step, the same whether or not the run was interrupted before it.

    Draws for different purposes are independent: from one stream, the first class of a minibatch and the
    network of the step would be the same number, so that a class would meet one network only.
    """
    digest = hashlib.sha256(f"{purpose} {seed} {step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))  # the generator keeps no more bits


def augmented(points: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """`(B, N, 3)` clouds, changed anew; the clouds themselves where the augmentation is none."""
    if augmentation == Augmentation():
        return points
    return apply(points, augmentation.draw(len(points), points.shape[1], generator))


def checked_real(real: CloudSource) -> None:
    """Raise `InputError` unless every class has hard-labelled clouds, two in all."""
    if real.labels.ndim != 1:
        raise InputError("real set", f"labels of shape {tuple(real.labels.shape)}", "one class index per cloud")
    counts = torch.bincount(real.labels, minlength=len(real.class_names))
    if int(counts.min()) == 0:
        raise InputError("real set", f"class '{real.class_names[int(counts.argmin())]}' is empty", "at least one cloud")
    if len(real.labels) < 2:
        raise InputError("real set", "1 cloud", "at least 2")


def _shares_of(real: CloudSource) -> Tensor | None:
    """`(N,)` float32 weights of mean 1 in every class, so that classes count as without; None without weights."""
    weights = weights_of(real)
    if weights is None:
        return None
    counts = torch.bincount(real.labels)
    means = torch.bincount(real.labels, weights=weights) / counts
    return (weights / means[real.labels]).float()


def _places(
    real: CloudSource, per_class: int, generator: torch.Generator, classes: Iterable[int] | None = None
) -> Tensor:
    """Ascending indices of up to `per_class` random clouds of each class, of all that occur by default.

    With weights, the next cloud of a class is always drawn with a probability in proportion to its weight among those
    that are left: the largest of log w + Gumbel noise (Kool et al., "Stochastic beams and where to find them", ICML
    2019). Clouds of weight zero are left out, even where a class has fewer others.
    """
    weights, chosen = weights_of(real), []
    for label in real.labels.unique().tolist() if classes is None else classes:
        own = (real.labels == label).nonzero()[:, 0]
        if weights is None or bool((weights[own] == weights[own[:1]]).all()):
            order = torch.randperm(len(own), generator=generator)
        else:
            own = own[weights[own] > 0]
            uniforms = torch.rand(len(own), generator=generator, dtype=torch.float64)
            order = (weights[own].log() - (-uniforms.log()).log()).argsort(descending=True)
        chosen.append(own[order[:per_class]])
    return torch.cat(chosen).sort().values


def random_clouds(
    real: CloudSource, classes: Iterable[int], per_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points and labels of up to `per_class` random real clouds of each class, by their weights if they have any."""
    index = _places(real, per_class, generator, classes)
    return real.batch(index), real.labels[index]

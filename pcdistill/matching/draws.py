"""Random numbers of steps, and clouds augmented by them."""

import hashlib

import torch
from torch import Tensor

from pcdistill.augment import Augmentation, apply


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

"""What a classifier's logits are compared with: hard labels, soft ones, or both."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

SoftLoss = Literal["kl", "mse"]

# Share of a cloud's most probable class that a probability of exactly zero stands for where its logarithm is needed.
# Stored labels are rounded to 255 levels, of which it is a quarter of the smallest; it is below what rounds to the
# smallest of the 16 levels of coded labels, too (0.25 / 225).
FLOOR = 0.25 / 255


def soft_cross_entropy(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross-entropy with probabilities given at a temperature, times its square.

    Its gradient is that of T² KL(targets || softmax(logits / T)) (Hinton, Vinyals & Dean 2015, section 2): the square
    keeps gradients of one size at all temperatures.

    Args:
        logits: `(B, C)` of the student.
        targets: `(B, C)` probabilities: a teacher's softmax(logits / T).
        temperature: T.

    Returns:
        `(B,)`.
    """
    return temperature**2 * cross_entropy(logits / temperature, targets, reduction="none")


def logit_error(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Half the mean square of what the student's logits differ from the teacher's, both centred.

    A teacher's logits are known from its probabilities up to a constant, which softmax does not see; both sides are
    therefore centred over the classes. It is what T² KL tends to for large T (Hinton et al. 2015, eq. 4), so that
    both losses are of one scale; Kim et al. ("Comparing Kullback-Leibler divergence and mean squared error loss in
    knowledge distillation", IJCAI 2021) use the sum of squares, uncentred. A probability of zero counts as `FLOOR`
    of the largest one.

    Args, returns: as `soft_cross_entropy`.
    """
    least = FLOOR * targets.amax(1, keepdim=True)
    logs = temperature * torch.where(targets > 0, targets, least).log()
    gap = (logits - logits.mean(1, keepdim=True)) - (logs - logs.mean(1, keepdim=True))
    return gap.square().mean(1) / 2


SOFT_LOSSES = {"kl": soft_cross_entropy, "mse": logit_error}


def label_losses(
    logits: Tensor,
    labels: Tensor,
    classes: Tensor,
    *,
    smoothing: float = 0.0,
    soft: SoftLoss = "kl",
    temperature: float = 1.0,
    hard: float = 0.0,
    labelled: Tensor | None = None,
) -> Tensor:
    """The loss of every cloud under its label.

    Args:
        logits: `(B, C)`.
        labels: `(B,)` class indices, or `(B, C)` probabilities.
        classes: `(B,)` class that each cloud stands for.
        smoothing: of hard labels (Szegedy et al. 2016).
        soft, temperature: loss under soft labels, and the temperature that they are given at.
        hard: weight, beside soft labels, of the cross-entropy with `classes`; that of the soft loss is the rest.
        labelled: `(B,)` bool, beside soft labels: clouds that these hold for; others have their class only. None: all.

    Returns:
        `(B,)`.
    """
    if labels.ndim == 1:
        return cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    of_label = SOFT_LOSSES[soft](logits, labels, temperature)
    if hard == 0 and labelled is None:
        return of_label
    of_class = cross_entropy(logits, classes, label_smoothing=smoothing, reduction="none")
    both = hard * of_class + (1 - hard) * of_label
    return both if labelled is None else torch.where(labelled, both, of_class)


def part_losses(logits: Tensor, parts: Tensor, smoothing: float = 0.0) -> Tensor:
    """The mean loss of every cloud's points under their parts.

    Args:
        logits: `(B, N, L)`.
        parts: `(B, N)` int64.
        smoothing: as in `label_losses`.

    Returns:
        `(B,)`.
    """
    each = cross_entropy(logits.flatten(0, 1), parts.flatten(), label_smoothing=smoothing, reduction="none")
    return each.view(parts.shape).mean(1)

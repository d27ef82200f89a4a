"""The losses of labels, against Hinton's formulas written out and PyTorch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from pcdistill.training.losses import SOFT_LOSSES, label_losses, logit_error, soft_cross_entropy


def numbers(seed: int, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, 6, classes, generator=generator, dtype=torch.float64)
    return student, teacher


@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 8))
def test_the_gradient_is_that_of_scaled_kl(seed: int, temperature: float) -> None:
    student, teacher = numbers(seed)
    student.requires_grad_()
    targets = (teacher / temperature).softmax(1)
    (ours,) = torch.autograd.grad(soft_cross_entropy(student, targets, temperature).sum(), student)
    logs = (student / temperature).log_softmax(1)
    theirs = temperature**2 * kl_div(logs, targets, reduction="sum")
    torch.testing.assert_close(ours, torch.autograd.grad(theirs, student)[0])


def test_at_the_teachers_logits_nothing_pulls() -> None:
    _, teacher = numbers(0)
    for loss in SOFT_LOSSES.values():
        student = (teacher + 1).requires_grad_()  # softmax does not see a constant
        (pull,) = torch.autograd.grad(loss(student, (teacher / 3).softmax(1), 3.0).sum(), student)
        assert pull.abs().max() < 1e-12


def test_logit_error_is_the_limit_of_kl() -> None:
    """Hinton et al. 2015, equation 4."""
    student, teacher = numbers(1)
    temperature = 1e4
    targets = (teacher / temperature).softmax(1)
    entropy = -(temperature**2) * (targets * targets.log()).sum(1)
    kl = soft_cross_entropy(student, targets, temperature) - entropy
    torch.testing.assert_close(logit_error(student, targets, temperature), kl, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("soft", list(SOFT_LOSSES))
def test_derivatives(soft: str) -> None:
    student, teacher = numbers(2)
    targets = (teacher / 2).softmax(1)
    assert torch.autograd.gradcheck(lambda logits: SOFT_LOSSES[soft](logits, targets, 2.0), student.requires_grad_())


def test_a_probability_of_zero_is_finite() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0]])
    assert logit_error(torch.zeros(1, 3), targets).isfinite().all()


def test_hard_and_soft_are_mixed() -> None:
    student, teacher = numbers(3)
    targets, classes = teacher.softmax(1), torch.arange(6) % 5
    found = label_losses(student, targets, classes, hard=0.25, smoothing=0.1)
    own = cross_entropy(student, classes, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(found, 0.25 * own + 0.75 * soft_cross_entropy(student, targets))
    assert torch.equal(label_losses(student, classes, classes), cross_entropy(student, classes, reduction="none"))

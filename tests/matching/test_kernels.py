"""The maximum mean discrepancy against a double loop over pairs."""

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.matching.kernels import class_mmd, mmd


def kernel(a: Tensor, b: Tensor, unit: float) -> Tensor:
    return sum(torch.exp(-(a - b).square().sum() / (unit * factor)) for factor in (0.25, 0.5, 1, 2, 4)) / 5  # type: ignore[return-value]


def mean_distance(both: list[Tensor]) -> float:
    return float(np.mean([(a - b).square().sum().item() for a in both for b in both]))


def naive_mmd(one: Tensor, two: Tensor) -> Tensor:
    """Every pair on its own; the bandwidth is a constant."""
    unit = mean_distance([*one.detach(), *two])

    def mean(left: Tensor, right: Tensor) -> Tensor:
        return torch.stack([kernel(a, b, unit) for a in left for b in right]).mean()

    return mean(one, one) + mean(two, two) - 2 * mean(one, two)


def random_pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return (torch.randn(3, 4, dtype=dtype, generator=random), torch.randn(5, 4, dtype=dtype, generator=random) + 1)


def test_mmd_and_its_gradient_equal_a_double_loop() -> None:
    one, two = random_pair()
    one.requires_grad_()
    found, expected = mmd(one, two), naive_mmd(one, two)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, one), torch.autograd.grad(expected, one))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mmd_of_a_sample_with_itself_is_zero(dtype: torch.dtype) -> None:
    one, two = random_pair(dtype)
    assert abs(mmd(one, one).item()) < 1e-6
    assert mmd(one, two).item() > 0.1
    torch.testing.assert_close(mmd(one, two), mmd(two, one))
    torch.testing.assert_close(mmd(one.repeat(2, 1), one), mmd(one, one), atol=1e-6, rtol=0)


def test_mmd_of_coinciding_features_is_zero_and_finite() -> None:
    same = torch.ones(3, 4, requires_grad=True)
    loss = mmd(same, torch.ones(5, 4))
    loss.backward()
    assert loss.item() == 0
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_mmd_wants_clouds_as_varied_as_real_ones() -> None:
    _, real = random_pair()
    middle = real.mean(0).expand(5, -1)
    assert mmd(middle, real) > 10 * abs(mmd(real, real))


def test_classes_are_compared_with_their_own() -> None:
    random = torch.Generator().manual_seed(1)
    values, real = torch.randn(5, 2, 3, generator=random), torch.randn(4, 6, 2, 3, generator=random)
    labels = torch.tensor([3, 1, 3, 1, 1])
    found = class_mmd(values, labels, real)
    expected = [naive_mmd(values[[1, 3, 4]].flatten(1), real[1].flatten(1)),
                naive_mmd(values[[0, 2]].flatten(1), real[3].flatten(1))]  # fmt: skip
    torch.testing.assert_close(found, torch.stack(expected))

"""Quantile profiles against the integral of the quantile function, written as a step function."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.matching.gathering import profiles_fast
from pcdistill.matching.sorting import quantile_profile

sizes = st.integers(1, 23)


def values_of(points: int, sets: int = 3) -> Tensor:
    return torch.randn(sets, points, dtype=torch.float64, generator=torch.Generator().manual_seed(points))


def integrated(values: Tensor, count: int) -> Tensor:
    """Mean of the quantile function over each of `count` parts, on a grid that meets every jump."""
    ordered = np.sort(values.numpy(), axis=-1)
    places = (np.arange(4 * ordered.shape[-1] * count) + 0.5) / (4 * ordered.shape[-1] * count)
    function = ordered[..., np.floor(places * ordered.shape[-1]).astype(int)]
    return torch.from_numpy(function.reshape(*ordered.shape[:-1], count, -1).mean(-1))


@given(points=sizes, count=sizes)
def test_profile_is_the_integral_of_the_quantile_function(points: int, count: int) -> None:
    values = values_of(points)
    torch.testing.assert_close(quantile_profile(values, count), integrated(values, count), rtol=0, atol=1e-12)


@given(points=sizes)
def test_as_many_quantiles_as_points_is_the_sorted_set_exactly(points: int) -> None:
    values = values_of(points).float()
    assert torch.equal(quantile_profile(values, points), values.sort(dim=-1).values)


@given(points=sizes)
def test_one_quantile_is_the_mean(points: int) -> None:
    torch.testing.assert_close(quantile_profile(values_of(points), 1)[..., 0], values_of(points).mean(-1))


def test_shares_of_a_point_on_a_boundary() -> None:
    values = torch.tensor([3.0, 1.0, 2.0])
    assert torch.allclose(quantile_profile(values, 2), torch.tensor([(1 + 0.5 * 2) / 1.5, (0.5 * 2 + 3) / 1.5]))
    assert torch.equal(quantile_profile(values, 6), torch.tensor([1.0, 1, 2, 2, 3, 3]))


@given(points=sizes, count=sizes, seed=st.integers(0, 2**31))
def test_order_does_not_matter_and_profiles_ascend(points: int, count: int, seed: int) -> None:
    values = values_of(points)
    order = torch.randperm(points, generator=torch.Generator().manual_seed(seed))
    profile = quantile_profile(values, count)
    assert torch.equal(quantile_profile(values[:, order], count), profile)
    assert (profile.diff(dim=-1) >= -1e-12).all()
    torch.testing.assert_close(profile.mean(-1), values.mean(-1))


@given(points=sizes, count=sizes, times=st.integers(2, 4))
def test_size_does_not_matter(points: int, count: int, times: int) -> None:
    """A set in which every number stands several times has the same distribution."""
    torch.testing.assert_close(
        quantile_profile(values_of(points).repeat(1, times), count), quantile_profile(values_of(points), count)
    )


@pytest.mark.parametrize(("points", "count"), [(6, 3), (5, 3), (3, 7), (4, 4), (1, 2)])
def test_gradients(points: int, count: int) -> None:
    values = values_of(points).requires_grad_()
    assert torch.autograd.gradcheck(lambda given: quantile_profile(given, count), values)
    assert torch.autograd.gradgradcheck(lambda given: quantile_profile(given, count), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("points", "count", "channels"), [(12, 4, 5), (7, 3, 1), (5, 8, 3), (1, 2, 4)])
def test_fast_profiles_are_the_same(points: int, count: int, channels: int, dtype: torch.dtype) -> None:
    features = torch.randn(6, points, channels, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = profiles_fast(features, count)
    assert found.dtype == dtype
    torch.testing.assert_close(found, quantile_profile(features.transpose(1, 2), count))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("channels_first", [False, True])
def test_fast_profiles_leave_the_features_alone(channels: int, channels_first: bool) -> None:
    features = torch.randn(2, 9, channels, generator=torch.Generator().manual_seed(0))
    if channels_first:  # as group norm lays them out: turned round they are contiguous already
        features = features.transpose(1, 2).contiguous().transpose(1, 2)
    before = features.clone()
    profiles_fast(features, 3)
    assert torch.equal(features, before)


@pytest.mark.parametrize("threads", [1, 2])
def test_fast_profiles_on_several_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    features = torch.randn(3, 9, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(profiles_fast(features, 4), quantile_profile(features.transpose(1, 2), 4))

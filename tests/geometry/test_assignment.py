"""The assignment of least distance, against trying all orders."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.core.errors import InputError
from pcdistill.geometry import assign, gather_points


def clouds(seed: int, count: int, points: int) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_no_other_order_is_nearer(seed: int, points: int) -> None:
    moved, reference = clouds(seed, 2, points), clouds(seed + 1, 1, points)[0]
    found = gather_points(moved, assign(moved, reference))
    for cloud, aligned in zip(moved, found, strict=True):
        least = min((cloud[list(order)] - reference).norm(dim=1).sum() for order in permutations(range(points)))
        torch.testing.assert_close((aligned - reference).norm(dim=1).sum(), least)


def test_shuffled_clouds_are_put_back_in_order() -> None:
    reference = clouds(0, 3, 20)
    orders = torch.stack([torch.randperm(20, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])
    shuffled = gather_points(reference, orders)
    found = assign(shuffled, reference)
    assert torch.equal(gather_points(shuffled, found), reference)
    assert torch.equal(found.sort(1).values, torch.arange(20).expand(3, -1))
    assert torch.equal(assign(reference, reference[0])[0], torch.arange(20))


@pytest.mark.parametrize("shape", [(4, 3), (2, 5, 3), (3, 6, 3)])
def test_sets_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^assign: sets of shape"):
        assign(torch.zeros(2, 6, 3), torch.zeros(shape))

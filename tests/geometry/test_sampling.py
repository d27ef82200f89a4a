import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from pcdistill.core.errors import InputError
from pcdistill.geometry import (
    ball_query,
    farthest_point_sample,
    farthest_points,
    gather_points,
    random_rotations,
    rotate,
    sampling,
)

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def clouds(seed: int, count: int = 3, points: int = 30) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def naive_sample(points: np.ndarray, count: int) -> list[int]:
    """Plain definition for one cloud, in float64."""
    chosen = [int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmax())]
    while len(chosen) < count:
        gaps = [min(((p - points[c]) ** 2).sum() for c in chosen) for p in points]
        for c in chosen:
            gaps[c] = -1
        chosen.append(int(np.argmax(gaps)))
    return chosen


def test_sample_of_a_line() -> None:
    line = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0])[None, :, None] * torch.tensor([1.0, 0.0, 0.0])
    assert farthest_point_sample(line, 4).tolist() == [[4, 0, 3, 1]]
    assert farthest_point_sample(line, 3, torch.tensor([1])).tolist() == [[1, 4, 3]]


@quick
@given(seeds, st.integers(2, 40), st.data())
def test_sample_agrees_with_the_definition(seed: int, points: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, points))
    batch = clouds(seed, points=points).double()
    assert farthest_point_sample(batch, count).tolist() == [naive_sample(c, count) for c in batch.numpy()]


@quick
@given(seeds)
def test_sample_follows_the_cloud_through_motion_scale_and_order(seed: int) -> None:
    points = clouds(seed).double()
    expected = farthest_point_sample(points, 10)
    turn = random_rotations(3, torch.Generator().manual_seed(seed), axis=None).double()
    assert torch.equal(farthest_point_sample(rotate(points, turn) * 7 + 2, 10), expected)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(order[farthest_point_sample(points[:, order], 10)], expected)


@quick
@given(seeds, st.integers(1, 29))
def test_shorter_samples_are_prefixes_and_whole_ones_permutations(seed: int, count: int) -> None:
    points = clouds(seed)
    whole = farthest_point_sample(points, 30)
    assert torch.equal(farthest_point_sample(points, count), whole[:, :count])
    assert torch.equal(whole.sort(dim=1).values, torch.arange(30).expand(3, 30))


def test_ties_go_to_the_lowest_index() -> None:
    square = torch.tensor([[[1.0, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]]])
    assert farthest_point_sample(square, 4).tolist() == [[0, 2, 1, 3]]


def test_coinciding_points_are_each_chosen_once() -> None:
    assert farthest_point_sample(torch.full((2, 5, 3), 0.3), 5).tolist() == [[0, 1, 2, 3, 4]] * 2
    assert farthest_point_sample(torch.zeros(1, 3, 3), 3, torch.tensor([2])).tolist() == [[2, 0, 1]]


def test_the_block_size_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    points, start = clouds(0, count=7), torch.arange(7)
    expected = farthest_point_sample(points, 9), farthest_point_sample(points, 9, start)
    monkeypatch.setattr(sampling, "CPU_POINTS", 60)  # two clouds at a time, the last alone
    assert torch.equal(farthest_point_sample(points, 9), expected[0])
    assert torch.equal(farthest_point_sample(points, 9, start), expected[1])


def test_the_input_stays_as_it_was_and_may_need_gradients() -> None:
    points = clouds(0).requires_grad_()
    before = points.detach().clone()
    index = farthest_point_sample(points, 5)
    assert torch.equal(points.detach(), before)
    assert not index.requires_grad
    assert index.dtype == torch.int64


def test_low_precision_is_accepted() -> None:
    points = clouds(0).bfloat16()
    assert torch.equal(farthest_point_sample(points, 8), farthest_point_sample(points.float(), 8))


@pytest.mark.parametrize("count", [0, -1, 31])
def test_impossible_counts_are_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"count {count}, expected 1 to 30"):
        farthest_point_sample(clouds(0), count)


@pytest.mark.parametrize("start", [[0, 1, 30], [0, -1, 2], [0, 1], [[0, 1, 2]]])
def test_impossible_starts_are_refused(start: list[int]) -> None:
    with pytest.raises(InputError, match=r"expected one index in 0\.\.29 for each of 3 clouds"):
        farthest_point_sample(clouds(0), 2, torch.tensor(start))


@pytest.mark.parametrize("shape", [(3,), (3, 4), (3, 4, 2)])
def test_gather_takes_points_cloud_by_cloud(shape: tuple[int, ...]) -> None:
    points = clouds(0)
    index = torch.randint(30, shape, generator=torch.Generator().manual_seed(0))
    result = gather_points(points, index)
    assert result.shape == (*shape, 3)
    for cloud in range(3):
        assert torch.equal(result[cloud], points[cloud][index[cloud]])


def test_gather_has_right_gradients_for_repeated_points() -> None:
    points, index = clouds(0, 2, 4).double().requires_grad_(), torch.tensor([[0, 0, 3], [1, 2, 1]])
    assert torch.autograd.gradcheck(lambda p: gather_points(p, index).square(), (points,))
    (gradient,) = torch.autograd.grad(gather_points(points, index).sum(), points)
    assert_close(gradient[:, :, 0], torch.tensor([[2.0, 0, 0, 1], [0, 2, 1, 0]], dtype=torch.float64))


def test_sampled_points_are_those_of_the_definition() -> None:
    values = clouds(3)
    for cloud, found in zip(values, farthest_points(values, 7), strict=True):
        assert torch.equal(found, cloud[naive_sample(cloud.numpy(), 7)])


class Neighbourhoods(torch.nn.Module):
    def forward(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        index = farthest_point_sample(points, 6)
        return index, ball_query(gather_points(points, index), points, 0.8, 5)


def test_what_an_export_follows_chooses_the_same_in_any_number_of_clouds() -> None:
    size = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(Neighbourhoods(), (clouds(0),), dynamic_shapes=size).module()
    few = clouds(2, 2, 4).repeat(1, 8, 1)[:, :30]  # of four places, none of whose points is chosen twice
    for seen in (clouds(1, 1), clouds(1, 4), few):
        (index, near), (expected, nearest) = exported(seen), Neighbourhoods()(seen)
        assert_close(index, expected)
        assert_close(gather_points(seen, near), gather_points(seen, nearest))  # which of equals is up to who runs it

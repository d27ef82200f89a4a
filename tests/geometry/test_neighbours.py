import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from torch.testing import assert_close

from pcdistill.core.errors import InputError
from pcdistill.geometry import (
    ball_query,
    chamfer,
    chamfer_matrix,
    knn,
    nearest_indices,
    neighbours,
    random_rotations,
    rotate,
)

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=25, deadline=None)


def clouds(seed: int, count: int = 3, points: int = 30) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@quick
@given(seeds, st.integers(1, 25), st.integers(1, 25), st.data())
def test_neighbours_agree_with_a_k_d_tree(seed: int, queries: int, references: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, references))
    query, reference = clouds(seed, points=queries), clouds(seed + 1, points=references)
    distance, index = knn(query, reference, k)
    for cloud in range(3):
        expected = cKDTree(reference[cloud].numpy()).query(query[cloud].numpy(), k=range(1, k + 1))
        assert_close(distance[cloud], torch.from_numpy(expected[0] ** 2), rtol=1e-10, atol=1e-12)
        assert index[cloud].tolist() == expected[1].tolist()


def test_equal_distances_are_listed_by_index() -> None:
    reference = torch.tensor([[[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [-1, 0, 0]]])
    distance, index = knn(torch.zeros(1, 1, 3), reference, 6)
    assert index.tolist() == [[[3, 4, 0, 1, 2, 5]]]
    assert distance.tolist() == [[[0, 0, 1, 1, 1, 1]]]
    assert knn(torch.zeros(1, 1, 3), reference, 1)[1].item() == 3


def test_near_ties_far_from_the_origin_are_decided_rightly() -> None:
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    steps = torch.zeros(1, 20, 3)
    steps[0, torch.arange(20), torch.arange(20) % 3] = (1 + order) / 64  # exact in float32 after the shift
    query = torch.full((1, 1, 3), 1000.0)
    assert torch.equal(knn(query, query + steps, 20)[1][0, 0], order.argsort())  # the expanded square fails


def test_a_point_is_its_own_first_neighbour() -> None:
    points = clouds(0)
    distance, index = knn(points, points, 4)
    assert torch.equal(index[:, :, 0], torch.arange(30).expand(3, 30))
    assert bool((distance[:, :, 0] == 0).all())
    assert bool((distance[:, :, 1:] > 0).all())


@pytest.mark.parametrize("block", [1, 17, 60, 400, 900, 1800])
def test_the_block_size_does_not_matter(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, reference = clouds(0, points=20), clouds(1, points=30)
    expected = knn(query, reference, 5)
    monkeypatch.setattr(neighbours, "CPU_BLOCK", block)
    for result, reference_value in zip(knn(query, reference, 5), expected, strict=True):
        assert torch.equal(result, reference_value)


def test_memory_stays_bounded_for_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = neighbours._distances

    def watched(query: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        result = original(query, reference)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(neighbours, "_distances", watched)
    knn(clouds(0, 2, 3000), clouds(1, 2, 2000), 2)
    assert max(sizes) <= neighbours.CPU_BLOCK
    assert sum(sizes) == 2 * 3000 * 2000


def test_knn_works_in_any_number_of_channels() -> None:
    features = torch.randn(1, 12, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = cKDTree(features[0].numpy()).query(features[0].numpy(), k=3)[1]
    assert knn(features, features, 3)[1][0].tolist() == expected.tolist()


def test_distances_are_twice_differentiable() -> None:
    query, reference = clouds(0, 2, 5).requires_grad_(), clouds(1, 2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, r: knn(q, r, 2)[0], (query, reference))
    assert torch.autograd.gradgradcheck(lambda q, r: knn(q, r, 2)[0], (query, reference))


@pytest.mark.parametrize("k", [0, 31])
def test_impossible_neighbour_counts_are_refused(k: int) -> None:
    with pytest.raises(InputError, match=f"k {k}, expected 1 to 30"):
        knn(clouds(0), clouds(1), k)


@pytest.mark.parametrize("shape", [(2, 30, 3), (3, 30, 2), (30, 3)])
def test_sets_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(B, M, 3\) and \(B, N, 3\)"):
        knn(torch.zeros(3, 30, 3), torch.zeros(shape), 1)


def test_chamfer_of_a_known_pair() -> None:
    a = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    b = torch.tensor([[[0.0, 0, 0], [0, 2, 0], [0, 0, 0]]])
    assert_close(chamfer(a, b), torch.tensor([(0 + 1) / 2 + (0 + 4 + 0) / 3]))


@quick
@given(seeds, st.integers(1, 25), st.integers(1, 25))
def test_chamfer_agrees_with_k_d_trees(seed: int, left: int, right: int) -> None:
    a, b = clouds(seed, points=left), clouds(seed + 1, points=right)
    expected = [
        np.mean(cKDTree(q).query(p)[0] ** 2) + np.mean(cKDTree(p).query(q)[0] ** 2)
        for p, q in zip(a.numpy(), b.numpy(), strict=True)
    ]
    assert_close(chamfer(a, b), torch.tensor(expected, dtype=torch.float64))


@quick
@given(seeds, st.floats(0.01, 100), st.floats(-100, 100))
def test_chamfer_ignores_order_and_common_motion_and_squares_scale(seed: int, scale: float, shift: float) -> None:
    a, b = clouds(seed, points=10), clouds(seed + 1, points=12)
    expected = chamfer(a, b)
    turn = random_rotations(3, torch.Generator().manual_seed(seed), axis=None).double()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    assert_close(chamfer(b, a), expected)
    assert_close(chamfer(a[:, order], b), expected)
    # The turn is a float32 draw, orthogonal to that precision.
    assert_close(chamfer(rotate(a, turn), rotate(b, turn)), expected, rtol=1e-5, atol=1e-5)
    assert_close(chamfer(a * scale + shift, b * scale + shift), expected * scale**2, rtol=1e-6, atol=1e-9)
    assert torch.equal(chamfer(a, a[:, order]), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("points", [8, 64])
def test_chamfer_is_twice_differentiable(points: int) -> None:
    a, b = clouds(0, 1, points).requires_grad_(), clouds(1, 1, points)
    assert torch.autograd.gradcheck(chamfer, (a, b))
    assert torch.autograd.gradgradcheck(chamfer, (a, b))
    (gradient,) = torch.autograd.grad(chamfer(a, b).sum(), a, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), a)
    assert bool((second.abs() > 0).any())


def test_chamfer_pulls_a_cloud_onto_its_target() -> None:
    b = clouds(1, 1, 16)
    a = (b + 0.2 * clouds(0, 1, 16)).requires_grad_()
    optimiser = torch.optim.Adam([a], lr=0.01)
    before = chamfer(a, b).item()
    for _ in range(200):
        optimiser.zero_grad()
        chamfer(a, b).sum().backward()
        optimiser.step()
    assert chamfer(a, b).item() < before / 100


@quick
@given(seeds, st.integers(1, 12), st.integers(1, 25), st.floats(0.05, 3), st.data())
def test_balls_agree_with_a_k_d_tree(
    seed: int, queries: int, references: int, radius: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, references))
    query, reference = clouds(seed, points=queries), clouds(seed + 1, points=references)
    found = ball_query(query, reference, radius, k)
    assert found.shape == (3, queries, k)
    for cloud in range(3):
        distances, nearest = cKDTree(reference[cloud].numpy()).query(query[cloud].numpy(), k=range(1, k + 1))
        inside = np.where(distances <= radius, nearest, nearest[:, :1])
        assert found[cloud].tolist() == inside.tolist()


def test_balls_do_not_depend_on_the_order_of_the_points() -> None:
    reference = clouds(0)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    shuffled = ball_query(reference, reference[:, order], 0.8, 6)
    assert torch.equal(order[shuffled], ball_query(reference, reference, 0.8, 6))


def test_the_radius_itself_is_within_and_a_lonely_query_gets_its_nearest() -> None:
    reference = torch.tensor([[[1.0, 0, 0], [3, 0, 0], [2, 0, 0], [9, 0, 0]]])
    assert ball_query(torch.zeros(1, 1, 3), reference, 2.0, 4).tolist() == [[[0, 2, 0, 0]]]
    assert ball_query(torch.zeros(1, 1, 3), reference, 0.5, 3).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize(
    ("k", "radius", "message"),
    [(0, 1.0, "k 0, expected 1 to 30"), (31, 1.0, "k 31, expected 1 to 30"), (3, 0.0, "radius 0.0"),
     (3, float("nan"), "radius nan, expected a positive number")],
)  # fmt: skip
def test_impossible_balls_are_refused(k: int, radius: float, message: str) -> None:
    with pytest.raises(InputError, match=f"^ball_query: {message}"):
        ball_query(clouds(0), clouds(1), radius, k)


def nearest_by_differences(query: torch.Tensor, reference: torch.Tensor, k: int) -> torch.Tensor:
    """Naive twin: all distances from coordinate differences, by a stable sort."""
    distance = (query[:, :, None] - reference[:, None]).square().sum(-1)
    return distance.sort(dim=-1, stable=True).indices[..., :k]


@quick
@given(seeds, st.sampled_from([2, 3, 15, 16, 64, 128]), st.integers(1, 40), st.data())
def test_wide_features_have_the_neighbours_of_the_naive_search(
    seed: int, channels: int, points: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, points))
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(2, points, channels, generator=random, dtype=torch.float64) + 100
    query = torch.cat([features, torch.randn(2, 3, channels, generator=random, dtype=torch.float64)], dim=1)
    expected = nearest_by_differences(query, features, k)
    distance, index = knn(query, features, k)
    assert torch.equal(index, expected)
    assert bool((distance.diff(dim=-1) >= 0).all())
    assert torch.equal(nearest_indices(query, features, k).sort(dim=-1).values, expected.sort(dim=-1).values)


def test_wide_features_far_from_the_origin_keep_their_neighbours() -> None:
    features = torch.randn(2, 50, 64, generator=torch.Generator().manual_seed(0)) + 1000
    expected = nearest_by_differences(features.double(), features.double(), 8)
    assert torch.equal(knn(features, features, 8)[1], expected)  # without centring the square loses them
    assert bool((knn(features, features, 8)[0][..., 0] == 0).all())


def test_equal_wide_features_are_listed_by_index() -> None:
    features = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1)
    assert torch.equal(knn(features, features, 3)[1][:, :5], torch.arange(15).view(3, 5).T.expand(2, 5, 3))


@pytest.mark.parametrize("block", [1, 170, 4000])
@pytest.mark.parametrize("channels", [3, 20])
def test_the_block_size_does_not_matter_to_indices(block: int, channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(3, 30, channels, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = nearest_by_differences(features, features, 7).sort(dim=-1).values
    monkeypatch.setattr(neighbours, "CPU_BLOCK", block)
    assert torch.equal(nearest_indices(features, features, 7).sort(dim=-1).values, expected)


@quick
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))
def test_the_matrix_holds_the_chamfer_distance_of_every_pair(seed: int, s: int, r: int, left: int, right: int) -> None:
    a, b = clouds(seed, s, left), clouds(seed + 1, r, right)
    expected = [
        [np.mean(cKDTree(q).query(p)[0] ** 2) + np.mean(cKDTree(p).query(q)[0] ** 2) for q in b.numpy()]
        for p in a.numpy()
    ]
    assert_close(chamfer_matrix(a, b), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("block", [1, 100, 700, 5000])
def test_the_block_size_does_not_matter_to_the_matrix(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = clouds(0, 4, 20), clouds(1, 5, 30)
    expected = chamfer_matrix(a, b)
    monkeypatch.setattr(neighbours, "CPU_BLOCK", block)
    assert_close(chamfer_matrix(a, b), expected)


def test_the_matrix_of_float32_clouds_far_from_the_origin_is_nearly_exact_and_never_negative() -> None:
    a = clouds(0, 6, 40).float() / 4 + 100
    found = chamfer_matrix(a, a)
    assert float(found.min()) >= 0
    assert float(found.diag().max()) < 1e-5
    assert_close(found[0], chamfer(a[:1].expand(6, -1, -1), a), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 30, 2), (30, 3), (0, 30, 3), (3, 0, 3)])
def test_sets_that_make_no_matrix_are_refused(shape: tuple[int, ...]) -> None:
    for pair in [(clouds(0), torch.zeros(shape)), (torch.zeros(shape), clouds(0))]:
        with pytest.raises(InputError, match=r"^chamfer_matrix: sets of shape .*, expected \(S, P, 3\)"):
            chamfer_matrix(*pair)

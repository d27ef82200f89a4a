"""Quality and copies: numbers against a naive twin with k-d trees, and copies that are known to be some."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch.testing import assert_close

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.procedural.shapes import generate
from pcdistill.evaluation import audit as quality
from pcdistill.evaluation.audit import audit, unevenness
from pcdistill.geometry import farthest_points
from pcdistill.storage.quantise import round_through
from tests.conftest import of_class

Cloud = NDArray[np.float64]
POINTS = 48


@pytest.fixture(scope="module")
def real() -> PointClouds:
    return generate("train", 16, points=512)


@pytest.fixture(scope="module")
def held_out() -> PointClouds:
    return generate("test", 8, points=512)


def thinned(clouds: PointClouds, bits: int = 32, every: int = 4) -> PointClouds:
    """Some clouds as a coreset stores them."""
    some = clouds[torch.arange(0, len(clouds), every)]
    return some.with_points(round_through(farthest_points(some.points, POINTS), bits))


@pytest.mark.parametrize("bits", [32, 6, 5, 4])
def test_thinned_and_rounded_copies_are_found_and_fresh_shapes_are_not(
    bits: int, real: PointClouds, held_out: PointClouds
) -> None:
    copies = audit(thinned(real, bits), real, held_out, bits).overall
    assert copies.made.near > 0.9
    assert copies.copies > 0.9  # the audit says itself that it would find them
    assert copies.made.authentic < 0.1
    assert copies.made.ratio < 0.4
    fresh = audit(thinned(held_out, bits), real, held_out, bits).overall
    assert fresh.made.near < 0.3
    assert fresh.made.authentic > 0.2
    assert fresh.made.ratio > 0.5
    for found in (copies, fresh):  # references do not depend on what is audited
        assert found.test is not None
        assert found.test.near < 0.15
        assert found.training.near == pytest.approx(quality.CHANCE, abs=0.01)
        assert found.training.ratio == pytest.approx(1, abs=0.05)
        assert found.training.traced == pytest.approx(quality.CHANCE, abs=0.01)
        assert found.test.traced < 0.15


@pytest.mark.parametrize("noise", [0.01, 0.02, 0.03])
def test_noise_does_not_hide_copies(noise: float, real: PointClouds) -> None:
    copies = thinned(real)
    random = torch.Generator().manual_seed(0)
    moved = copies.points + noise * torch.randn(copies.points.shape, generator=random)
    assert audit(copies.with_points(moved), real).overall.made.near > 0.9


def test_copies_of_which_every_point_was_moved_far_are_traced(real: PointClouds, held_out: PointClouds) -> None:
    """Most are not near any more: the surface is blurred as far as two shapes differ."""
    random = torch.Generator().manual_seed(0)

    def moved(clouds: PointClouds) -> PointClouds:
        thin = thinned(clouds)
        return thin.with_points(thin.points + 0.08 * torch.randn(thin.points.shape, generator=random))

    copies, fresh = (audit(moved(clouds), real).overall.made for clouds in (real, held_out))
    assert copies.near < 0.2
    assert copies.traced > 0.5
    assert fresh.traced < 0.1
    assert copies.margin < fresh.margin - 0.1


def test_another_sample_of_the_surface_does_not_hide_copies(real: PointClouds, held_out: PointClouds) -> None:
    """Chamfer distances between two samples are as large as those between two shapes."""

    def sampled(clouds: PointClouds) -> PointClouds:
        order = torch.randperm(512, generator=torch.Generator().manual_seed(0))[:POINTS]
        return clouds[torch.arange(0, len(clouds), 4)].with_points(round_through(clouds.points[::4, order], 5))

    copies, fresh = (audit(sampled(clouds), real, held_out, 5).overall.made for clouds in (real, held_out))
    assert copies.chamfer > 0.5 * fresh.chamfer
    assert copies.near == 1
    assert fresh.near < 0.5


def test_a_copy_among_fresh_clouds_is_named(real: PointClouds, held_out: PointClouds) -> None:
    clouds = thinned(held_out, 5)
    place = int((clouds.labels == 3).nonzero()[0])
    points = clouds.points.clone()
    points[place] = round_through(farthest_points(real.points[55:56], POINTS), 5)[0]
    found = audit(clouds.with_points(points), real, held_out, 5)
    assert real.labels[55] == 3
    assert int(found.near.ratio.argmin()) == place
    assert (int(found.near.source[place]), int(found.near.nearest[place])) == (55, 55)
    assert bool(found.copies[place])
    assert bool(found.traced[place])
    assert not bool(found.near.authentic[place])


def chamfer(p: Cloud, q: Cloud) -> float:
    return float(np.mean(cKDTree(q).query(p)[0] ** 2) + np.mean(cKDTree(p).query(q)[0] ** 2))


def earth_movers(p: Cloud, q: Cloud) -> float:
    return float(min(np.linalg.norm(p - q[list(order)], axis=1).mean() for order in permutations(range(len(p)))))


def uneven(p: Cloud) -> float:
    gaps = cKDTree(p).query(p, k=2)[0][:, 1]
    return float(gaps.std() / gaps.mean())


def onto(p: Cloud, q: Cloud) -> float:
    return float(np.mean(cKDTree(q).query(p)[0] ** 2))


def random_set(seed: int, per_class: int, points: int) -> PointClouds:
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(2).repeat_interleave(per_class)
    middles = torch.randn(2 * per_class, 1, 3, generator=random)
    clouds = 0.3 * torch.randn(2 * per_class, points, 3, generator=random) + 0.3 * middles
    return PointClouds(clouds, labels, ("a", "b"), {"name": "blobs"})


def test_every_number_is_that_of_a_naive_twin() -> None:
    made, real, test = random_set(0, 3, 5), random_set(1, 7, 40), random_set(2, 2, 30)
    bits = 6
    found = audit(made, real, test, bits)
    thin = farthest_points(real.points, 5)
    alike = round_through(thin, bits)
    ratios, margins = [], []
    for label, name in enumerate("ab"):
        own = [clouds.points[clouds.labels == label].double().numpy() for clouds in (made, real, test)]
        slim, same = (points[real.labels == label].double().numpy() for points in (thin, alike))
        held = round_through(farthest_points(of_class(test, label).points, 5), bits).double().numpy()
        to_other = [min(onto(p, q) for j, q in enumerate(own[1]) if i != j) for i, p in enumerate(same)]
        unit = sorted(to_other)[3]
        ratios.append(np.array(to_other) / unit)
        part = found.classes[name]
        assert part.training_clouds == 7
        for side, clouds, skip in ((part.made, own[0], False), (part.training, same, True), (part.test, held, False)):
            assert side is not None
            assert side.clouds == len(clouds)
            distance = np.array([[chamfer(p, q) for q in slim] for p in clouds])
            surface = np.array([[onto(p, q) for q in own[1]] for p in clouds])
            if skip:
                np.fill_diagonal(distance, np.inf)
                np.fill_diagonal(surface, np.inf)
            nearest, source = distance.argmin(1), surface.argmin(1)
            margin = np.sort(distance)[:, 0] / np.sort(distance)[:, 1]
            assert side.margin == pytest.approx(sorted(margin)[(len(clouds) - 1) // 2], rel=1e-4)
            assert side.traced == pytest.approx(np.mean(margin <= found.bounds.margin * (1 + 1e-5)))
            if skip:
                margins.append(margin)
            assert side.chamfer == pytest.approx(distance.min(1).mean(), rel=1e-4)
            emd = np.mean([earth_movers(p, slim[at]) for p, at in zip(clouds, nearest, strict=True)])
            assert side.emd == pytest.approx(emd, rel=1e-4)
            assert side.uneven == pytest.approx(np.mean([uneven(p) for p in clouds]), rel=1e-4)
            assert side.ratio == pytest.approx(sorted(surface.min(1) / unit)[(len(clouds) - 1) // 2], rel=1e-4)
            authentic = np.mean([surface[i].min() > to_other[at] for i, at in enumerate(source)])
            assert side.authentic == pytest.approx(authentic)
            if not skip and clouds is own[0]:
                assert part.covered == len(set(nearest))
                assert part.mmd == pytest.approx(distance.min(0).mean(), rel=1e-4)
                offset = 7 * label
                assert found.near.nearest[3 * label : 3 * label + 3].tolist() == (nearest + offset).tolist()
                assert found.near.source[3 * label : 3 * label + 3].tolist() == (source + offset).tolist()
        assert part.coverable == 3
        assert part.coverage == part.covered / 7
        few = same[[0, 2, 4]]
        assert part.training_mmd == pytest.approx(np.mean([min(chamfer(p, q) for p in few) for q in slim]), rel=1e-4)
        as_copies = np.array([onto(p, q) for p, q in zip(same, own[1], strict=True)]) / unit
        assert part.copies == pytest.approx(np.mean(as_copies <= found.bounds.ratio))
    assert found.bounds.ratio == pytest.approx(np.quantile(np.concatenate(ratios), 0.05), rel=1e-4)
    assert found.bounds.margin == pytest.approx(np.quantile(np.concatenate(margins), 0.05), rel=1e-4)
    whole = found.overall
    assert (whole.training_clouds, whole.made.clouds, whole.coverable) == (14, 6, 6)
    assert whole.covered == sum(part.covered for part in found.classes.values())
    for name in ("mmd", "training_mmd", "copies"):  # of equally many in each class
        mean = np.mean([getattr(part, name) for part in found.classes.values()])
        assert getattr(whole, name) == pytest.approx(mean)
    for field in ("chamfer", "emd", "uneven", "near", "traced", "authentic"):
        mean = np.mean([getattr(part.made, field) for part in found.classes.values()])
        assert getattr(whole.made, field) == pytest.approx(mean)


@settings(max_examples=10)
@given(st.integers(0, 2**16), st.integers(0, 3), st.integers(-3, 3))
def test_order_common_turns_and_scale_change_nothing(seed: int, quarters: int, exponent: int) -> None:
    made, real = random_set(seed, 3, 6), random_set(seed + 1, 5, 24)
    before = audit(made, real)
    random = torch.Generator().manual_seed(seed)
    scale = 2.0**exponent
    turn = torch.linalg.matrix_power(torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]), quarters) * scale

    def changed(clouds: PointClouds) -> tuple[PointClouds, torch.Tensor]:
        order = torch.randperm(len(clouds), generator=random)
        shuffled = torch.randperm(clouds.points_per_cloud, generator=random)
        return clouds.with_points(clouds.points[:, shuffled] @ turn)[order], order

    (moved, order), (theirs, places) = changed(made), changed(real)
    after = audit(moved, theirs)
    for name, old in before.near._asdict().items():
        new, old = getattr(after.near, name), old[order]
        if name in ("nearest", "source"):
            assert places[new].tolist() == old.tolist()
        else:
            power = {"chamfer": 2, "surface": 2, "emd": 1}.get(name, 0)
            assert_close(new.float(), old.float() * scale**power, rtol=1e-4, atol=1e-6)
    assert after.bounds == pytest.approx(before.bounds, rel=1e-4)
    assert after.overall.coverage == before.overall.coverage
    assert after.overall.mmd == pytest.approx(before.overall.mmd * scale**2, rel=1e-4)


def test_unevenness_of_lattices_chance_and_clumps() -> None:
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0), torch.zeros(1))
    scattered = torch.rand(1, 4000, 3, generator=torch.Generator().manual_seed(0))
    scattered[..., 2] = 0
    assert unevenness(grid[None]).item() == pytest.approx(0, abs=1e-6)
    assert unevenness(scattered).item() == pytest.approx((4 / np.pi - 1) ** 0.5, abs=0.03)  # of a Poisson process
    assert unevenness(scattered).item() == pytest.approx(uneven(scattered[0].numpy()), rel=1e-4)
    clumped = torch.cat([grid, grid[:18]])[None]
    assert unevenness(clumped).item() > 1
    assert unevenness(torch.ones(2, 5, 3)).tolist() == unevenness(torch.ones(2, 1, 3)).tolist() == [0, 0]


def test_references_are_a_part_of_large_classes_and_the_shortlist_hardly_matters(
    real: PointClouds, held_out: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    clouds = thinned(held_out, 5)
    monkeypatch.setattr(quality, "SHORTLIST", 16)  # all of them
    whole = audit(clouds, real, held_out, 5)
    monkeypatch.setattr(quality, "SHORTLIST", 6)
    short = audit(clouds, real, held_out, 5)
    assert (short.near.source == whole.near.source).float().mean() > 0.9
    monkeypatch.setattr(quality, "PROBES", 5)
    few = audit(clouds, real, held_out, 5).overall
    assert few.test is not None
    assert (few.training.clouds, few.test.clouds) == (50, 50)


def test_sets_without_a_spread_have_numbers_too() -> None:
    real = random_set(0, 3, 20)
    same = real.with_points(real.points[:1].expand(6, -1, -1))
    found = audit(same.with_points(farthest_points(same.points, 8)), same)
    assert found.copies.tolist() == [True] * 6
    assert found.near.margin.tolist() == [1] * 6  # as near to the others
    assert np.isfinite(found.overall.made[1:]).all()


def test_what_is_missing() -> None:
    made, real = random_set(0, 2, 5), random_set(1, 4, 20)
    assert audit(made, real).overall.test is None
    part = audit(made, real, real[real.labels == 1])
    assert part.classes["a"].test is None
    assert part.classes["b"].test is not None
    with pytest.raises(InputError, match=r"^blobs: 2 clouds of class 'b', expected at least 3"):
        audit(made, real[torch.tensor([0, 1, 2, 4, 5])])
    with pytest.raises(InputError, match=r"^blobs: no cloud of class 'a'"):
        audit(made, real[real.labels == 1])
    with pytest.raises(InputError, match=r"^blobs: clouds of 20 points, expected at least 21"):
        audit(random_set(0, 2, 21), real)


def test_progress_names_the_classes() -> None:
    seen: list[tuple[int, str]] = []
    audit(random_set(0, 2, 5), random_set(1, 4, 20), on_progress=lambda done, note: seen.append((done, note)))
    assert seen == [(1, "a"), (2, "b")]

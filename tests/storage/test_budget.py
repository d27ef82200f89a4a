"""Budgets of bytes: shared out between classes, filled, and never exceeded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.commands.distill import Distill
from pcdistill.commands.select import Select
from pcdistill.condense.shape import cloud_bytes, measured, ranked
from pcdistill.condense.start import chooser
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage import budget as allocation
from pcdistill.storage.budget import Shape, counts_at, counts_within, fill, trimmed
from pcdistill.storage.implicit import ImplicitClouds
from pcdistill.training.recipe import protocol, recipe

CODED, POINTS = storages["coded"], storages["points"]


def uneven(sizes: tuple[int, ...] = (30, 6, 18), points: int = 24, seed: int = 0) -> PointClouds:
    """Clouds on spheres that shrink from class to class."""
    random = torch.Generator().manual_seed(seed)
    values = torch.nn.functional.normalize(torch.randn(sum(sizes), points, 3, generator=random), dim=2)
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return PointClouds(values * (1 - 0.3 * labels[:, None, None]), labels, tuple("abcdefg"[: len(sizes)]))


@given(
    st.floats(1, 500),
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.sampled_from(["even", "root", "proportional"]),
)
def test_every_class_has_some_and_none_more_than_there_are(
    level: float, sizes: list[int], quota: allocation.BySize
) -> None:
    counts = counts_at(level, sizes, quota)
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    more = counts_at(level + 1, sizes, quota)
    assert all(later >= count for later, count in zip(more, counts, strict=True))


def test_how_classes_share() -> None:
    sizes = (100, 400, 100)  # 200 on average
    assert counts_at(10, sizes) == (10, 10, 10)
    assert counts_at(10, sizes, "proportional") == (5, 20, 5)
    assert counts_at(10, sizes, "root") == (7, 14, 7)
    assert counts_at(150, sizes) == (100, 150, 100)


@pytest.mark.parametrize("name", ["coded", "points", "rotated", "symmetric", "morphed", "implicit"])
@pytest.mark.parametrize("nbytes", [200, 330, 500, 800, 1100, 1500, 2200])
def test_no_more_clouds_would_fit(name: str, nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all numbers of clouds, one after the other."""
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 1)
    monkeypatch.setattr("pcdistill.storage.implicit.WIDTH", 2)
    monkeypatch.setattr("pcdistill.storage.implicit.CODE", 2)
    monkeypatch.setattr("pcdistill.storage.budget.FULL", 1.0)
    real, shape, kind = uneven((12, 9, 12)), Shape(16, 6), storages[name]
    choose = chooser(real, "random", "raw", 0)
    sizes = {}
    for level in range(1, 10):
        counts = counts_at(level, (12, 9, 12))
        clouds = choose(counts, 16)
        sizes[level] = kind.from_clouds(clouds, Budget(level, 16, 6)).nbytes
    fitting = [level for level, size in sizes.items() if size <= nbytes]
    if not fitting:
        with pytest.raises(InputError, match=r"^bytes per class"):
            fill(real, nbytes, shape, kind, choose)
        return
    found = fill(real, nbytes, shape, kind, choose)
    assert kind.from_clouds(found.clouds, found.budget).nbytes <= nbytes
    assert min(found.budget.counts(3)) >= max(fitting)


@pytest.mark.parametrize("quota", ["root", "proportional"])
@pytest.mark.parametrize("nbytes", [400, 700, 1000, 1300])
def test_unequal_shares_are_filled(quota: allocation.BySize, nbytes: int) -> None:
    real, shape = uneven(), Shape(16, 6)
    share = partial(counts_at, sizes=(30, 6, 18), quota=quota)
    found = fill(real, nbytes, shape, CODED, chooser(real, "random", "raw", 0), share=share)
    assert 0.85 * nbytes < CODED.from_clouds(found.clouds, found.budget).nbytes <= nbytes
    counts = found.budget.counts(3)
    assert counts[0] > counts[2] > counts[1]


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    st.sampled_from(["even", "root", "proportional"]),
    st.data(),
)
def test_a_number_of_clouds_is_shared_out(sizes: list[int], quota: allocation.BySize, data: st.DataObject) -> None:
    """Against the method of divisors: one after the other to the class with the largest share for one more."""
    clouds = data.draw(st.integers(len(sizes), sum(sizes)))
    counts = counts_within(clouds, sizes, partial(counts_at, sizes=sizes, quota=quota))
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    weights = [size ** allocation.POWERS[quota] for size in sizes]
    expected = [1] * len(sizes)
    while sum(expected) < clouds:
        free = [k for k, size in enumerate(sizes) if expected[k] < size]
        best = max(weights[k] / (expected[k] + 1) for k in free)
        level = [k for k in free if weights[k] / (expected[k] + 1) > best * (1 - 1e-9)]
        if sum(expected) + len(level) > clouds:  # equal claims to less than all of them want
            break
        for k in level:
            expected[k] += 1
    assert list(counts) == expected


def test_more_clouds_than_there_are_cannot_be_shared_out() -> None:
    with pytest.raises(InputError, match=r"clouds per class: 5\.5, expected at most 5"):
        counts_within(11, (2, 8), partial(counts_at, sizes=(2, 8)))


def test_raw_budgets_hold_as_many_clouds_as_fit() -> None:
    """16 points x 3 coordinates x 8 bits are 48 bytes; soft labels three more."""
    real = uneven((20, 20, 20))
    choose = chooser(real, "random", "raw", 0)

    def soften(storage: Storage) -> None:
        storage.soften(torch.full((len(storage), 3), 1 / 3))

    for nbytes, clouds in ((3 * 48, 1), (3 * 95, 1), (3 * 96, 2), (3 * 480, 10)):
        assert fill(real, nbytes, Shape(16, 8), POINTS, choose).budget.clouds_per_class == clouds
    assert fill(real, 3 * 510, Shape(16, 8), POINTS, choose, soften=soften).budget.clouds_per_class == 10
    assert fill(real, 3 * 509, Shape(16, 8), POINTS, choose, soften=soften).budget.clouds_per_class == 9


def test_a_budget_below_one_cloud_is_refused() -> None:
    with pytest.raises(InputError, match=r"^bytes per class: 47, expected about 48, the least for clouds of 16 points"):
        fill(uneven(), 3 * 47, Shape(16, 8), POINTS, chooser(uneven(), "random", "raw", 0))


def test_what_is_trimmed_are_the_last_clouds_of_large_classes() -> None:
    real = uneven()
    storage = POINTS.from_clouds(real, Budget((30, 6, 18), 24, 8))  # 72 bytes a cloud, 6 of counts
    index = trimmed(storage, 40 * 72 + 6)
    assert torch.bincount(storage.labels[index]).tolist() == [17, 6, 17]
    kept = storage.kept(index)
    assert kept.nbytes <= 40 * 72 + 6
    assert torch.equal(kept.points[:17], storage.points[:17])
    assert torch.equal(trimmed(storage, storage.nbytes), torch.arange(54))
    with pytest.raises(InputError, match="for one cloud of every class"):
        trimmed(storage, 100)


def test_storages_whose_clouds_share_numbers_are_not_trimmed() -> None:
    real = uneven((4, 4, 4))
    storage = storages["morphed"].from_clouds(real, Budget(4, 24, 8))
    with pytest.raises(InputError, match="storage morphed: clouds to be left out"):
        trimmed(storage, storage.nbytes - 1)


def test_expected_sizes_are_those_of_real_sets() -> None:
    """The stand-in for the coder is within 15 % of it, for points on a surface."""
    real = uneven((40, 40, 40), points=128)
    for bits in (5, 6, 8):
        storage = CODED.from_clouds(real, Budget(40, 128, bits))
        assert cloud_bytes(Shape(128, bits), True) == pytest.approx(storage.nbytes / 120, rel=0.15)
    assert cloud_bytes(Shape(128, 8), False) == 384


def test_larger_budgets_buy_more_points_once_all_clouds_are_in() -> None:
    sizes = [100] * 10
    shapes = [ranked(size, sizes, True)[0] for size in (1229, 12288, 122880, 10**7)]
    cells = [shape.points * 2**shape.bits for shape in shapes]
    assert cells == sorted(cells)
    assert shapes[-1] == Shape(512, 8)
    assert ranked(12288, sizes, True, (100,), (10,)) == [Shape(100, 10)]
    assert ranked(1, sizes, True)[0] == Shape(32, 4)  # nothing fits: the smallest first


def test_shapes_are_measured_on_held_out_clouds(tiny_clouds: PointClouds) -> None:
    plan = protocol("tuned", "pointnet-small", 16)
    plan = plan.model_copy(update={"recipe": recipe("tuned", steps=2, bf16=False)})
    seen: list[int] = []

    def choosing(train: PointClouds, shape: Shape) -> allocation.Choose:
        seen.append(len(train))
        return chooser(train, "random", "raw", 0)

    shapes = [Shape(8, 5), Shape(64, 12), Shape(16, 4)]  # the second is too large
    trials = measured(tiny_clouds, 3 * 60, shapes, CODED, choosing, plan)
    assert seen == [18] * 3  # the last two clouds of every class are held out
    assert {trial.shape for trial in trials} == {shapes[0], shapes[2]}
    assert trials[0].accuracy >= trials[1].accuracy
    fixed = measured(
        tiny_clouds, 3 * 60, shapes[:1], CODED, choosing, plan, share=lambda train, shape: lambda level: (2, 1, 1)
    )
    assert [trial.clouds for trial in fixed] == [4]
    with pytest.raises(InputError, match=r"^bytes per class: 60"):
        measured(tiny_clouds, 3 * 60, shapes[1:2], CODED, choosing, plan)


@pytest.fixture
def sized(tiny_file: Path, tmp_path: Path) -> Callable[..., Artefact]:
    def make(distilled: bool, **size: object) -> Artefact:
        given = {"data": str(tiny_file), "output": tmp_path / "a.h5", "force": True, **size}
        if not distilled:
            Select(**given).run(print)
        else:
            bank = {"networks": 1, "trained_clouds": 2, "points": 16, "pooled_points": 16, "pooled_samples": 4}
            Distill(**given, steps=5, lr=0.2, options={"bank": bank | {"trained_steps": (0, 0)}}).run(print)
        return Artefact.load(tmp_path / "a.h5")

    return make


@pytest.mark.parametrize("distilled", [False, True])
def test_artefacts_keep_to_their_bytes(distilled: bool, sized: Callable[..., Artefact]) -> None:
    """Whatever distilling did to them: at this learning rate points are thrown about and take more bits."""
    made = sized(distilled, bytes_per_class=100, points=16, bits=6)
    assert made.storage.name == "coded"
    assert made.storage.nbytes <= 3 * 100
    assert made.bytes_per_class > 50
    assert len(made.snapshots) == 0
    total = sized(distilled, bytes=300, points=16, bits=6)
    assert total.clouds.fingerprint() == made.clouds.fingerprint()


def test_one_cloud_of_every_class_moves_back_until_it_fits(sized: Callable[..., Artefact]) -> None:
    first = sized(False, bytes_per_class=35, points=16, bits=6)
    room = first.storage.nbytes
    made = sized(True, bytes=room, points=16, bits=6)
    assert made.storage.nbytes <= room
    assert made.metadata.clouds_per_class == first.metadata.clouds_per_class


def test_points_and_bits_follow_from_bytes(sized: Callable[..., Artefact]) -> None:
    made = sized(False, ppc=0.01, storage="coded")
    sizes = [8, 8, 8]
    best = next(shape for shape in ranked(0.01 * 12288, sizes, True) if cloud_bytes(shape, True) < 100)
    assert (made.metadata.points, made.metadata.bits) == (best.points, best.bits)
    assert made.storage.nbytes <= 0.01 * 12288 * 3
    made = sized(False, bytes_per_class=200, points=20, storage="coded")
    assert made.metadata.points == 20
    made = sized(False, bytes_per_class=200, bits=10)
    assert made.metadata.bits == 10


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_only_a_coded_set_has_a_rate(rate: float, tiny_file: Path, tmp_path: Path) -> None:
    distill = Distill(
        data=str(tiny_file), output=tmp_path / "a.h5", clouds_per_class=1, points=16, steps=0, rate=rate,
        storage="morphed", options={"bank": {"networks": 1, "trained_steps": (0, 0), "points": 16}},
    )  # fmt: skip
    if not rate:
        distill.run(print)
        assert Artefact.load(tmp_path / "a.h5").metadata.storage == "morphed"
        return
    with pytest.raises(InputError, match=r"^rate: of storage morphed, expected storage coded"):
        distill.run(print)
    assert list(tmp_path.iterdir()) == []

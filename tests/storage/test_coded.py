"""Coded points: what the stream holds is trained on; classes of different sizes; the rate that distilling sees."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import DistillSettings, distill
from pcdistill.core.errors import InputError
from pcdistill.matching import Objective
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.coded import CodedPoints
from pcdistill.storage.points import StoredPoints

ONE_BY_ONE = ("coded", "points", "rotated")
each_kind = pytest.mark.parametrize("name", ONE_BY_ONE)
COUNTS = (4, 1, 3)


def uneven(points: int = 12, seed: int = 0) -> PointClouds:
    values = 2 * torch.rand(sum(COUNTS), points, 3, generator=torch.Generator().manual_seed(seed)) - 1
    return PointClouds(values, torch.arange(3).repeat_interleave(torch.tensor(COUNTS)), ("a", "b", "c"))


def made(name: str, bits: int = 7) -> Storage:
    return storages[name].from_clouds(uneven(), Budget(COUNTS, 12, bits))


def decoded(storage: Storage) -> PointClouds:
    with torch.no_grad():
        return storage.decode()


def test_the_same_sets_as_raw_points() -> None:
    coded, raw = decoded(made("coded")), decoded(made("points"))
    for one, other in zip(coded.points.tolist(), raw.points.tolist(), strict=True):
        assert sorted(one) == sorted(other)
    assert torch.equal(coded.labels, raw.labels)


def test_a_cloud_is_read_in_the_order_that_it_is_evaluated_in() -> None:
    storage = made("coded")
    again = CodedPoints.from_arrays(storage.arrays(), storage.layout(), storage.class_names)
    assert torch.equal(decoded(again).points, decoded(storage).points)
    with torch.no_grad():
        assert torch.equal(storage.decode(torch.tensor([1, 6])).points, decoded(storage).points[[1, 6]])


@each_kind
def test_classes_of_different_sizes_come_back(name: str) -> None:
    storage = made(name)
    storage.soften(torch.rand(8, 3, generator=torch.Generator().manual_seed(1)).softmax(1))
    arrays = storage.arrays()
    assert (arrays["counts"].dtype, arrays["counts"].tolist()) == (np.uint16, list(COUNTS))
    again = type(storage).from_arrays(arrays, storage.layout(), storage.class_names)
    assert torch.equal(again.labels, storage.labels)
    assert torch.equal(decoded(again).points, decoded(storage).points)
    assert torch.equal(decoded(again).labels, decoded(storage).labels)
    assert "counts" not in storages[name].from_clouds(uneven()[[0, 4, 5]], Budget(1, 12, 7)).arrays()


@each_kind
@pytest.mark.parametrize(
    "counts",
    [
        np.array([4, 1, 2], np.uint16),
        np.array([5, 0, 3], np.uint16),
        np.array([4, 4], np.uint16),
        np.array([4, 1, 3], np.int64),
        np.array([4.0, 1.0, 3.0]),
    ],
    ids=["too few", "an empty class", "of two classes", "of another type", "no integers"],
)
def test_counts_that_do_not_fit(name: str, counts: np.ndarray) -> None:
    storage = made(name)
    with pytest.raises(InputError, match=r"^counts: .*expected uint16 of shape \(3,\), 8 in all, none 0"):
        type(storage).from_arrays({**storage.arrays(), "counts": counts}, storage.layout(), storage.class_names)


@each_kind
def test_some_clouds_are_kept(name: str) -> None:
    storage = made(name)
    storage.soften(torch.rand(8, 3, generator=torch.Generator().manual_seed(1)).softmax(1), learn=True)
    if name == "rotated":
        storage.learned()["angles"].data.normal_(generator=torch.Generator().manual_seed(2))
    index = torch.tensor([0, 2, 4, 7])
    kept = storage.kept(index)
    assert torch.equal(decoded(kept).points, decoded(storage).points[index])
    assert torch.equal(decoded(kept).labels, decoded(storage).labels[index])
    assert kept.learned().keys() == storage.learned().keys()
    assert all(value.is_leaf for value in kept.learned().values())


@pytest.mark.parametrize("clouds", [10**9, 2**62, 0, -8, 8.0, True])
def test_a_file_cannot_ask_for_more_clouds_than_it_holds(clouds: object) -> None:
    storage = made("coded")
    layout = {**storage.layout(), "clouds": clouds}
    with pytest.raises(InputError, match=r"^layout"):
        CodedPoints.from_arrays(storage.arrays(), layout, storage.class_names)  # type: ignore[arg-type]


def test_an_artefact_of_classes_of_different_sizes(make_artefact: Callable[..., Artefact], tmp_path: object) -> None:
    storage = made("coded")
    facts = make_artefact(classes=3, points=12, bits=7).metadata
    names = {"class_names": ("a", "b", "c"), "storage": "coded", "layout": storage.layout()}
    artefact = Artefact(storage, facts.model_copy(update={**names, "clouds_per_class": 8 / 3}))
    artefact.save(path := tmp_path / "a.h5")  # type: ignore[operator]
    loaded = Artefact.load(path)
    assert loaded.clouds.fingerprint() == artefact.clouds.fingerprint()
    assert loaded.budget.clouds_per_class == COUNTS
    assert loaded.bytes_per_class == storage.nbytes / 3


# Rate


def clustered(spread: float) -> CodedPoints:
    """Two classes, each around a middle of its own."""
    random = torch.Generator().manual_seed(0)
    values = torch.randn(8, 40, 3, generator=random) * spread
    values += torch.tensor([-0.5, 0.5]).repeat_interleave(4)[:, None, None]
    return CodedPoints(values.clamp(-1, 1), torch.arange(2).repeat_interleave(4), 6, ("a", "b"))


def test_the_rate_is_lower_where_a_class_has_its_points() -> None:
    storage = clustered(0.1)

    def rate(place: float, label: int) -> float:
        clouds = PointClouds(torch.full((1, 1, 3), place), torch.tensor([label]), ("a", "b"))
        return storage.rate(clouds).item()

    assert rate(-0.5, 0) < rate(-0.3, 0) < rate(0.0, 0)
    assert rate(-0.5, 0) < rate(-0.5, 1)
    assert rate(-0.5, 0) == pytest.approx(rate(0.5, 1), abs=0.5)


def test_the_rate_foretells_the_stream() -> None:
    rates = [clustered(spread).rate(clustered(spread).decode()).item() for spread in (0.02, 0.1, 0.3)]
    sizes = [clustered(spread).nbytes for spread in (0.02, 0.1, 0.3)]
    assert rates == sorted(rates)
    assert sizes == sorted(sizes)


def test_the_gradient_of_the_rate_is_that_of_its_value() -> None:
    storage = clustered(0.3)
    points = storage.points.detach()[:1, :3].clone().double().requires_grad_()
    storage.points = storage.points.detach().double()

    def rate(values: Tensor) -> Tensor:
        clouds = PointClouds(torch.zeros(1, 3, 3), torch.tensor([0]), ("a", "b"))
        object.__setattr__(clouds, "points", values)  # which are made float32 otherwise
        return storage.rate(clouds)

    assert torch.autograd.gradcheck(rate, (points,), eps=1e-7)


class Still(Objective):
    """Indifferent to the clouds."""

    name = "still"

    def prepare(self, real: PointClouds) -> None:
        pass

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        return 0 * decoded.points.sum()


def test_a_rate_in_the_loss_makes_the_stream_shorter() -> None:
    storage = clustered(0.3)
    before = storage.nbytes
    distill(uneven(), storage, Still(), DistillSettings(steps=30, lr=0.01, rate=1.0))
    assert storage.nbytes < 0.97 * before
    raw = StoredPoints(storage.points, storage.labels, 6, ("a", "b"))
    with pytest.raises(InputError, match=r"^storage points: a rate, expected storage 'coded'"):
        distill(uneven(), raw, Still(), DistillSettings(steps=1, lr=0.01, rate=1.0))


def test_a_file_cannot_ask_for_a_density_of_countless_classes() -> None:
    names = tuple(f"class {number}" for number in range(5000))
    storage = made("coded")
    layout = {"bits": 4, "points": 1, "clouds": 5000}
    with pytest.raises(InputError, match=r"^class_names: 5000 classes, expected at most 4096"):
        CodedPoints.from_arrays({"codes": np.zeros(400, np.uint8)}, layout, names)
    assert storage.arrays()["codes"].nbytes < 400


def test_classes_too_large_for_their_counts_are_refused() -> None:
    labels = torch.cat([torch.zeros(70_000, dtype=torch.int64), torch.ones(1, dtype=torch.int64)])
    storage = StoredPoints(torch.zeros(70_001, 1, 3), labels, 8, ("a", "b"))
    with pytest.raises(InputError, match=r"^counts: 70000 clouds of a class, expected at most 65535"):
        storage.arrays()


@pytest.mark.parametrize("name", ["implicit", "morphed", "symmetric"])
def test_a_few_parts_cannot_ask_for_countless_clouds(name: str) -> None:
    """Sizes of a layout are checked before arrays of those sizes are made, whatever the arrays are."""
    clouds = uneven(16)[[0, 1, 4, 5, 6]]
    even = PointClouds(clouds.points[:4], torch.tensor([0, 0, 1, 1]), ("a", "b"))
    storage = storages[name].from_clouds(even, Budget(2, 16, 8))
    layout = {**storage.layout(), "points": 20_000, "clouds": 20_000}
    with pytest.raises(InputError, match=r"^layout: \d+ numbers when decoded, expected at most"):
        storages[name].from_arrays(storage.arrays(), layout, ("a", "b"))

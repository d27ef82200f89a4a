"""What every registered storage has to keep, and budgets."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.artefact.artefact import Artefact
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget, Storage, storages
from pcdistill.storage.implicit import ImplicitClouds

every_bits = pytest.mark.parametrize("bits", [2, 6, 8, 12, 16, 32])
FIXED_POINT_ONLY = ("coded",)
every_storage = pytest.mark.parametrize("kind", [storages[name] for name in storages], ids=list(storages))

SIDE = 9  # of grids
EVEN = {"symmetric"}  # number of points
JOINT = {"implicit", "morphed"}  # what is stored is shared: a cloud hangs on the others and their order


@pytest.fixture(autouse=True)
def _quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """How near a fit comes is tested elsewhere."""
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 5)


def size(kind: type[Storage], points: int) -> int:
    """`points`, or the next number that the storage can take."""
    return points + points % 2 if kind.name in EVEN else points


def filled(kind: type[Storage], clouds: PointClouds, bits: int = 8) -> Storage:
    each = len(clouds) // clouds.num_classes
    side = SIDE if kind.dense else 0
    if kind.name in FIXED_POINT_ONLY and bits > 12:
        with pytest.raises(InputError, match=f"^bits: {bits} in storage '{kind.name}', expected 2 to 12"):
            kind.from_clouds(clouds, Budget(clouds_per_class=each, points=clouds.points_per_cloud, bits=bits))
        pytest.skip("floating point is refused")
    return kind.from_clouds(clouds, Budget(each, clouds.points_per_cloud, bits, side=side))


@every_storage
def test_the_name_is_the_registered_one(kind: type[Storage]) -> None:
    assert storages[kind.name] is kind


@every_storage
@every_bits
def test_arrays_bring_the_clouds_back(
    kind: type[Storage], bits: int, random_clouds: Callable[..., PointClouds]
) -> None:
    storage = filled(kind, random_clouds(3, 2, size(kind, 11)), bits)
    arrays, layout = storage.arrays(), storage.layout()
    again = kind.from_arrays(arrays, layout, storage.class_names)
    with torch.no_grad():
        before, after = storage.decode(), again.decode()
    assert before.points.numpy().tobytes() == after.points.numpy().tobytes()
    assert torch.equal(before.labels, after.labels)
    assert before.class_names == after.class_names == storage.class_names
    assert again.layout() == layout
    assert again.arrays().keys() == arrays.keys()
    for name, array in again.arrays().items():
        assert array.dtype == arrays[name].dtype
        assert array.tobytes() == arrays[name].tobytes()


@every_storage
@every_bits
def test_nbytes_is_what_the_file_holds(
    kind: type[Storage], bits: int, make_artefact: Callable[..., Artefact], tmp_path: Path
) -> None:
    made = make_artefact(points=size(kind, 11), bits=bits)
    storage = filled(kind, made.clouds, bits)
    layout = storage.layout()
    facts = made.metadata.model_copy(update={"storage": kind.name, "layout": layout, "bits": layout["bits"]})
    Artefact(storage, facts).save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert storage.nbytes == sum(data.id.get_storage_size() for data in file["arrays"].values())
    assert all(type(value) is int for value in storage.layout().values())


@every_storage
def test_what_is_learned_are_leaves_that_decode_depends_on(
    kind: type[Storage], random_clouds: Callable[..., PointClouds]
) -> None:
    storage = filled(kind, random_clouds(2, 3, size(kind, 9)))
    learned = storage.learned()
    assert learned
    assert all(value.is_leaf and value.requires_grad for value in learned.values())
    total = (storage.decode().points + torch.tensor([0.1, 0.2, 0.3])).pow(3).sum()  # changes with any motion
    for gradient in torch.autograd.grad(total, list(learned.values())):
        assert gradient.isfinite().all()
        assert gradient.any()
    before = storage.decode().points.detach().clone()
    with torch.no_grad():
        for value in storage.learned().values():
            value.mul_(0.5)
    assert not torch.equal(storage.decode().points.detach(), before)


@every_storage
def test_soft_labels_come_back_and_are_counted(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    storage = filled(kind, random_clouds(3, 2, size(kind, 9)))
    hard = storage.nbytes
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    storage.soften(soft / soft.sum(1, keepdim=True), learn=True)
    assert storage.nbytes == hard + 18
    assert storage.layout()["soft_labels"] == 1
    again = kind.from_arrays(storage.arrays(), storage.layout(), storage.class_names)
    index = torch.tensor([4, 1])
    assert torch.equal(again.decode(index).labels, storage.decode(index).labels)
    assert torch.equal(again.decode(index).hard_labels, storage.labels[index])
    assert torch.autograd.grad(storage.decode().labels[:, 0].sum(), storage.learned()["labels"])[0].any()
    with pytest.raises(InputError, match="soft labels"):
        storage.soften(soft[:4])


@every_storage
def test_some_clouds_decode_as_among_all(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    storage = filled(kind, random_clouds(3, 4, size(kind, 9)))
    index = torch.tensor([7, 0, 3, 11])
    whole, some = storage.decode(), storage.decode(index)
    assert len(storage) == len(whole) == 12
    assert torch.equal(some.points, whole.points[index])
    assert torch.equal(some.labels, whole.labels[index])


@every_storage
@every_bits
def test_without_gradient_clouds_are_a_copy(
    kind: type[Storage], bits: int, random_clouds: Callable[..., PointClouds]
) -> None:
    storage = filled(kind, random_clouds(2, 2, size(kind, 9)), bits)
    with torch.no_grad():
        decoded = storage.decode().points
        kept = decoded.clone()
        for value in storage.learned().values():
            value.zero_()
    assert not decoded.requires_grad
    assert torch.equal(decoded, kept)


@every_storage
def test_clouds_of_a_class_may_come_in_any_order(
    kind: type[Storage], random_clouds: Callable[..., PointClouds]
) -> None:
    clouds = random_clouds(3, 4, size(kind, 9))
    order = torch.tensor([2, 0, 3, 1, 4, 5, 6, 7, 11, 10, 9, 8])
    first, second = filled(kind, clouds).decode(), filled(kind, clouds[order]).decode()
    if kind.name not in JOINT:
        assert torch.equal(second.points, first.points[order])
    assert torch.equal(second.labels, first.labels)


@every_storage
def test_the_initial_clouds_are_left_alone(kind: type[Storage], random_clouds: Callable[..., PointClouds]) -> None:
    clouds = random_clouds(2, 2, size(kind, 9))
    before = clouds.fingerprint()
    storage = filled(kind, clouds)
    with torch.no_grad():
        for value in storage.learned().values():
            value.zero_()
    assert clouds.fingerprint() == before


@every_storage
@pytest.mark.parametrize(
    "layout", [{}, {"bits": 8}, {"bits": True, "points": 9}, {"bits": 8, "points": -9}, {"bits": 7, "points": 9}]
)
def test_a_layout_that_does_not_fit(
    kind: type[Storage], layout: dict[str, int], random_clouds: Callable[..., PointClouds]
) -> None:
    storage = filled(kind, random_clouds(2, 2, size(kind, 9)))
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        kind.from_arrays(storage.arrays(), layout, storage.class_names)
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        kind.from_arrays({}, storage.layout(), storage.class_names)


@every_storage
@pytest.mark.parametrize("change", [{"clouds_per_class": 3}, {"points": 8}])
def test_clouds_that_do_not_fit_the_budget(
    kind: type[Storage], change: dict[str, int], random_clouds: Callable[..., PointClouds]
) -> None:
    points = size(kind, 9)
    clouds = random_clouds(2, 2, points)
    budget = Budget(2, points, side=SIDE if kind.dense else 0)
    if kind.dense and "points" in change:  # made of as many points as there are, whatever it decodes to
        with torch.no_grad():
            assert kind.from_clouds(clouds, replace(budget, **change)).decode().points.shape == (4, change["points"], 3)
    else:
        with pytest.raises(InputError, match=r"^initial clouds"):
            kind.from_clouds(clouds, replace(budget, **change))
    mixed = clouds[[0, 2, 1, 3]]
    with pytest.raises(InputError, match="class by class"):
        kind.from_clouds(mixed, budget)


@pytest.mark.parametrize(("bits", "per_cloud"), [(2, 7), (6, 21), (8, 27), (12, 41), (16, 54), (32, 108)])
def test_stored_points_take_this_many_bytes(
    bits: int, per_cloud: int, random_clouds: Callable[..., PointClouds]
) -> None:
    storage = filled(storages["points"], random_clouds(2, 3, 9), bits)
    assert storage.nbytes == 6 * per_cloud
    assert Budget(clouds_per_class=3, points=9, bits=bits).cloud_bytes == per_cloud


@given(st.integers(2, 12), st.integers(1, 3), st.integers(1, 12), st.integers(0, 2**32))
def test_stored_points_of_any_size(bits: int, each: int, points: int, seed: int) -> None:
    values = 2.4 * torch.rand(2 * each, points, 3, generator=torch.Generator().manual_seed(seed)) - 1.2
    clouds = PointClouds(values, torch.arange(2).repeat_interleave(each), ("a", "b"))
    storage = filled(storages["points"], clouds, bits)
    again = storages["points"].from_arrays(storage.arrays(), storage.layout(), ("a", "b"))
    decoded = storage.decode().points.detach()
    assert torch.equal(again.decode().points, decoded)
    assert (decoded - values.clamp(-1, 1)).abs().max() <= 1 / (2**bits - 1) + 2e-7


@pytest.mark.parametrize("bits", [16, 32])
def test_stored_floats_are_not_clipped(bits: int) -> None:
    values = torch.tensor([[[1.5, -2.25, 0.125]], [[0.0, 1e-3, -1e-3]]])
    storage = filled(storages["points"], PointClouds(values, torch.tensor([0, 1]), ("a", "b")), bits)
    expected = values.half().float() if bits == 16 else values
    assert torch.equal(storage.decode().points, expected)
    with np.errstate(all="raise"):
        assert storage.arrays()["codes"].dtype == f"float{bits}"


@pytest.mark.parametrize("bits", [-8, 0, 1, 13, 15, 17, 24, 64])
def test_bits_that_nothing_can_store(bits: int) -> None:
    with pytest.raises(InputError, match=rf"^bits: {bits}, expected 2 to 12"):
        Budget(clouds_per_class=1, points=1, bits=bits)


def test_budgets_without_content() -> None:
    with pytest.raises(InputError, match=r"^points: 0, expected at least 1$"):
        Budget(clouds_per_class=1, points=0)
    with pytest.raises(InputError, match=r"^clouds_per_class: 0, expected at least 1$"):
        Budget(clouds_per_class=0, points=1)

"""What storages made of parts have in common: byte rules, gradients, fits, arrays that are not to be trusted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.condense.loop import DistillSettings, distill
from pcdistill.core.errors import InputError
from pcdistill.data.procedural.shapes import generate
from pcdistill.geometry import chamfer
from pcdistill.matching import Objective
from pcdistill.storage import Budget, storages
from pcdistill.storage.implicit import ImplicitClouds
from pcdistill.storage.parts import Part, PartedStorage
from pcdistill.storage.points import StoredPoints

Clouds = Callable[..., PointClouds]
PARTED = {name: kind for name in storages if issubclass(kind := storages[name], PartedStorage)}
every_parted = pytest.mark.parametrize("kind", list(PARTED.values()), ids=list(PARTED))


@pytest.fixture(scope="module")
def shapes() -> PointClouds:
    """8 clouds of 128 points each of airplanes, beds and bottles."""
    made = generate("train", 8, 128)
    made = made[made.hard_labels.argsort(stable=True)[:24]]
    return PointClouds(made.points, made.hard_labels, made.class_names[:3])


@pytest.fixture
def quick_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 5)


def filled(kind: type[PartedStorage], clouds: PointClouds, bits: int = 8) -> PartedStorage:
    return kind.from_clouds(clouds, Budget(len(clouds) // clouds.num_classes, clouds.points_per_cloud, bits))


def test_the_three_are_found() -> None:
    assert PARTED.keys() == {"implicit", "morphed", "symmetric"}


# By hand, for 3 classes of 8 clouds of 128 points: coordinates of a cloud are 384 numbers, at 6 bits 288 bytes.
BYTES: dict[str, dict[int, int]] = {
    # 4 anchors, 4 x 3 weights
    "morphed": {8: 3 * 1560, 6: 3 * (4 * 288 + 24), 16: 3 * (4 * 768 + 24), 32: 3 * (96 * 4 * 128 + 32 * 12) // 8},
    # 192 coordinates and an axis
    "symmetric": {8: 24 * 193, 6: 24 * 145, 16: 24 * 385, 32: 24 * 769},
    # 48 x (4 + 49) + 3 x 49 + 96 x 24 weights, and 24 per cloud
    "implicit": {8: 2 * (4995 + 576), 6: 2 * (4995 + 576), 16: 2 * (4995 + 576), 32: 4 * (4995 + 576)},
}  # fmt: skip


@pytest.mark.usefixtures("quick_fit")
@pytest.mark.parametrize("bits", [6, 8, 16, 32])
@every_parted
def test_bytes_are_those_of_the_rule(kind: type[PartedStorage], bits: int, shapes: PointClouds) -> None:
    assert filled(kind, shapes, bits).nbytes == BYTES[kind.name][bits]
    assert kind.stored_bytes(Budget(8, 128, bits), 3) == BYTES[kind.name][bits]


@pytest.mark.usefixtures("quick_fit")
@pytest.mark.parametrize("each", [1, 2, 3, 5, 9])
@every_parted
def test_bytes_are_known_beforehand(kind: type[PartedStorage], each: int, random_clouds: Clouds) -> None:
    for points in (2, 6, 20):
        storage = filled(kind, random_clouds(2, each, points), 7)
        assert storage.nbytes == kind.stored_bytes(Budget(each, points, 7), 2)
        assert len(storage) == len(storage.decode()) == 2 * each
        again = kind.from_arrays(storage.arrays(), storage.layout(), storage.class_names)
        assert torch.equal(again.decode().points, storage.decode().points)


# Of the mean squared distance between different clouds of a class; a fit that stored nothing of a cloud would reach 1.
NEAR = {"morphed": 0.5, "symmetric": 0.4, "implicit": 0.7}


@every_parted
def test_decoded_clouds_are_near_the_given_ones(
    kind: type[PartedStorage], shapes: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 200)
    found = filled(kind, shapes).decode().points.detach()
    others = shapes.points.view(3, 8, 128, 3).roll(1, dims=1).flatten(0, 1)
    other = chamfer(shapes.points, others).mean()
    assert chamfer(found, shapes.points).mean() < NEAR[kind.name] * other
    assert filled(kind, shapes).nbytes < StoredPoints.from_clouds(shapes, Budget(8, 128, 8)).nbytes * 1.3


@pytest.mark.usefixtures("quick_fit")
@every_parted
def test_fits_are_the_same_every_time(kind: type[PartedStorage], shapes: PointClouds) -> None:
    torch.manual_seed(1)
    first = filled(kind, shapes).arrays()
    torch.manual_seed(2)
    second = filled(kind, shapes).arrays()
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }


@pytest.mark.usefixtures("quick_fit")
@every_parted
def test_derivatives_of_what_is_decoded(kind: type[PartedStorage], random_clouds: Clouds) -> None:
    """In float64, without the rounding, through which gradients pass unchanged."""
    storage = filled(kind, random_clouds(2, 3, 6), 32)
    if kind is ImplicitClouds:  # a smaller network
        storage = kind.from_clouds(random_clouds(2, 3, 6), Budget(3, 6, 32), width=4, code=2)
    names = list(storage.learned())
    exact = [storage.values[name].detach().double().requires_grad_() for name in names]
    index = torch.tensor([5, 0, 2])

    def made(*values: Tensor) -> Tensor:
        return kind.assemble(storage.values | dict(zip(names, values, strict=True)), storage.sizes, index)

    assert torch.autograd.gradcheck(made, exact)
    weights = torch.rand(3, 6, 3, generator=torch.Generator().manual_seed(2))
    found = torch.autograd.grad((storage.decode(index).points * weights).sum(), list(storage.learned().values()))
    for ours, theirs in zip(found, torch.autograd.grad((made(*exact) * weights).sum(), exact), strict=True):
        torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("quick_fit")
@pytest.mark.parametrize("bits", [6, 16])
@every_parted
def test_gradients_are_those_at_the_rounded_values(kind: type[PartedStorage], bits: int, random_clouds: Clouds) -> None:
    storage = filled(kind, random_clouds(2, 3, 6), bits)
    rounded = kind.from_arrays(storage.arrays(), storage.layout(), storage.class_names)
    weights = torch.rand(6, 6, 3, generator=torch.Generator().manual_seed(2))
    gradients = [
        torch.autograd.grad((made.decode().points * weights).sum(), list(made.learned().values()))
        for made in (storage, rounded)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


class Target(Objective):
    """Distance of decoded clouds to one ball, which no storage starts at."""

    name = "target"

    def prepare(self, real: CloudSource) -> None:
        pass

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        return (decoded.points.norm(dim=2) - 0.5).square().mean()


@pytest.mark.usefixtures("quick_fit")
@every_parted
def test_distilling_lowers_a_loss(kind: type[PartedStorage], shapes: PointClouds) -> None:
    storage = filled(kind, shapes)
    before = storage.arrays()
    losses = distill(shapes, storage, Target(), DistillSettings(steps=20, lr=0.01, batch=16)).losses
    with torch.no_grad():
        assert Target().loss(storage.decode(), 0) < 0.9 * losses[0]
    assert any(array.tobytes() != before[name].tobytes() for name, array in storage.arrays().items())


@pytest.mark.usefixtures("quick_fit")
@every_parted
def test_arrays_that_are_not_to_be_trusted(kind: type[PartedStorage], random_clouds: Clouds) -> None:
    storage = filled(kind, random_clouds(2, 4, 8))
    arrays, layout = storage.arrays(), storage.layout()

    def refused(name: str, changed: Any, found: str) -> None:
        given = {key: array for key, array in (arrays | {name: changed}).items() if array is not None}
        with pytest.raises(InputError, match=rf"^{name}: {found}[^\n]*$"):
            kind.from_arrays(given, layout, storage.class_names)

    for name, array in arrays.items():
        refused(name, None, "missing, expected ")
        refused(name, array[:-1], rf"{array.dtype} of shape .*, expected {array.dtype} of shape ")
        refused(name, array.astype(np.float64), "float64 of shape")
        if array.dtype == np.float16:
            for value in (np.nan, np.inf):
                bad = array.copy()
                bad.flat[-1] = value
                refused(name, bad, "NaN or infinity, expected finite values")


@pytest.mark.usefixtures("quick_fit")
@every_parted
def test_layouts_that_are_not_to_be_trusted(kind: type[PartedStorage], random_clouds: Clouds) -> None:
    storage = filled(kind, random_clouds(2, 4, 8))
    arrays, layout = storage.arrays(), storage.layout()
    for field in ("points", "clouds", *kind.fields):
        for value in (0, -1, 2**31, 10**400, 2**31 - 2, True, 2.0, None, layout[field] + 2, layout[field] - 1):
            # It decodes into as many points as the layout says; the metadata say so, too.
            if field == "points" and kind is ImplicitClouds and value in (10, 7):
                continue
            with pytest.raises(InputError, match=r"^[^\n]{1,300}$"):
                kind.from_arrays(arrays, layout | {field: value}, storage.class_names)  # type: ignore[dict-item]
    with pytest.raises(InputError, match="soft_labels"):
        kind.from_arrays(arrays, layout | {"soft_labels": 0}, storage.class_names)


@every_parted
def test_unknown_integers_are_refused(kind: type[PartedStorage], random_clouds: Clouds) -> None:
    with pytest.raises(InputError, match=f"^storage {kind.name}: colour"):
        kind.from_clouds(random_clouds(2, 4, 8), Budget(4, 8), colour=1)


def test_weights_beyond_float16_go_to_its_ends() -> None:
    part, values = Part((1, 4)), torch.tensor([[1e6, -1e6, 0.1, 70000.0]], requires_grad=True)
    stored = part.rounded(values, 8)
    assert stored.tolist() == [[65504.0, -65504.0, float(np.float16(0.1)), 65504.0]]
    assert torch.autograd.grad(stored.sum(), values)[0].tolist() == [[1.0] * 4]
    assert torch.equal(part.read("weights", part.write(values, 8), 8), stored)
    assert torch.equal(part.rounded(values, 32), values)

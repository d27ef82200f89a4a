"""How storages made of parts decode, against the formulas written out point by point."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.storage import Budget
from pcdistill.storage.implicit import FREQUENCY, ImplicitClouds, sphere
from pcdistill.storage.morphed import MorphedClouds
from pcdistill.storage.parts import PartedStorage
from pcdistill.storage.symmetric import MirroredHalves

Clouds = Callable[..., PointClouds]


def arrays_of(storage: PartedStorage) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in storage.values.items()}


def decoded(storage: PartedStorage) -> np.ndarray:
    points: np.ndarray = storage.decode().points.detach().numpy()
    return points


def close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_morphed_clouds_are_anchors_and_mixtures_of_them(random_clouds: Clouds) -> None:
    storage = MorphedClouds.from_clouds(random_clouds(2, 5, 6), Budget(5, 6, 32), anchors=3)
    with torch.no_grad():
        storage.values["weights"].copy_(torch.tensor([[0.5, -1], [2, 0], [0, 0], [1, 3]]))
    parts, found = arrays_of(storage), decoded(storage)
    for label in range(2):
        anchors = parts["anchors"][3 * label : 3 * label + 3]
        close(found[5 * label : 5 * label + 3], anchors)
        for mixed in range(2):
            logits = [*parts["weights"][2 * label + mixed], 0.0]
            total = sum(map(math.exp, logits))
            cloud = sum(math.exp(logit) / total * anchor for logit, anchor in zip(logits, anchors, strict=True))
            close(found[5 * label + 3 + mixed], cloud)


def test_mixtures_of_the_anchors_are_found_again(random_clouds: Clouds) -> None:
    """Anchors so far apart from each other's order that the assignment is known: small moves of one cloud."""
    first = random_clouds(1, 1, 12).points
    moves = 0.02 * torch.randn(3, 12, 3, generator=torch.Generator().manual_seed(1))
    anchors = first + moves
    mixed = 0.2 * anchors[0] + 0.7 * anchors[1] + 0.1 * anchors[2]
    shuffled = mixed[torch.randperm(12, generator=torch.Generator().manual_seed(2))]
    clouds = PointClouds(torch.cat([anchors, shuffled[None]]), torch.zeros(4, dtype=torch.int64), ("a",))
    storage = MorphedClouds.from_clouds(clouds, Budget(4, 12, 32), anchors=3)
    assert np.abs(decoded(storage)[3] - mixed.numpy()).max() < 5e-3


@pytest.mark.parametrize(("clouds", "anchors"), [(1, 1), (2, 2), (3, 2), (4, 2), (8, 4), (20, 10)])
def test_half_of_the_clouds_are_anchors(clouds: int, anchors: int) -> None:
    assert MorphedClouds.rule(clouds, 128) == {"anchors": anchors}


@pytest.mark.parametrize("anchors", [0, 1, 6])
def test_numbers_of_anchors_that_make_no_sense(anchors: int, random_clouds: Clouds) -> None:
    with pytest.raises(InputError, match=rf"^anchors: {anchors}, expected 2 to 5"):
        MorphedClouds.from_clouds(random_clouds(2, 5, 6), Budget(5, 6), anchors=anchors)


@pytest.mark.parametrize("axis", [0, 1])
def test_symmetric_clouds_are_stored_exactly(axis: int) -> None:
    half = torch.rand(1, 8, 3, generator=torch.Generator().manual_seed(0))
    image = half.clone()
    image[..., axis] *= -1
    cloud = torch.cat([image, half], 1)
    storage = MirroredHalves.from_clouds(PointClouds(cloud, torch.tensor([0]), ("a",)), Budget(1, 16, 32))
    assert storage.arrays()["axes"].tolist() == [axis]
    found = decoded(storage)[0]
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, cloud[0].tolist()))
    mirror = found[:8].copy()
    mirror[:, axis] *= -1
    assert (found[8:] == mirror).all()
    bad = storage.arrays() | {"axes": np.array([2], np.uint8)}
    with pytest.raises(InputError, match=r"^axes: value 2, expected 0 to 1$"):
        MirroredHalves.from_arrays(bad, storage.layout(), ("a",))


def test_odd_clouds_cannot_be_halved(random_clouds: Clouds) -> None:
    with pytest.raises(InputError, match=r"^points: 9, expected an even number"):
        MirroredHalves.from_clouds(random_clouds(2, 2, 9), Budget(2, 9))


def test_a_network_makes_clouds_of_the_sphere(random_clouds: Clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImplicitClouds, "fit_steps", 3)
    storage = ImplicitClouds.from_clouds(random_clouds(2, 2, 7), Budget(2, 7, 32), width=5, code=3)
    parts, found = arrays_of(storage), decoded(storage)
    for cloud, code in enumerate(parts["codes"]):
        gates = 1 + parts["gates"] @ code
        for point, place in enumerate(sphere(7).numpy()):
            hidden = np.sin(FREQUENCY * (parts["layer1"] @ [*place, 1])) * gates[:5]
            hidden = np.sin(parts["layer2"] @ [*hidden, 1]) * gates[5:]
            close(found[cloud, point], parts["layer3"] @ [*hidden, 1])


def test_the_sphere_is_covered_evenly() -> None:
    points = sphere(200)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(200, dtype=torch.float64))
    assert points.mean(0).norm() < 5e-3
    near = (torch.cdist(points, points) + 9 * torch.eye(200)).amin(1)
    assert near.min() > 0.7 * near.max()
    with pytest.raises(InputError, match=r"^points: 4097, expected at most 4096$"):
        ImplicitClouds.check({"points": 4097, "width": 1, "code": 1})

"""How storages made of parts decode, against the formulas written out point by point."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import random_rotations, rotate, rotation_matrix
from pcdistill.storage import Budget
from pcdistill.storage.basis import ShapeBasis
from pcdistill.storage.implicit import FREQUENCY, ImplicitClouds, sphere
from pcdistill.storage.mixture import GaussianMixtures, euler_angles, normal_draws
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


def test_a_basis_is_a_mean_and_scaled_modes(random_clouds: Clouds) -> None:
    storage = ShapeBasis.from_clouds(random_clouds(2, 5, 6), Budget(5, 6, 32), modes=3)
    parts, found = arrays_of(storage), decoded(storage)
    for cloud in range(10):
        label = cloud // 5
        expected = parts["mean"][label].copy()
        for mode in range(3):
            row = 3 * label + mode
            expected += parts["coefficients"][cloud, mode] * parts["scales"][row, 0] * parts["modes"][row]
        close(found[cloud], expected)
    np.testing.assert_allclose(np.abs(parts["modes"]).max((1, 2)), 1, atol=1e-6)
    assert np.abs(parts["coefficients"]).max() <= 1 + 1e-6


def test_a_basis_of_as_many_modes_as_differences_is_exact(random_clouds: Clouds) -> None:
    clouds = random_clouds(2, 4, 6)
    found = decoded(ShapeBasis.from_clouds(clouds, Budget(4, 6, 32), modes=3))
    for ours, theirs in zip(found, clouds.points.numpy(), strict=True):  # the same points in another order
        order = ((ours[:, None] - theirs) ** 2).sum(2).argmin(1)
        assert sorted(order) == list(range(6))
        close(ours, theirs[order])
    with pytest.raises(InputError, match=r"^modes: 4, expected 1 to 3"):
        ShapeBasis.from_clouds(clouds, Budget(4, 6), modes=4)


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


def test_mixtures_are_turned_and_scaled_draws(random_clouds: Clouds) -> None:
    storage = GaussianMixtures.from_clouds(random_clouds(1, 2, 11), Budget(2, 11, 32))
    parts, found, draws = arrays_of(storage), decoded(storage), normal_draws(3).numpy()
    for cloud in range(2):
        for point in range(11):
            component, draw = point % 4, draws[point // 4]
            turn = Rotation.from_euler("xyz", parts["angles"][cloud, component])
            offset = turn.apply(np.exp(parts["log_scales"][cloud, component]) * draw)
            close(found[cloud, point], parts["means"][cloud, component] + offset)


@pytest.mark.parametrize("count", [4, 8, 16, 33])
def test_draws_have_the_moments_of_the_normal_distribution(count: int) -> None:
    draws = normal_draws(count)
    torch.testing.assert_close(draws.mean(0), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(draws.T @ draws / count, torch.eye(3, dtype=torch.float64))
    assert normal_draws(1).tolist() == [[0, 0, 0]]


def test_angles_of_matrices_give_the_matrices() -> None:
    turns = random_rotations(50, torch.Generator().manual_seed(0), axis=None).double()
    torch.testing.assert_close(rotation_matrix(euler_angles(turns)), turns, atol=1e-6, rtol=0)
    locked = rotation_matrix(torch.tensor([[0.3, math.pi / 2, 1.1], [0.3, -math.pi / 2, 1.1]], dtype=torch.float64))
    torch.testing.assert_close(rotation_matrix(euler_angles(locked)), locked, atol=1e-9, rtol=0)


def test_a_single_gaussian_is_found_again() -> None:
    draws = normal_draws(128).float() * torch.tensor([0.3, 0.1, 0.05])
    turn = rotation_matrix(torch.tensor([0.4, -0.7, 1.2]))
    cloud = rotate(draws[None], turn) + torch.tensor([0.1, 0.2, -0.3])
    given = PointClouds(cloud, torch.tensor([0]), ("a",))
    found = decoded(GaussianMixtures.from_clouds(given, Budget(1, 128, 32), gaussians=2))[0]
    np.testing.assert_allclose(found.mean(0), [0.1, 0.2, -0.3], atol=0.03)
    np.testing.assert_allclose(np.cov(found.T), np.cov(cloud[0].numpy().T), atol=0.015)


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

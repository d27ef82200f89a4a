"""The nearest real cloud, against a search of all by k-d trees, and shapes of which the nearest is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from torch.testing import assert_close

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.procedural.shapes import generate
from pcdistill.geometry import chamfer, farthest_points
from pcdistill.geometry.nearest import nearest_real


def chamfer_by_trees(p: np.ndarray, q: np.ndarray) -> float:
    return float(np.mean(cKDTree(q).query(p)[0] ** 2) + np.mean(cKDTree(p).query(q)[0] ** 2))


@pytest.fixture(scope="module")
def real() -> PointClouds:
    return generate("train", 6, points=96)


def test_the_nearest_is_the_one_that_a_search_of_all_finds(real: PointClouds) -> None:
    clouds = generate("test", 2, points=32)
    found = nearest_real(clouds, real)
    thin = farthest_points(real.points, 32).numpy()
    for place, cloud in enumerate(clouds.points.numpy()):
        own = (real.labels == clouds.labels[place]).nonzero()[:, 0].tolist()
        distances = [chamfer_by_trees(cloud, thin[one]) for one in own]
        assert found.index[place] == own[int(np.argmin(distances))]
        assert float(found.distance[place]) == pytest.approx(min(distances), rel=1e-5)


def test_partners_stand_in_the_order_of_the_synthetic_points(real: PointClouds) -> None:
    mixed = torch.randperm(96, generator=torch.Generator().manual_seed(0))
    moved = real.points[:, mixed] + torch.tensor([0.01, 0, 0])
    found = nearest_real(real.with_points(moved), real)
    assert found.index.tolist() == list(range(len(real)))
    assert_close(found.points, real.points[:, mixed])
    assert_close(found.emd, torch.full((len(real),), 0.01))
    assert_close(found.distance, chamfer(moved, real.points))


def test_a_thinned_copy_has_distance_zero_and_its_own_points(real: PointClouds) -> None:
    copies = real.with_points(farthest_points(real.points, 24))[torch.tensor([41, 7, 20])]
    found = nearest_real(copies, real)
    assert found.index.tolist() == [41, 7, 20]
    assert torch.equal(found.points, copies.points)
    assert found.distance.tolist() == found.emd.tolist() == [0, 0, 0]


def test_classes_go_by_name_and_soft_labels_by_the_class_that_a_cloud_stands_for(real: PointClouds) -> None:
    names = real.class_names[::-1]
    soft = torch.full((len(real), 10), 0.1)
    other = replace(real.with_classes(names), labels=soft, classes=9 - real.labels)
    assert nearest_real(other, real).index.tolist() == list(range(len(real)))


def test_sets_that_do_not_fit(real: PointClouds) -> None:
    with pytest.raises(InputError, match=r"^shapes: clouds of 96 points, expected at least 97"):
        nearest_real(generate("train", 1, points=97), real)
    with pytest.raises(InputError, match=r"^shapes: no cloud of class 'bed', expected some of every class"):
        nearest_real(real, real[real.labels != 1])

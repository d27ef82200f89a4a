"""Artefacts as data sets of torch-geometric."""

from pathlib import Path

import pytest
import torch

import pcdistill as pcd
from pcdistill.core.errors import InputError
from pcdistill.pyg import CondensedDataset


@pytest.fixture(scope="module")
def artefact() -> pcd.Artefact:
    points = torch.randn(12, 40, 3, generator=torch.Generator().manual_seed(0))
    clouds = pcd.PointClouds.from_arrays(points, ["a", "b", "c"] * 4, points_per_cloud=None)
    return pcd.select(clouds, method="random", clouds_per_class=2, points=16, expand={"interpolate": 1})


def test_its_items_are_the_training_clouds(artefact: pcd.Artefact, tmp_path: Path) -> None:
    loader = pytest.importorskip("torch_geometric.loader", reason="torch-geometric is an extra")
    artefact.save(tmp_path / "set.h5")
    for given in (artefact, tmp_path / "set.h5", str(tmp_path / "set.h5")):
        dataset, clouds = CondensedDataset(given), artefact.training_clouds
        assert (len(dataset), dataset.num_classes, dataset.class_names) == (12, 3, ("a", "b", "c"))
        assert dataset[7].pos.equal(clouds.points[7])
        assert dataset[7].y.tolist() == [int(clouds.labels[7])]
    batch = next(iter(loader.DataLoader(dataset, batch_size=5)))
    assert batch.pos.equal(clouds.points[:5].reshape(-1, 3))
    assert dataset[:4].num_classes == 3
    assert len(dataset.shuffle()) == 12
    back = pcd.from_pyg(dataset)
    assert back.class_names == clouds.class_names
    assert back.labels.equal(clouds.labels)


def test_transforms_are_applied_when_an_item_is_taken(artefact: pcd.Artefact) -> None:
    transforms = pytest.importorskip("torch_geometric.transforms", reason="torch-geometric is an extra")
    dataset = CondensedDataset(artefact, transform=transforms.FixedPoints(5, replace=False))
    assert dataset[0].pos.shape == (5, 3)
    assert dataset.num_classes == 3


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.h5"):
        CondensedDataset(tmp_path / "none.h5")

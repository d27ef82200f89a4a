"""ShapeNet55: lists of .npy, the class in the file name."""

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.data.layouts.shapenet import SYNSETS

LISTS = {
    "train": ["03001627-b1.npy", "02691156-a1.npy", "02691156-a2.npy", "09999999-z1.npy"],
    "test": ["02691156-a3.npy", "03001627-b2.npy"],
}


@pytest.fixture
def folder(tmp_path, random_points):
    root = tmp_path / "ShapeNet55-34"
    (root / "ShapeNet-55").mkdir(parents=True)
    (root / "shapenet_pc").mkdir()
    points = iter(random_points(6, 40))
    for split, entries in LISTS.items():
        (root / "ShapeNet-55" / f"{split}.txt").write_text("\n".join(entries) + "\n")
        for entry in entries:
            np.save(root / "shapenet_pc" / entry, next(points))
    return root


def test_classes_by_synset(folder, random_points, reference, to_z_up):
    clouds = load(folder)
    assert clouds.class_names == ("airplane", "chair", "09999999")
    assert clouds.labels.tolist() == [1, 0, 0, 2]
    np.testing.assert_allclose(clouds.points, to_z_up(reference(random_points(6, 40)[:4])), atol=1e-6)
    assert load(folder, "test").class_names == clouds.class_names
    assert load(folder, points=10, seed=3).points.equal(load(folder, points=10, seed=3).points)


def test_official_synsets():
    assert len(SYNSETS) == 55
    assert len(set(SYNSETS.values())) == 55
    assert list(SYNSETS) == sorted(SYNSETS)


def test_bad_entries(folder):
    (folder / "shapenet_pc" / "02691156-a2.npy").unlink()
    with pytest.raises(InputError, match=r"02691156-a2\.npy: unreadable \(No such file"):
        load(folder)
    (folder / "ShapeNet-55" / "train.txt").write_text("02691156-../../secret.npy\n")
    with pytest.raises(InputError, match=r"train\.txt: entry '02691156-\.\./\.\./secret\.npy', expected <synset>"):
        load(folder)
    (folder / "ShapeNet-55" / "train.txt").write_text("chair.npy\n")
    with pytest.raises(InputError, match=r"train\.txt: entry 'chair\.npy'"):
        load(folder)

"""modelnet40_ply_hdf5_2048: several files, listed with the authors' prefix, y up."""

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load

CLASSES = ["airplane", "bathtub", "bed"]


@pytest.fixture
def folder(tmp_path, random_points):
    root = tmp_path / "modelnet40_ply_hdf5_2048"
    root.mkdir()
    (root / "shape_names.txt").write_text("\n".join(CLASSES) + "\n")
    lines = [f"data/modelnet40_ply_hdf5_2048/ply_data_train{part}.h5" for part in (1, 0)]
    (root / "train_files.txt").write_text("\n".join(lines) + "\n")
    (root / "test_files.txt").write_text("data/modelnet40_ply_hdf5_2048/ply_data_test0.h5\n")
    for number, name in enumerate(("train0", "train1", "test0")):
        with h5py.File(root / f"ply_data_{name}.h5", "w") as file:
            file["data"] = random_points(3, 48, number)
            file["label"] = np.array([[2], [0], [1]], dtype=np.uint8)
            file["normal"] = random_points(3, 48, 9)
    return root


def test_files_in_listed_order_turned_to_z_up(folder, random_points, reference, to_z_up):
    clouds = load(folder)
    raw = np.concatenate([random_points(3, 48, 1), random_points(3, 48, 0)])
    np.testing.assert_allclose(clouds.points, to_z_up(reference(raw)), atol=1e-6)
    assert clouds.labels.tolist() == [2, 0, 1, 2, 0, 1]
    assert clouds.class_names == tuple(CLASSES)
    assert (clouds.provenance["up_axis"], clouds.provenance["stored_up_axis"]) == ("z", "y")
    assert len(load(folder, "test")) == 3


def test_first_points(folder, random_points, reference, to_z_up):
    kept = load(folder, "test", points=10)
    np.testing.assert_allclose(kept.points, to_z_up(reference(random_points(3, 48, 2)[:, :10])), atol=1e-6)


def test_missing_part_and_bad_parts(folder):
    (folder / "ply_data_train0.h5").unlink()
    with pytest.raises(InputError, match=r"ply_data_train0\.h5: no such file"):
        load(folder)
    with h5py.File(folder / "ply_data_train0.h5", "w") as file:
        file["data"], file["label"] = np.zeros((2, 48, 3), "f4"), np.array([[0], [3]])
    with pytest.raises(InputError, match=r"ply_data_train0\.h5: label 3 of cloud 1, expected 0 to 2"):
        load(folder)
    with h5py.File(folder / "ply_data_train0.h5", "w") as file:
        file["points"] = np.zeros((2, 48, 3), "f4")
    with pytest.raises(InputError, match=r"ply_data_train0\.h5 data: no such dataset, expected one beside points"):
        load(folder)
    (folder / "train_files.txt").write_text("\n")
    with pytest.raises(InputError, match=r"train_files\.txt: empty"):
        load(folder)


def test_parts_of_different_width(folder, random_points):
    with h5py.File(folder / "ply_data_train0.h5", "w") as file:
        file["data"], file["label"] = random_points(2, 20), np.array([0, 1])
    with pytest.raises(InputError, match=r"files of \[20, 48\] points per cloud"):
        load(folder)
    assert load(folder, points=20).points_per_cloud == 20


def test_a_single_part_is_not_a_set(folder):
    with pytest.raises(InputError, match=r"ply_data_test0\.h5: no recognised layout"):
        load(folder / "ply_data_test0.h5")

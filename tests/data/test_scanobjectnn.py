"""ScanObjectNN: official folders and files; no default variant."""

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.data.layouts.scanobjectnn import CLASSES

FILES = {
    ("main_split", ""): 1,
    ("main_split_nobg", ""): 2,
    ("main_split", "_augmentedrot_scale75"): 3,
    ("main_split_nobg", "_augmentedrot_scale75"): 4,
}
VARIANTS = {"OBJ_BG": 1, "OBJ_ONLY": 2, "PB_T50_RS": 3, "PB_T50_RS-bg": 3, "PB_T50_RS-nobg": 4}


@pytest.fixture
def root(tmp_path, random_points):
    for (folder, suffix), seed in FILES.items():
        (tmp_path / "h5_files" / folder).mkdir(parents=True, exist_ok=True)
        for split, extra in (("training", 0), ("test", 10)):
            path = tmp_path / "h5_files" / folder / f"{split}_objectdataset{suffix}.h5"
            with h5py.File(path, "w") as file:
                file["data"] = random_points(15, 64, seed + extra)
                file["label"] = np.arange(15, dtype=np.int32)
                file["mask"] = np.zeros((15, 64))
    return tmp_path


@pytest.mark.parametrize(("variant", "seed"), VARIANTS.items())
def test_each_variant_is_its_own_file(root, random_points, reference, to_z_up, variant, seed):
    for split, extra in (("train", 0), ("test", 10)):
        clouds = load(f"scanobjectnn:{variant}", split, root=root)
        expected = to_z_up(reference(random_points(15, 64, seed + extra)))
        np.testing.assert_allclose(clouds.points, expected, atol=1e-6)
        assert clouds.labels.tolist() == list(range(15))
        assert clouds.class_names == CLASSES
        assert clouds.provenance["name"] == f"scanobjectnn:{variant}"
        assert ("nobg" in str(clouds.provenance["source"])) == (seed in (2, 4))


def test_no_default_variant(root):
    with pytest.raises(InputError, match=r"'scanobjectnn' without a variant, expected one of scanobjectnn:OBJ_ONLY, "):
        load("scanobjectnn", root=root)
    with pytest.raises(InputError, match=r"'scanobjectnn:PB_T50' \(did you mean 'scanobjectnn:PB_T50_RS'"):
        load("scanobjectnn:PB_T50", root=root)


def test_a_file_is_explicit_and_a_folder_is_not(root):
    main = root / "h5_files" / "main_split"
    by_path = load(main / "test_objectdataset_augmentedrot_scale75.h5", "train")
    assert by_path.fingerprint() == load("scanobjectnn:PB_T50_RS", root=root).fingerprint()
    with pytest.raises(InputError, match=r"main_split: a folder of several ScanObjectNN variants"):
        load(main)


def test_a_seeded_subset_of_the_points(root):
    name = "scanobjectnn:OBJ_BG"
    some, again, other = (load(name, root=root, points=32, seed=seed).points for seed in (1, 1, 2))
    assert some.equal(again)
    assert not some.equal(other)
    with pytest.raises(InputError, match=r"data: 64 points per cloud, expected at least the 65"):
        load(name, root=root, points=65)


def test_kept_points_are_distinct_stored_ones_and_not_just_the_first(root, random_points):
    path = root / "h5_files" / "main_split" / "training_objectdataset.h5"
    with h5py.File(path, "r+") as file:
        numbered = random_points(15, 64)
        numbered[:, :, 0] = np.arange(64)
        file["data"][...] = numbered
    kept = load(path, points=32, seed=1).points[:, :, 0].double().sort(dim=1).values
    steps = kept.diff(dim=1)
    steps = steps / steps.amin(dim=1, keepdim=True)  # whole numbers, if x still counts stored points
    np.testing.assert_allclose(steps, steps.round(), atol=1e-3)
    assert (steps.sum(dim=1) > 32).all()


def test_missing_sibling_and_bad_labels(root):
    folder = root / "h5_files" / "main_split"
    (folder / "test_objectdataset.h5").unlink()
    with pytest.raises(InputError, match=r"test_objectdataset\.h5: no such file"):
        load("scanobjectnn:OBJ_BG", "test", root=root)
    with h5py.File(folder / "training_objectdataset.h5", "r+") as file:
        file["label"][3] = 15
    with pytest.raises(InputError, match=r"training_objectdataset\.h5: label 15 of cloud 3, expected 0 to 14"):
        load("scanobjectnn:OBJ_BG", root=root)

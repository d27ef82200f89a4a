"""HDF5 files of points and labels, as other tools write them."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.data.prepare import MissingSplit

LABELS = np.repeat([0, 1], 6)


@pytest.fixture
def write(tmp_path, random_points):
    """Writes datasets by name: points `(12, 40, 3)` where None is given, else labels."""

    def make(name="own.h5", attributes=(), **datasets):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in datasets.items():
                file[key.replace("__", "/")] = random_points(12, 40) if value is None else value
            file.attrs.update(attributes)
        return tmp_path / name

    return make


@pytest.mark.parametrize("names", [("data", "label"), ("points", "labels"), ("X", "y"), ("pointclouds", "targets")])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], LABELS.astype("f4"), LABELS + 1])
def test_one_pair_is_split_here(write, names, labels):
    path = write(**{names[0]: None, names[1]: labels})
    train, test = load(path, seed=1), load(path, "test", seed=1)
    assert (train.class_counts.tolist(), test.class_counts.tolist()) == ([5, 5], [1, 1])
    assert train.class_names == tuple(str(int(one)) for one in np.unique(labels))
    assert train.provenance["up_axis"] == "unspecified"
    assert load(path, points=8).points_per_cloud == 8
    with pytest.raises(InputError, match="40 points per cloud, expected at least the 41 asked for"):
        load(path, points=41)
    assert load(path, points=41, at_most=True).points_per_cloud == 40


@pytest.mark.parametrize(
    ("parts", "test"),
    [
        ("{split}__data {split}__label", "test"),
        ("X_{split} y_{split}", "testing"),
        ("{split}_data {split}_labels", "val"),
    ],
)  # fmt: skip
def test_splits_in_the_file(write, parts, test):
    datasets = {}
    for split, labels in (("train", LABELS), (test, LABELS[::-1].copy())):
        points, label = parts.format(split=split).split()
        datasets |= {points: None, label: labels}
    path = write(**datasets)
    assert load(path).labels.tolist() == LABELS.tolist()
    assert load(path, "test").labels.tolist() == LABELS[::-1].tolist()


def test_a_file_of_the_other_split_beside(write):
    train, test = write("my_train_2048.h5", data=None, label=LABELS), write("my_test_2048.h5", data=None, label=LABELS)
    assert [len(load(path, split)) for path in (train, test) for split in ("train", "test")] == [12] * 4


def test_train_alone(write):
    with pytest.raises(MissingSplit, match=r"own\.h5 test: no test part, only train"):
        load(write(X_train=None, y_train=LABELS), "test")


def test_names_of_classes(write, tmp_path):
    assert load(write(data=None, label=LABELS, attributes={"class_names": ["ball", "box"]})).class_names[1] == "box"
    assert load(write(data=None, label=np.array([b"ball", b"box"])[LABELS])).class_names == ("ball", "box")
    listed = np.array([b"sphere", b"cube"])
    assert load(write(data=None, label=LABELS, shape_names=listed)).class_names == ("sphere", "cube")
    (tmp_path / "class_names.txt").write_text("kugel\nkiste\n")
    assert load(write(data=None, label=LABELS)).class_names == ("kugel", "kiste")
    with pytest.raises(InputError, match="label 2 of cloud 0, expected 0 to 1"):
        load(write(data=None, label=LABELS + 2))


def test_axes(write, to_z_up):
    stored = load(write(data=None, label=LABELS))
    turned = load(write(data=None, label=LABELS, attributes={"up_axis": "y"}))
    np.testing.assert_allclose(turned.points, to_z_up(stored.points.numpy()), atol=1e-6)
    assert load(write(data=None, label=LABELS), up_axis="y").points.equal(turned.points)


def test_other_files_are_described(write):
    with pytest.raises(InputError, match=r"no recognised layout \(in it: colour \(12,\), what \(12, 40, 3\)\)"):
        load(write(what=None, colour=LABELS))
    with pytest.raises(InputError, match=r"own\.h5 label: labels of shape \(11,\), expected one for each of 12"):
        load(write(data=None, label=LABELS[:11]))


@pytest.mark.parametrize("kind", ["external storage", "external link", "soft link", "virtual"])
def test_values_of_other_files_are_never_read(kind: str, tmp_path: Path) -> None:
    secret, path = tmp_path / "secret.bin", tmp_path / "own.h5"
    secret.write_bytes(np.arange(4 * 8 * 3, dtype=np.float32).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones((4, 8, 3), np.float32)
    with h5py.File(path, "w") as file:
        file["label"] = np.arange(4) % 2
        if kind == "external storage":
            file.create_dataset("data", (4, 8, 3), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif kind == "external link":
            file["data"] = h5py.ExternalLink("other.h5", "data")
        elif kind == "soft link":
            file["data"] = h5py.SoftLink("/label")
        else:
            layout = h5py.VirtualLayout((4, 8, 3), "f4")
            layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "data", (4, 8, 3))
            file.create_virtual_dataset("data", layout)
    with pytest.raises(InputError, match=r"(a link to another place|virtual or external data), expected"):
        load(str(path), "train")


def test_coordinates_first_are_told(tmp_path):
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["data"], file["label"] = np.random.default_rng(0).random((12, 3, 50)), np.arange(12) % 3
    with pytest.raises(InputError, match=r"data: shape \(12, 3, 50\), expected .*: transpose it"):
        load(tmp_path / "set.h5")


def test_a_file_that_was_not_fetched_is_told(tmp_path):
    (tmp_path / "set.h5").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(InputError, match=r"set\.h5: a pointer of Git LFS, not the file"):
        load(tmp_path / "set.h5")
    (tmp_path / "set.h5").write_text("<!DOCTYPE html>\n<html>")
    with pytest.raises(InputError, match=r"set\.h5: a page of HTML"):
        load(tmp_path / "set.h5")

"""Folders per class: the three forms, the ModelNet tree, seeded splits, and the cache behind them."""

import shutil

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.core.files import cache_root
from pcdistill.data import load


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))


def entries():
    return sorted((cache_root() / "data").glob("*.h5"))


def save_clouds(folder, count, random_points, seed, points=30):
    folder.mkdir(parents=True)
    for number, cloud in enumerate(random_points(count, points, seed)):
        np.save(folder / f"{number:02d}.npy", cloud)


def test_modelnet_tree(off_tree):
    clouds = load(off_tree("ModelNetX", ["bed", "night_stand"]), points=64)
    assert clouds.class_names == ("bed", "night_stand")
    assert clouds.labels.tolist() == [0, 0, 1, 1]
    assert tuple(clouds.points.shape) == (4, 64, 3)
    assert clouds.provenance["up_axis"] == "unspecified"
    # Boxes of 2 x 4 x 6 and, the second class, 2 x 4 x 12.
    extents = clouds.points.amax(dim=1) - clouds.points.amin(dim=1)
    np.testing.assert_allclose(extents[:, 2] / extents[:, 1], [1.5, 1.5, 3, 3], rtol=0.2)


def test_train_and_test_folders_first(tmp_path, random_points, reference):
    for seed, (split, name, count) in enumerate(
        [("train", "b", 3), ("train", "a", 2), ("test", "a", 1), ("test", "b", 2)]
    ):
        save_clouds(tmp_path / "set" / split / name, count, random_points, seed)
    train, test = load(tmp_path / "set"), load(tmp_path / "set", "test")
    assert train.class_names == test.class_names == ("a", "b")
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 0, 1, 1, 1], [0, 1, 1])
    expected = np.concatenate([reference(random_points(2, 30, 1)), reference(random_points(3, 30, 0))])
    np.testing.assert_allclose(train.points, expected, atol=1e-6)
    assert train.provenance["split_rule"] == "as in the folders"


def test_flat_folder_gets_a_seeded_stratified_split(tmp_path, random_points):
    save_clouds(tmp_path / "set" / "many", 10, random_points, 0)
    save_clouds(tmp_path / "set" / "two", 2, random_points, 1)
    (tmp_path / "set" / "many" / "notes.md").write_text("ignored")
    (tmp_path / "set" / ".hidden").mkdir()
    train, test = load(tmp_path / "set", seed=5), load(tmp_path / "set", "test", seed=5)
    assert train.class_counts.tolist() == [8, 1]
    assert test.class_counts.tolist() == [2, 1]
    clouds = np.concatenate([train.points, test.points])
    assert len(np.unique(clouds.reshape(12, -1), axis=0)) == 12
    assert train.provenance["split_rule"] == "own, stratified, 20% test, seed 5"
    assert load(tmp_path / "set", seed=5).fingerprint() == train.fingerprint()
    others = {load(tmp_path / "set", "test", seed=seed).fingerprint() for seed in range(6)}
    assert len(others) > 1


def test_order_and_place_of_files_on_disk_do_not_matter(off_tree, tmp_path, monkeypatch):
    first = load(off_tree("one", ["a", "b"]), points=32)
    shutil.copytree(tmp_path / "one" / "b", tmp_path / "two" / "one" / "b")
    shutil.copytree(tmp_path / "one" / "a", tmp_path / "two" / "one" / "a")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "another"))
    assert load(tmp_path / "two" / "one", points=32).fingerprint() == first.fingerprint()


def test_adding_an_object_leaves_the_others(off_tree, tmp_path):
    root = off_tree("one", ["a", "b"])
    before = load(root, points=32)
    shutil.copy(root / "a" / "train" / "a_0001.off", root / "a" / "train" / "a_0000.off")
    after = load(root, points=32)
    assert len(after) == len(before) + 1
    assert after.points[1:].equal(before.points)


def test_clouds_of_differing_length(tmp_path, random_points):
    save_clouds(tmp_path / "set" / "train" / "a", 1, random_points, 0, points=30)
    save_clouds(tmp_path / "set" / "train" / "b", 1, random_points, 1, points=20)
    whole = load(tmp_path / "set")
    assert whole.points_per_cloud == 1024
    assert {key: whole.provenance[key] for key in ("filled", "least_points", "most_points")} == {
        "filled": 2, "least_points": 20, "most_points": 30,
    }  # fmt: skip
    assert load(tmp_path / "set", points=1024).points.equal(whole.points)
    assert len(whole.points[1].unique(dim=0)) == 20
    smaller = load(tmp_path / "set", points=20)
    assert smaller.points_per_cloud == 20
    assert "filled" not in smaller.provenance
    filled = load(tmp_path / "set", points=21)
    assert filled.provenance["filled"] == 1
    assert len(filled.points[1, :20].unique(dim=0)) == 20  # the first ones are all different


def test_as_many_points_as_there_are(tmp_path, random_points):
    save_clouds(tmp_path / "set" / "train" / "a", 2, random_points, 0, points=30)
    save_clouds(tmp_path / "set" / "train" / "b", 1, random_points, 1, points=30)
    stored = load(tmp_path / "set")
    assert load(tmp_path / "set", points=64, at_most=True).points.equal(stored.points)
    assert load(tmp_path / "set", points=20, at_most=True).points.equal(load(tmp_path / "set", points=20).points)
    np.save(tmp_path / "set" / "train" / "b" / "more.npy", random_points(1, 50, 3)[0])
    assert load(tmp_path / "set", points=64, at_most=True).points_per_cloud == 64


def test_bad_trees(tmp_path, random_points, off_tree):
    root = off_tree("set", ["a", "b"])
    shutil.rmtree(root / "b" / "test")
    with pytest.raises(InputError, match=r"b/test: no such folder, while train has one"):
        load(root, "test", points=16)
    (root / "b" / "test").mkdir()
    with pytest.raises(InputError, match=r"b/test: no object files"):
        load(root, "test", points=16)
    (root / "a" / "train" / "a_0001.off").write_text("OFF\n0 0 0\n")
    with pytest.raises(InputError, match=r"a_0001\.off: a mesh without faces"):
        load(root, points=16)
    save_clouds(tmp_path / "single" / "a", 1, random_points, 0)
    save_clouds(tmp_path / "single" / "b", 2, random_points, 1)
    with pytest.raises(InputError, match=r"single/a: one file, expected at least two"):
        load(tmp_path / "single")
    save_clouds(tmp_path / "lone" / "a", 3, random_points, 0)
    with pytest.raises(InputError, match=r"lone: 1 class, expected at least two"):
        load(tmp_path / "lone")
    save_clouds(tmp_path / "half" / "train" / "a", 3, random_points, 0)
    with pytest.raises(InputError, match=r"half test: no test part, only train, expected a folder 'test'"):
        load(tmp_path / "half", "test")
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match=r"bare: no recognised layout"):
        load(tmp_path / "bare")


def test_second_load_reads_the_cache(off_tree, monkeypatch):
    root = off_tree("set", ["a", "b"])
    first = load(root, points=32)
    assert len(entries()) == 1
    monkeypatch.setattr("pcdistill.data.layouts.tree.read_objects", lambda *_: pytest.fail("converted again"))
    second = load(root, points=32)
    assert second.points.equal(first.points)
    assert second.fingerprint() == first.fingerprint()
    assert dict(second.provenance) == dict(first.provenance)


def test_what_the_result_depends_on_makes_a_new_entry(off_tree):
    root = off_tree("set", ["a", "b"])
    seen = {load(root, points=32).fingerprint()}
    seen.add(load(root, points=33).fingerprint())
    seen.add(load(root, points=32, seed=1).fingerprint())
    seen.add(load(root, "test", points=32).fingerprint())
    # Same size, same name, another content.
    path = root / "a" / "train" / "a_0001.off"
    path.write_text(path.read_text().replace("9.0", "1.0"))
    seen.add(load(root, points=32).fingerprint())
    assert len(seen) == 5
    assert len(entries()) == 5


@pytest.mark.parametrize("harm", ["cut", "flip", "text"])
def test_a_damaged_entry_is_built_again(off_tree, harm):
    root = off_tree("set", ["a", "b"])
    first = load(root, points=512)
    (entry,) = entries()
    content = bytearray(entry.read_bytes())
    if harm == "cut":
        entry.write_bytes(content[:-2000])
    elif harm == "text":
        entry.write_text("nothing")
    else:
        import h5py

        with h5py.File(entry, "r+") as file:
            file["clouds/points"][0, 0, 0] += 0.5
    damaged = entry.read_bytes()
    assert load(root, points=512).fingerprint() == first.fingerprint()
    assert entry.read_bytes() != damaged
    assert load(root, points=512).fingerprint() == first.fingerprint()


def test_a_cache_that_cannot_be_written(off_tree, tmp_path, monkeypatch):
    root = off_tree("set", ["a", "b"])
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "file"))
    assert len(load(root, points=32)) == 4

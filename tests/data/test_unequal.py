"""Clouds of unequal numbers of points: what becomes of them, and what is said of it."""

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load, open_streamed, remarks, skipped, write_hdf5
from pcdistill.data.catalog import load_counted
from pcdistill.data.prepare import Wanted


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PCDISTILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def unequal(tmp_path, random_points):
    """Two classes of three clouds each in both splits, of 10, 500 and 2000 points."""
    for split in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for count in (10, 500, 2000):
                np.save(folder / f"{count:04}.npy", random_points(1, count, count)[0])
    return tmp_path / "set"


def test_all_points_of_small_clouds_are_kept_evenly(unequal):
    cloud = load(unequal, points=25).points[0]
    _, times = np.unique(cloud, axis=0, return_counts=True)
    assert len(times) == 10
    assert set(times) == {2, 3}


def test_numbers_are_counted_and_come_from_the_cache_too(unequal):
    for _ in range(2):
        clouds, numbers = load_counted(unequal, "train", Wanted())
        assert numbers.tolist() == [10, 500, 2000] * 2
        assert clouds.points_per_cloud == 1024
    said = "4 of 6 clouds filled up to 1024 points by repeats, the smallest has 10 (--least-points)"
    assert remarks(clouds) == [said]


def test_true_points_are_written_and_read(unequal, tmp_path):
    found = {split: load_counted(unequal, split, Wanted(64)) for split in ("train", "test")}
    numbers = {split: one.numbers for split, one in found.items()}
    write_hdf5(found["train"].clouds, found["test"].clouds, tmp_path / "set.h5", true_points=numbers)
    with h5py.File(tmp_path / "set.h5") as file:
        assert file["train/true_points"][()].tolist() == [10, 500, 2000] * 2
    again = load_counted(tmp_path / "set.h5", "test", Wanted())
    assert again.numbers.tolist() == [10, 500, 2000] * 2


def test_every_point_is_looked_at_before_some_are_drawn(unequal):
    cloud = np.load(unequal / "train" / "b" / "2000.npy")
    cloud[1234] = np.nan
    np.save(unequal / "train" / "b" / "2000.npy", cloud)
    with pytest.raises(InputError, match=r"2000\.npy: 1 of 2000 points with NaN or infinite coordinates"):
        load(unequal, points=4)


def test_broken_files_are_refused_at_once_or_left_out(unequal):
    broken = [unequal / "train" / name for name in ("a/0500.npy", "b/0010.npy")]
    for path in broken:
        path.write_text("nothing")
    with pytest.raises(InputError, match=r"2 of 6 clouds cannot be used \(--skip-bad .*0500\.npy.*; .*b/0010\.npy"):
        load(unequal, points=16)
    for _ in range(2):  # from the cache, too
        clouds, numbers = load_counted(unequal, "train", Wanted(16, skip_bad=True))
        assert [line.partition(": ")[0] for line in skipped(clouds)] == [str(path) for path in broken]
        assert numbers.tolist() == [10, 2000, 500, 2000]
        assert clouds.class_counts.tolist() == [2, 2]


def test_the_whole_class_broken_is_no_class(unequal):
    for path in (unequal / "train" / "a").iterdir():
        path.write_text("nothing")
    with pytest.raises(InputError, match="no cloud of class 'a'"):
        load(unequal, points=16, skip_bad=True)
    for path in (unequal / "train" / "b").iterdir():
        path.write_text("nothing")
    with pytest.raises(InputError, match=r"set: none of 6 clouds can be used \(.*a/0010\.npy"):
        load(unequal, points=16, skip_bad=True)


def test_clouds_of_too_few_points_are_refused_at_once_or_left_out(unequal):
    with pytest.raises(InputError, match=r"4 of 6 .*a/0010\.npy: 10 points, expected at least 501 .*b/0500\.npy"):
        load(unequal, least_points=501)
    clouds = load(unequal, least_points=501, skip_bad=True)
    assert clouds.points_per_cloud == 2000
    assert clouds.provenance["skipped"] == 4
    with pytest.raises(InputError, match="least_points: 0"):
        load(unequal, least_points=0)


@pytest.mark.parametrize("streamed", [False, True])
def test_clouds_of_files_in_hdf5_are_left_out_too(unequal, tmp_path, streamed):
    found = {split: load_counted(unequal, split, Wanted(64)) for split in ("train", "test")}
    numbers = {split: one.numbers for split, one in found.items()}
    path = tmp_path / "set.h5"
    write_hdf5(found["train"].clouds, found["test"].clouds, path, true_points=numbers)
    with h5py.File(path, "a") as file:
        file["train/points"][1, 3] = np.nan
        file["train/points"][4] = 0.5

    def read(**how):
        if not streamed:
            return load(path, **how)
        with open_streamed(path, **how) as stream:
            return stream.load()

    with pytest.raises(InputError, match=r"2 of 6 clouds .*cloud 1 has NaN.*; .*all points of cloud 4 coincide"):
        read()
    clouds = read(skip_bad=True, least_points=11)
    whole = load(unequal, points=64).points.half().float()
    np.testing.assert_allclose(clouds.points, whole[[2, 5]], atol=1e-3)
    assert clouds.labels.tolist() == [0, 1]
    assert len(skipped(clouds)) == clouds.provenance["skipped"] == 4


def test_meshes_and_clouds_together(tmp_path, cube, off_text, random_points):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.off").write_text(off_text(*cube))
        np.save(tmp_path / "set" / name / "1.npy", random_points(1, 30)[0])
    assert load(tmp_path / "set").points_per_cloud == 1024
    assert load(tmp_path / "set", points=2000).points_per_cloud == 2000


@pytest.mark.parametrize("name", ["set", "shapes"])
@pytest.mark.parametrize("points", [0, 10**12])
def test_numbers_of_points_that_no_cloud_has(unequal, name, points):
    with pytest.raises(InputError, match=rf"points: {points}, expected 1 to"):
        load(unequal if name == "set" else name, points=points)

"""Clouds of unequal numbers of points: what becomes of them, and what is said of it."""

import h5py
import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load, remarks, write_hdf5
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
    assert remarks(clouds) == ["4 of 6 clouds filled up to 1024 points by repeats, the smallest has 10"]


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


def test_broken_files_can_be_left_out(unequal):
    (unequal / "train" / "a" / "0500.npy").write_text("nothing")
    problems = []
    clouds, numbers = load_counted(unequal, "train", Wanted(16, on_bad=problems.append))
    assert [str(one).partition(": ")[0] for one in problems] == [str(unequal / "train" / "a" / "0500.npy")]
    assert numbers.tolist() == [10, 2000, 10, 500, 2000]
    assert clouds.class_counts.tolist() == [2, 3]


def test_meshes_and_clouds_together(tmp_path, cube, off_text, random_points):
    for name in "ab":
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "0.off").write_text(off_text(*cube))
        np.save(tmp_path / "set" / name / "1.npy", random_points(1, 30)[0])
    assert load(tmp_path / "set").points_per_cloud == 1024
    assert load(tmp_path / "set", points=2000).points_per_cloud == 2000

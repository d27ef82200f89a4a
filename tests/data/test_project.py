"""Project HDF5: written by h5py here, read whole, read lazily, written again, and refused."""

import h5py
import numpy as np
import pytest
import torch

from pcdistill.core.errors import InputError
from pcdistill.data import H5Clouds, load, open_streamed, write_hdf5
from tests.conftest import of_class


def test_points_labels_and_names(write_h5, random_points, reference):
    path = write_h5()
    for number, split in enumerate(("train", "test")):
        clouds = load(path, split)
        expected = reference(random_points(6, 40, number).astype(np.float16))
        assert clouds.points.dtype == torch.float32
        np.testing.assert_allclose(clouds.points, expected, atol=1e-6)
        assert clouds.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert clouds.class_names == ("a", "b", "c")


def test_provenance_tells_the_frame_and_no_folder(write_h5):
    facts = load(write_h5("named.h5")).provenance
    assert facts["name"] == "named"
    assert facts["source"] == "named.h5"
    assert facts["layout"] == "project HDF5"
    assert facts["split"] == "train"
    assert facts["up_axis"] == "z"
    assert facts["normalised"] is True
    assert not any("/" in str(value) for value in facts.values())


def test_y_up_is_turned_and_unknown_is_left(write_h5, random_points, reference, to_z_up):
    stored = random_points(6, 40, 0).astype(np.float16)
    turned = load(write_h5("y.h5", up_axis="y"))
    np.testing.assert_allclose(turned.points, to_z_up(reference(stored)), atol=1e-6)
    assert (turned.provenance["up_axis"], turned.provenance["stored_up_axis"]) == ("z", "y")
    unknown = load(write_h5("u.h5", up_axis=None))
    np.testing.assert_allclose(unknown.points, reference(stored), atol=1e-6)
    assert unknown.provenance["up_axis"] == "unspecified"


def test_fewer_points_are_the_first_ones_in_their_own_frame(write_h5, random_points, reference):
    kept = load(write_h5(), points=16)
    expected = reference(random_points(6, 40, 0).astype(np.float16)[:, :16])
    np.testing.assert_allclose(kept.points, expected, atol=1e-6)


def test_more_points_than_stored(write_h5):
    path = write_h5()
    with pytest.raises(InputError, match=r"train/points: 40 points per cloud, expected at least the 41 asked for"):
        load(path, points=41)
    with pytest.raises(InputError, match=r"points: 0, expected 1 to"):
        load(path, points=0)


def test_unknown_split(write_h5):
    with pytest.raises(InputError, match=r"split: 'tset' \(did you mean 'test'\?\), expected train or test"):
        load(write_h5(), "tset")


@pytest.mark.parametrize("points", [None, 16])
def test_stream_equals_load_bit_for_bit(write_h5, random_points, points):
    many = random_points(600, 40, 3)
    path = write_h5(**{"train/points": many, "train/labels": np.arange(600) % 3})
    whole, stream = load(path, points=points), open_streamed(path, points=points)
    assert isinstance(stream, H5Clouds)
    assert len(stream) == 600
    assert stream.fingerprint() == whole.fingerprint()
    assert stream.class_names == whole.class_names
    assert stream.points_per_cloud == whole.points_per_cloud
    assert torch.equal(stream.labels, whole.labels)
    for index in ([5], list(range(250, 270)), [10, 12, 13], [0, 300, 599], [7, 3, 3], []):
        wanted = torch.tensor(index, dtype=torch.int64)
        assert torch.equal(stream.batch(wanted), whole.points[wanted])
    with pytest.raises(IndexError, match="600"):
        stream.batch(torch.tensor([600]))


def test_stream_reads_only_what_is_asked(write_h5, random_points):
    points = random_points(600, 8)
    points[500], points[599] = np.nan, 1
    stream = open_streamed(write_h5(**{"train/points": points, "train/labels": np.arange(600) % 3}))
    assert stream.batch(torch.arange(0, 400)).isfinite().all()
    with pytest.raises(InputError, match=r"train/points: cloud 500 has NaN"):
        stream.batch(torch.arange(490, 510))
    with pytest.raises(InputError, match=r"train/points: all points of cloud 599 coincide"):
        stream.batch(torch.tensor([0, 300, 599]))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 5e-4), ("float32", 1e-6)])
def test_write_and_read_again(tmp_path, pair, dtype, tolerance):
    train, test = pair
    write_hdf5(train, test, tmp_path / "out.h5", dtype=dtype)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["train/points"].dtype == dtype
        assert file["test/ids"][:].tolist() == [f"test_{at:06d}".encode() for at in range(6)]
        assert file.attrs["up_axis"] == "z"
        assert list(file.attrs["class_names"]) == ["a", "b", "c"]
    for written, split in ((train, "train"), (test, "test")):
        again = load(tmp_path / "out.h5", split)
        torch.testing.assert_close(again.points, written.points, atol=2 * tolerance, rtol=0)
        assert torch.equal(again.labels, written.labels)


def test_write_refuses_sets_that_do_not_match(tmp_path, pair):
    train, test = pair
    path = tmp_path / "out.h5"
    with pytest.raises(InputError, match="32 points per cloud in train, 16 in test"):
        write_hdf5(train, test.with_points(test.points[:, :16]), path)
    with pytest.raises(InputError, match="dtype: 'int8', expected float16 or float32"):
        write_hdf5(train, test, path, dtype="int8")
    soft = type(train)(train.points, torch.eye(3)[train.labels], train.class_names)
    with pytest.raises(InputError, match="soft labels in train"):
        write_hdf5(soft, test, path)
    assert list(tmp_path.iterdir()) == []


POINTS, LABELS = np.zeros((6, 40, 3), np.float32) + np.eye(40, 3), np.array([0, 1, 2, 0, 1, 2])
NAN = POINTS.copy()
NAN[4, 7, 1] = np.nan
HUGE = POINTS.copy()
HUGE[2, 0, 0] = np.inf


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train/points": None}, r"set\.h5 train/points: no such dataset, expected one beside ids, labels"),
        ({"train/labels": None}, r"set\.h5 train/labels: no such dataset"),
        ({"train/points": None, "train/labels": None, "train/ids": None}, r"set\.h5 train: no such group"),
        ({"class_names": None}, r"set\.h5 class_names: no such attribute, expected class names"),
        ({"class_names": "abc"}, r"set\.h5 class_names: not a list"),
        (
            {"class_names": ["a", "a", "b"]},
            r"class names \['a', 'a', 'b'\], expected at least one, all different",
        ),
        ({"train/points": NAN}, r"set\.h5 train/points: cloud 4 has NaN or infinite coordinates"),
        ({"train/points": HUGE}, r"set\.h5 train/points: cloud 2 has NaN or infinite coordinates"),
        ({"train/points": np.zeros((6, 40, 3), "f4")}, r"train/points: all points of cloud 0 coincide"),
        ({"train/points": np.zeros((6, 0, 3), "f4")}, r"set\.h5 train: 6 clouds of 0 points"),
        ({"train/points": np.zeros((0, 40, 3), "f4"), "train/labels": LABELS[:0]}, r"0 clouds of 40 points"),
        ({"train/points": POINTS[:, :, :2]}, r"set\.h5 train: points of shape \(6, 40, 2\)"),
        (
            {"train/points": POINTS.astype(int)},
            r"train/points: values of type int64, expected floating point",
        ),
        ({"train/labels": LABELS[:5]}, r"set\.h5 train: labels of shape \(5,\)"),
        ({"train/labels": LABELS + 0.5}, r"train/labels: values of type float64, expected integers"),
        ({"train/labels": LABELS + 1}, r"set\.h5 train: label 3 of cloud 2, expected 0 to 2 for 3 classes"),
        ({"train/labels": LABELS - 1}, r"set\.h5 train: label -1 of cloud 0"),
        ({"train/labels": LABELS * 0, "class_names": ["a"]}, r"set\.h5: 1 class, expected at least two"),
        (
            {"train/labels": LABELS % 2},
            r"set\.h5 train: no cloud of class 'c', expected at least one of each",
        ),
    ],
)
def test_bad_files_are_one_line(write_h5, parts, message):
    path = write_h5(**parts)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_one_class_test_split(write_h5):
    with pytest.raises(InputError, match=r"test: clouds of 1 class, expected of at least two"):
        load(write_h5(**{"test/labels": LABELS * 0}), "test")


def test_truncated_file(write_h5, tmp_path):
    content = write_h5().read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.h5: unreadable \(.*\), expected a whole HDF5 file"):
        load(tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    with pytest.raises(InputError, match=r"text\.h5: unreadable"):
        load(tmp_path / "text.h5")


def test_damage_within_the_compressed_points(tmp_path, pair):
    write_hdf5(*pair, tmp_path / "hit.h5")
    with h5py.File(tmp_path / "hit.h5") as file:
        chunk = file["train/points"].id.get_chunk_info(0)
    content = bytearray((tmp_path / "hit.h5").read_bytes())
    middle = chunk.byte_offset + chunk.size // 2
    content[middle : middle + 64] = bytes(64)
    (tmp_path / "hit.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"hit\.h5: damaged \(.*\), expected a whole HDF5 file"):
        load(tmp_path / "hit.h5")


def test_modelnet10(data_root):
    path = data_root / "modelnet10_2048.h5"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in {data_root}")
    clouds = load("modelnet10", "test", root=data_root, points=1024)
    assert tuple(clouds.points.shape) == (908, 1024, 3)
    assert clouds.class_counts.tolist() == [50, 100, 100, 86, 86, 100, 86, 100, 100, 100]
    assert clouds.provenance["name"] == "modelnet10"
    assert clouds.points.mean(dim=1).abs().max() < 1e-6
    torch.testing.assert_close(clouds.points.norm(dim=2).amax(dim=1), torch.ones(908))
    # z is up: toilets and chairs are tallest along z, tables are flat along it, on average.
    spread = of_class(clouds, 9).points.std(dim=1).mean(dim=0)
    assert spread[2] > spread[0]

"""Sets on disk, read in parts: the same bits as in memory, never more at a time than a part, damage in one line."""

import hashlib
import pickle

import h5py
import numpy as np
import pytest
import torch

from pcdistill.core.errors import InputError
from pcdistill.data import StreamedClouds, load, open_streamed, project
from pcdistill.data.prepare import CHUNK


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("points", "up_axis"), [(None, "z"), (16, "y")])
def test_every_batch_has_the_bits_of_the_loaded_set(write_h5, random_points, dtype, points, up_axis):
    parts = {"train/points": random_points(600, 40, 3).astype(dtype), "train/labels": np.arange(600) % 3}
    path = write_h5(up_axis=up_axis, **parts)
    whole = load(path, points=points)
    with open_streamed(path, points=points) as stream:
        for index in (torch.arange(600), torch.arange(0, 600, 2), torch.tensor([3, 299, 599]), torch.tensor([7, 3, 3])):
            assert torch.equal(stream.batch(index), whole.points[index])
        assert stream.batch(torch.empty(0, dtype=torch.int64)).shape == (0, points or 40, 3)
        assert stream.fingerprint() == whole.fingerprint()
        assert dict(stream.provenance) == dict(whole.provenance)
        assert torch.equal(stream.hard_labels, whole.hard_labels)
        assert torch.equal(stream.class_counts, whole.class_counts)
        assert (len(stream), stream.num_classes, stream.points_per_cloud) == (600, 3, points or 40)
        assert repr(stream) == f"StreamedClouds(set.h5 train: 600 clouds x {points or 40} points)"


def test_the_fingerprint_is_that_of_the_content_and_read_once(write_h5, random_points, reference, monkeypatch):
    stored = random_points(6, 40, 0).astype(np.float16)
    with open_streamed(write_h5()) as stream:
        found = stream.fingerprint()
        monkeypatch.setattr(project.H5Clouds, "chunks", lambda self: pytest.fail("read again"))
        assert stream.fingerprint() == found
        digest = hashlib.sha256(repr(((6, 40, 3), ("a", "b", "c"))).encode())
        digest.update(stream.batch(torch.arange(6)).numpy().tobytes() + np.array([0, 1, 2, 0, 1, 2]).tobytes())
        assert found == digest.hexdigest()
        np.testing.assert_allclose(stream.batch(torch.arange(6)), reference(stored), atol=1e-6)
    with open_streamed(write_h5("other.h5", class_names=["a", "b", "d"])) as other:
        monkeypatch.undo()
        assert other.fingerprint() != found


def test_large_batches_are_read_in_parts(write_h5, random_points, monkeypatch):
    many = random_points(3 * CHUNK, 8)
    read = []
    usual = StreamedClouds._read
    monkeypatch.setattr(StreamedClouds, "_read", lambda self, which: read.append(usual(self, which)) or read[-1])
    with open_streamed(write_h5(**{"train/points": many, "train/labels": np.arange(3 * CHUNK) % 3})) as stream:
        stream.batch(torch.arange(3 * CHUNK))
        stream.batch(torch.arange(0, 3 * CHUNK, 2))
        stream.fingerprint()
    assert max(map(len, read)) <= 2 * CHUNK  # of every second one, its neighbours are read and dropped
    assert sum(map(len, read)) <= 9 * CHUNK


def test_a_closed_set_keeps_what_is_in_memory(write_h5):
    with open_streamed(write_h5()) as stream:
        found = stream.fingerprint()
    stream.close()
    assert (stream.fingerprint(), stream.labels.tolist()) == (found, [0, 1, 2, 0, 1, 2])
    with pytest.raises(ValueError, match=r"StreamedClouds\(set\.h5 train: 6 clouds x 40 points\) is closed"):
        stream.batch(torch.tensor([0]))


def test_only_a_project_file_can_be_streamed(off_tree, tmp_path):
    wanted = r"expected a project HDF5 file \(pcdistill data convert writes one\)"
    with pytest.raises(InputError, match=f"stream: 'shapes', which is made in memory, {wanted}"):
        open_streamed("shapes")
    with pytest.raises(InputError, match=rf"stream: '.*set' in the layout of .*, read whole, {wanted}"):
        open_streamed(off_tree("set", ["a", "b"]))
    with pytest.raises(InputError, match=r"gone\.h5: no such file or folder"):
        open_streamed(tmp_path / "gone.h5")
    with pytest.raises(InputError, match="expected train or test"):
        open_streamed("shapes", "tset")


def test_classes_are_checked_and_the_file_let_go(write_h5):
    path = write_h5(**{"train/labels": np.array([0, 1, 0, 1, 0, 1])})
    with pytest.raises(InputError, match="no cloud of class 'c'"):
        open_streamed(path)
    with h5py.File(path, "r+"):  # is refused while another reader has it open
        pass


def test_bad_coordinates_and_cut_files_are_named(write_h5, random_points):
    many = random_points(600, 8)
    many[500] = np.nan
    path = write_h5(**{"train/points": many, "train/labels": np.arange(600) % 3})
    with open_streamed(path) as stream, pytest.raises(InputError, match=r"train/points: cloud 500 has NaN"):
        stream.batch(torch.arange(600))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="expected a whole HDF5 file"):
        open_streamed(path)


def test_another_process_opens_the_file_when_it_reads(write_h5, random_points):
    parts = {"train/points": random_points(20, 40, 3).astype(np.float16), "train/labels": np.arange(20) % 3}
    path = write_h5(up_axis="y", **parts)
    with open_streamed(path, points=16) as stream:
        found = stream.fingerprint()
        index = torch.tensor([3, 17])
        expected = stream.batch(index)
        sent = pickle.dumps(stream)
    assert len(sent) < 5000  # no coordinates
    there = pickle.loads(sent)
    assert (there.fingerprint(), there.labels.tolist()) == (found, stream.labels.tolist())
    assert torch.equal(there.batch(index), expected)
    there.close()
    with pytest.raises(ValueError, match="is closed"):
        there.batch(index)
    gone = pickle.loads(sent)
    gone.close()
    path.unlink()
    with pytest.raises(InputError, match=r"set\.h5: no such file, expected an HDF5 file"):
        gone.batch(index)

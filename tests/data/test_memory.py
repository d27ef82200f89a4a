"""Data sets of torch, lists and generators as `PointClouds`."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import from_dataset

SIZES = (30, 80, 64, 7)
LABELS = ("b", "a", "b", "c")


class Ragged(Dataset):
    """Map-style, without an end of its own."""

    def __init__(self, points, labels=LABELS):
        self.points, self.labels = points, labels

    def __len__(self):
        return len(self.points)

    def __getitem__(self, at):
        return self.points[at % len(self.points)], self.labels[at % len(self.points)]


class Stream(IterableDataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __iter__(self):
        return iter(self.pairs)


@pytest.fixture
def ragged(random_points):
    return [torch.from_numpy(random_points(1, size, size)[0]) for size in SIZES]


@pytest.fixture
def expected(ragged):
    return PointClouds.from_arrays(ragged, LABELS, points_per_cloud=64).fingerprint()


def together(batch):
    return [points for points, _ in batch], [label for _, label in batch]


KINDS = {
    "dataset": Ragged,
    "iterable": lambda points: Stream(list(zip(points, LABELS, strict=True))),
    "generator": lambda points: ((cloud.numpy(), label) for cloud, label in zip(points, LABELS, strict=True)),
    "lists": lambda points: [[cloud.tolist(), label] for cloud, label in zip(points, LABELS, strict=True)],
    "loader": lambda points: DataLoader(Ragged(points), batch_size=3, collate_fn=together),
    "unbatched loader": lambda points: DataLoader(Ragged(points), batch_size=None),
    "columns": lambda points: {"points": points, "labels": LABELS},
    "objects": lambda points: [SimpleNamespace(pos=a, y=b) for a, b in zip(points, LABELS, strict=True)],
    **{
        f"{key}, {label}": lambda points, key=key, label=label: [
            {label: name, key: cloud} for cloud, name in zip(points, LABELS, strict=True)
        ]
        for key, label in (("points", "label"), ("pos", "y"), ("xyz", "target"), ("x", "labels"))
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_give_what_arrays_give(kind, ragged, expected):
    clouds = from_dataset(KINDS[kind](ragged), points_per_cloud=64)
    assert clouds.fingerprint() == expected
    assert clouds.class_names == ("a", "b", "c")


def test_batches_of_tensors(random_points):
    points, labels = torch.from_numpy(random_points(5, 20)), torch.tensor([0, 1, 1, 0, 2])
    whole = TensorDataset(points, labels)
    expected = PointClouds.from_arrays(points, labels, points_per_cloud=None).fingerprint()
    pairs = DataLoader(whole, batch_size=2)
    keyed = DataLoader([{"pos": cloud, "y": label[None]} for cloud, label in whole], batch_size=3)
    for given in (whole, pairs, keyed):
        assert from_dataset(given, points_per_cloud=None).fingerprint() == expected
    soft = TensorDataset(points, torch.eye(4)[labels])
    assert from_dataset(DataLoader(soft, batch_size=4), points_per_cloud=None).labels.equal(torch.eye(4)[labels])


def test_the_name_and_the_classes_are_those_of_the_data_set(ragged):
    dataset = Ragged(ragged, (0, 2, 1, 0))
    dataset.classes = ["x", "y", "z"]
    for given in (dataset, Subset(dataset, [0, 1, 2, 3]), DataLoader(Subset(dataset, [0, 1, 2, 3]), batch_size=None)):
        clouds = from_dataset(given)
        assert clouds.class_names == ("x", "y", "z")
        assert clouds.provenance["name"] == type(given).__name__
    assert clouds.points_per_cloud == 1024
    assert from_dataset(dataset, ["p", "q", "r"], name="mine").class_names == ("p", "q", "r")
    assert from_dataset(dataset, name="mine").provenance["name"] == "mine"
    again = from_dataset(clouds, points_per_cloud=None)
    assert again.class_names == clouds.class_names
    torch.testing.assert_close(again.points, clouds.points, atol=1e-6, rtol=0)


def test_a_mesh_is_in_its_own_place_without_normalising(cube):
    vertices, faces = cube
    for mesh in ({"points": vertices, "faces": faces, "label": 0}, {"pos": vertices, "face": faces.T, "y": 0}):
        points = from_dataset([mesh], normalise=False).points[0].numpy()
        np.testing.assert_allclose(points.min(0), vertices.min(0), atol=0.1)
        np.testing.assert_allclose(points.max(0), vertices.max(0), atol=0.1)
        assert np.isclose(np.abs(points - (10, 20, 30)), (1, 2, 3), atol=1e-5).any(1).all()


CLOUD = np.random.default_rng(0).normal(size=(9, 3))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "list: 0 items, expected at least one"),
        ("set.h5", r"str: 'set.h5', expected a data set in memory \(pcdistill.load reads files\)"),
        (3, "int: a int, expected a data set, or something else to iterate over"),
        ([CLOUD], r"list item 0: a ndarray, expected \(points, label\) or \(points, label, parts\), a mapping"),
        ([(CLOUD, 0), (CLOUD, 0, 1, 2)], "list item 1: 4 values"),
        ([{"points": CLOUD, "name": 3}], "list item 0: no label among points, name, expected one of label, labels, y"),
        ([{"cloud": CLOUD, "y": 3}], "list item 0: no points among cloud, y, expected one of points, pos, xyz, x"),
        ([(CLOUD, 0), (CLOUD * np.nan, 0)], "list item 1: NaN or infinite coordinates"),
        ([(CLOUD, 0), (CLOUD[:, :2], 0)], r"list item 1: shape \(9, 2\)"),
        ([(CLOUD, 0), (CLOUD, float("nan"))], "list: label nan of cloud 1"),
        ([(CLOUD, np.arange(9))], r"list item 0: labels of shape \(9,\), expected one, or probabilities that sum to 1"),
        ([(CLOUD[None], [0, 1])], "list item 0: 1 clouds and 2 labels, expected as many of both"),
        ([{"pos": CLOUD, "y": 0, "face": [[0.5]]}], r"list item 0: faces \(1, 1\) of float64, expected integers"),
        ([{"pos": CLOUD, "y": 0, "face": [[0, 1], [1]]}], "list item 0: faces of unequal length"),
        ([{"pos": CLOUD, "y": 0, "face": [[0], [1], [9]]}], "list item 0: a face of vertex 9"),
    ],
)
def test_other_things_are_refused_in_one_line(dataset, message):
    with pytest.raises(InputError, match=message) as caught:
        from_dataset(dataset)
    assert "\n" not in str(caught.value)


def test_errors_of_the_data_set_itself_are_left_alone(ragged):
    with pytest.raises(ZeroDivisionError):
        from_dataset((cloud, 1 / 0) for cloud in ragged)

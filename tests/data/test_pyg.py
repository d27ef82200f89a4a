"""torch-geometric there and back."""

import builtins
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import from_pyg, to_pyg


def item(points, label):
    return SimpleNamespace(pos=torch.as_tensor(points), y=torch.tensor([label]))


def test_items_with_pos_and_y(random_points, reference):
    raw = random_points(3, 20)
    clouds = from_pyg([item(points, label) for points, label in zip(raw, (2, 0, 1), strict=True)])
    np.testing.assert_allclose(clouds.points, reference(raw), atol=1e-6)
    assert clouds.labels.tolist() == [2, 0, 1]
    assert clouds.class_names == ("0", "1", "2")
    assert from_pyg([item(raw[0], 1)], ["cat", "dog"]).class_names == ("cat", "dog")


def test_there_and_back(pair):
    pytest.importorskip("torch_geometric", reason="torch-geometric is an extra")
    train, _ = pair
    items = to_pyg(train)
    assert len(items) == len(train)
    assert items[4].pos.equal(train.points[4])
    assert items[4].y.tolist() == [int(train.labels[4])]
    items[4].validate()
    back = from_pyg(items, train.class_names)
    torch.testing.assert_close(back.points, train.points, atol=1e-6, rtol=0)
    assert back.labels.equal(train.labels)
    soft = PointClouds(train.points[:1], torch.tensor([[0.5, 0.25, 0.25]]), train.class_names)
    assert to_pyg(soft)[0].y.tolist() == [[0.5, 0.25, 0.25]]


def test_colours_are_features_of_points(pair):
    """`x` in [0, 1], and a loader makes one graph of a batch of clouds."""
    loader = pytest.importorskip("torch_geometric.loader", reason="torch-geometric is an extra")
    train, _ = pair
    colours = np.random.default_rng(0).integers(0, 256, size=(15, 32, 3), dtype=np.uint8)
    items = to_pyg(train, colours)
    assert "x" not in to_pyg(train)[0]
    batch = next(iter(loader.DataLoader(items, batch_size=4)))
    assert (batch.num_graphs, batch.num_nodes, batch.num_node_features) == (4, 128, 3)
    assert batch.pos.equal(train.points[:4].reshape(-1, 3))
    assert batch.y.equal(train.labels[:4])
    assert batch.batch.equal(torch.arange(4).repeat_interleave(32))
    assert batch.x.dtype == torch.float32
    np.testing.assert_array_equal(batch.x.numpy(), (colours[:4].reshape(-1, 3) / np.float32(255)))
    back = from_pyg(items, train.class_names)
    torch.testing.assert_close(back.points, train.points, atol=1e-6, rtol=0)
    for wrong, found in ((colours[1:], r"uint8 \(14, 32, 3\)"), (colours / 255, r"float64 \(15, 32, 3\)")):
        with pytest.raises(InputError, match=rf"colours: {found}, expected uint8 \(15, 32, 3\)"):
            to_pyg(train, wrong)


def test_a_real_dataset_class(random_points):
    data = pytest.importorskip("torch_geometric.data", reason="torch-geometric is an extra")

    class Made(data.Dataset):
        def len(self):
            return 4

        def get(self, idx):
            return data.Data(pos=torch.from_numpy(random_points(4, 10)[idx]), y=torch.tensor(idx % 2))

    clouds = from_pyg(Made(), ["x", "y"])
    assert clouds.labels.tolist() == [0, 1, 0, 1]
    assert clouds.provenance["source"] == "Made"


def test_there_and_back_is_the_same_whatever_the_size(pair):
    pytest.importorskip("torch_geometric", reason="torch-geometric is an extra")
    soft = PointClouds(pair[0].points, torch.eye(3)[pair[0].labels] * 0.7 + 0.1, pair[0].class_names)
    back = from_pyg(to_pyg(soft), soft.class_names)
    assert back.labels.equal(soft.labels)
    assert back.points.shape == soft.points.shape


def test_meshes_are_sampled_and_not_taken_for_their_vertices(cube):
    data = pytest.importorskip("torch_geometric.data", reason="torch-geometric is an extra")
    vertices, faces = cube
    mesh = data.Data(pos=torch.from_numpy(vertices), face=torch.from_numpy(faces).T, y=torch.tensor([1]))
    clouds = from_pyg([mesh, mesh], ["a", "b"])
    assert clouds.points.shape == (2, 1024, 3)
    assert not clouds.points[0].equal(clouds.points[1])
    # A box of 2 x 4 x 6: on one of its faces lies every point, on the larger ones more.
    half = torch.tensor([1.0, 2.0, 3.0])
    box = clouds.points[0] * half.norm() / clouds.points[0].norm(dim=1).max()
    on = ((box.abs() - half).abs() < 0.15).any(1)
    assert on.float().mean() > 0.95
    assert from_pyg([mesh], points_per_cloud=50).points_per_cloud == 50


def test_loaders_give_what_the_data_set_gives(random_points):
    loader = pytest.importorskip("torch_geometric.loader", reason="torch-geometric is an extra")
    data = pytest.importorskip("torch_geometric.data")
    items = [
        data.Data(pos=torch.from_numpy(random_points(1, size, size)[0]), y=torch.tensor([size % 2]))
        for size in (20, 30, 41)
    ]
    clouds = from_pyg(items, points_per_cloud=32)
    assert clouds.labels.tolist() == [0, 0, 1]
    assert from_pyg(loader.DataLoader(items, batch_size=2), points_per_cloud=32).fingerprint() == clouds.fingerprint()
    dense = [data.Data(pos=each.pos[:20], y=each.y) for each in items]
    expected = from_pyg(dense).fingerprint()
    assert from_pyg(loader.DenseDataLoader(dense, batch_size=2)).fingerprint() == expected


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], r"list: 0 items, expected at least one"),
        ([SimpleNamespace(y=torch.tensor(0))], r"list item 0: no pos, expected pos \(P, 3\) and y"),
        ([SimpleNamespace(pos=torch.eye(3), y=None)], r"list item 0: no y"),
        ([item(torch.rand(4, 2), 0)], r"list item 0: shape \(4, 2\), expected \(points, 3 or more\)"),
        ([SimpleNamespace(pos=torch.eye(3), y=torch.zeros(3, dtype=torch.int64))], r"item 0: labels of shape \(3,\)"),
        ([item(torch.eye(3), -1)], r"list: label -1 of cloud 0"),
        ([item(torch.eye(3) * torch.nan, 0)], r"list item 0: NaN or infinite"),
    ],
)
def test_bad_items(items, message):
    with pytest.raises(InputError, match=message):
        from_pyg(items, ["a", "b"])


def test_a_label_beyond_the_names():
    with pytest.raises(InputError, match=r"label 2 of cloud 0, expected 0 to 1 for 2 classes"):
        from_pyg([item(torch.eye(3), 2)], ["a", "b"])


def test_missing_extra(pair, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("torch_geometric"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"to_pyg: torch-geometric is not installed.*pcdistill\[pyg\]"):
        to_pyg(pair[0])

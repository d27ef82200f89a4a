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


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], r"list: 0 items, expected at least one"),
        ([SimpleNamespace(y=torch.tensor(0))], r"list item 0: no pos, expected pos \(P, 3\) and y"),
        ([SimpleNamespace(pos=torch.eye(3), y=None)], r"list item 0: no y"),
        ([item(torch.rand(4, 2), 0)], r"list item 0: pos \(4, 2\), y \(1,\)"),
        ([item(torch.eye(3), 0), item(torch.rand(4, 3), 0)], r"item 1: 4 points, 3 in item 0"),
        ([item(torch.eye(3), -1)], r"list: label -1 of cloud 0"),
        ([item(torch.eye(3) * torch.nan, 0)], r"list: cloud 0 has NaN"),
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

"""Descriptors that selection compares clouds by."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from pcdistill.clouds import PointClouds
from pcdistill.selection import features, network_descriptor, raw_descriptor


@dataclass
class Output:
    logits: Tensor
    point_features: Tensor
    global_feature: Tensor


class Network(nn.Module):
    """A small PointNet with the two layers whose modes matter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, points: Tensor) -> Output:
        hidden = self.drop(self.norm(self.first(points).mT).mT.relu())
        pooled = hidden.amax(dim=1)
        return Output(self.head(pooled), hidden, pooled)


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


class Streamed:
    """A set that is handed out in batches only, and remembers how large they were."""

    def __init__(self, clouds: PointClouds) -> None:
        self.clouds, self.sizes = clouds, list[int]()

    labels = property(lambda self: self.clouds.labels)
    class_names = property(lambda self: self.clouds.class_names)
    points_per_cloud = property(lambda self: self.clouds.points_per_cloud)

    def batch(self, index: Tensor) -> Tensor:
        self.sizes.append(len(index))
        return self.clouds.batch(index)

    def fingerprint(self) -> str:
        return self.clouds.fingerprint()


def test_raw_descriptor_agrees_with_numpy(tiny_clouds: PointClouds) -> None:
    result = raw_descriptor(tiny_clouds)
    assert result.shape == (24, 70)
    assert result.dtype == torch.float32
    levels = (np.arange(16) + 0.5) / 16
    for cloud, row in zip(tiny_clouds.points.numpy(), result.numpy(), strict=True):
        values = np.concatenate([cloud, np.linalg.norm(cloud, axis=1, keepdims=True)], axis=1)
        expected = np.quantile(values, levels, axis=0, method="hazen").T.ravel()
        np.testing.assert_allclose(row[:64], expected, atol=1e-5)
        moments = np.cov(cloud.T, bias=True)
        np.testing.assert_allclose(row[64:], moments[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]], atol=1e-5)


@pytest.mark.parametrize("points", [1, 2, 5, 15])
def test_raw_descriptor_of_few_points_agrees_with_numpy(points: int, tiny_clouds: PointClouds) -> None:
    few = tiny_clouds.with_points(tiny_clouds.points[:, :points])
    expected = np.quantile(few.points.numpy(), (np.arange(16) + 0.5) / 16, axis=1, method="hazen")
    assert_close(raw_descriptor(few)[:, :48], torch.from_numpy(expected).permute(1, 2, 0).flatten(1).float())


def test_raw_descriptor_is_blind_to_the_order_of_points(tiny_clouds: PointClouds) -> None:
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    shuffled = tiny_clouds.with_points(tiny_clouds.points[:, order])
    assert_close(raw_descriptor(shuffled), raw_descriptor(tiny_clouds))


def test_raw_descriptor_tells_shapes_apart(tiny_clouds: PointClouds) -> None:
    rows = raw_descriptor(tiny_clouds)
    nearest = torch.cdist(rows, rows.view(3, 8, 70).mean(dim=1)).argmin(dim=1)
    assert int((nearest == tiny_clouds.labels).sum()) >= 22


def test_raw_descriptor_hardly_depends_on_the_number_of_points() -> None:
    random = torch.Generator().manual_seed(0)
    axes = 0.2 + 0.8 * torch.rand(20, 1, 3, generator=random)
    points = axes * (2 * torch.rand(20, 4096, 3, generator=random) - 1)
    many = PointClouds(points, torch.zeros(20, dtype=torch.int64), ("box",))
    few = many.with_points(points[:, :512])
    gaps = torch.cdist(raw_descriptor(few), raw_descriptor(many))
    assert torch.equal(gaps.argmin(dim=1), torch.arange(20))


def test_raw_descriptor_streams(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = raw_descriptor(tiny_clouds)
    monkeypatch.setattr(features, "BATCH", 7)
    source = Streamed(tiny_clouds)
    assert_close(raw_descriptor(source), expected)
    assert source.sizes == [7, 7, 7, 3]


def test_network_descriptor_is_the_normalised_global_feature(tiny_clouds: PointClouds) -> None:
    net = network().eval()
    with torch.no_grad():
        expected = net(tiny_clouds.points).global_feature
    result = network_descriptor(tiny_clouds, net)
    assert_close(result.norm(dim=1), torch.ones(24))
    assert_close(result * expected.norm(dim=1, keepdim=True), expected)
    assert not result.requires_grad


def test_network_descriptor_streams_and_ignores_the_batch_size(tiny_clouds: PointClouds) -> None:
    source = Streamed(tiny_clouds)
    assert_close(network_descriptor(source, network(), batch=10), network_descriptor(tiny_clouds, network()))
    assert source.sizes == [10, 10, 4]


def test_network_descriptor_leaves_the_network_as_it_was(tiny_clouds: PointClouds) -> None:
    net = network().train()
    net.norm.eval()  # a frozen layer stays frozen
    before = {name: value.clone() for name, value in net.state_dict().items()}
    network_descriptor(tiny_clouds, net)
    assert (net.training, net.drop.training, net.norm.training) == (True, True, False)
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_network_descriptor_restores_modes_after_a_failure(tiny_clouds: PointClouds) -> None:
    net = network().train()
    net.head = nn.Linear(9, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        network_descriptor(tiny_clouds, net)
    assert all(module.training for module in net.modules())


def test_networks_of_different_seeds_differ(tiny_clouds: PointClouds) -> None:
    other = network()
    with torch.no_grad():
        other.first.weight.mul_(-1)
    assert not torch.allclose(network_descriptor(tiny_clouds, other), network_descriptor(tiny_clouds, network()))

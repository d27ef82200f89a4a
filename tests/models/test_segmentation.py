"""Networks that label points: what all of them promise, and each against the papers' formulas, written out."""

import pytest
import torch
from torch import nn

from pcdistill.core.errors import InputError
from pcdistill.models import Segmenter, build, network_for, networks, segmenters
from pcdistill.models.segmentation import Mixed, Propagation

CLASSES, PARTS = 3, 5


def made(name: str) -> Segmenter:
    """A network in evaluation mode whose norms have seen something."""
    network = build(name, CLASSES, 0, PARTS)
    assert isinstance(network, Segmenter)
    network.train()(cloud(4, 40), torch.eye(CLASSES)[[0, 1, 2, 0]])
    return network.eval()


def cloud(count: int, points: int) -> torch.Tensor:
    return torch.rand(count, points, 3, generator=torch.Generator().manual_seed(points)) - 0.5


@pytest.mark.parametrize("name", list(segmenters))
def test_points_are_labelled_whatever_their_order(name: str) -> None:
    network, points = made(name), cloud(2, 33)
    told = torch.eye(CLASSES)[:2]
    with torch.no_grad():
        found = network(points, told)
        assert found.logits.shape == (2, 33, PARTS)
        order = torch.randperm(33, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(network(points[:, order], told).logits, found.logits[:, order], atol=1e-4, rtol=1e-4)
        # A cloud does not hang on those beside it; the class is heard, and may be left out.
        torch.testing.assert_close(network(points[:1], told[:1]).logits, found.logits[:1], atol=1e-4, rtol=1e-4)
        silent = network(points)
        assert torch.equal(silent.logits, network(points, torch.zeros(2, CLASSES)).logits)
        assert not torch.allclose(silent.logits, found.logits)
        assert torch.equal(network.classify(network.point_features(points, told)[0]), found.logits)
        for few in (1, 2, 5):
            assert network(cloud(2, few)).logits.shape == (2, few, PARTS)
    assert torch.equal(build(name, CLASSES, 7, PARTS).head.weight, build(name, CLASSES, 7, PARTS).head.weight)


@pytest.mark.parametrize("name", list(segmenters))
def test_all_weights_learn(name: str) -> None:
    network = build(name, CLASSES, 0, PARTS).train()
    network(cloud(4, 40), torch.eye(CLASSES)[[0, 1, 2, 0]]).logits.square().sum().backward()
    missing = [key for key, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing


def test_a_mixed_layer_is_the_published_copy_of_the_global_feature_at_every_point() -> None:
    layer = Mixed(4, 3, 6).eval()
    layer.norm.running_mean.normal_()
    layer.norm.running_var.uniform_(0.5, 2)
    points, whole = torch.randn(2, 7, 4), torch.randn(2, 3)
    weight = torch.cat([layer.of_points.weight, layer.of_cloud.weight], 1)
    joined = torch.cat([points, whole[:, None].expand(-1, 7, -1)], 2) @ weight.T
    norm = nn.functional.batch_norm(
        joined.flatten(0, 1), layer.norm.running_mean, layer.norm.running_var, layer.norm.scale, layer.norm.bias
    )
    torch.testing.assert_close(layer(points, whole), norm.relu().view(2, 7, 6))


def test_features_are_interpolated_by_inverse_squared_distance() -> None:
    layer = Propagation(2, 1, ()).eval()
    centres = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [9, 9, 9]]])
    features = torch.tensor([[[1.0, 0], [0, 1], [5, 5], [99, 99]]])
    points = torch.tensor([[[0.0, 0, 0], [0.5, 0, 0]]])
    found = layer(points, torch.tensor([[[7.0], [8.0]]]), centres, features)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0, 7]), atol=1e-5, rtol=0)  # at a centre its own
    shares = torch.tensor([4.0, 4.0, 1 / 4.25])
    shares = shares / shares.sum()
    torch.testing.assert_close(found[0, 1, :2], shares @ features[0, :3], atol=1e-5, rtol=1e-5)
    assert found[0, 1, 2] == 8


def test_names_of_both_kinds_of_networks() -> None:
    assert network_for("pointnet", parts=False) == "pointnet"
    assert network_for("pointnet", parts=True) == network_for("pointnet-seg", parts=True) == "pointnet-seg"
    assert all(name.removesuffix("-seg") in networks for name in segmenters)
    with pytest.raises(InputError, match="'pointnet-seg' for a set whose points have no parts"):
        build("pointnet-seg", 3, 0)
    with pytest.raises(InputError, match=r"'pointconv' for a set whose points have parts, expected one of dgcnn-seg, "):
        build("pointconv", 3, 0, 4)
    with pytest.raises(InputError, match=r"network of parts: 'pointnetseg'"):
        build("pointnetseg", 3, 0, 4)

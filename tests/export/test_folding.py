"""Folded networks give what the network gives."""

import pytest
import torch

from pcdistill.export.folding import can_be_folded, folded
from pcdistill.models import Network, build, networks, seeded
from pcdistill.models.layers.shared import PointNorm
from pcdistill.models.pointnet import PointNet
from tests.export.conftest import points_of, stirred


def foldable() -> list[str]:
    return [name for name in networks if can_be_folded(build(name, 2, 0))]


def agree(network: PointNet) -> None:
    made = folded(network)
    assert not [part for part in made.modules() if isinstance(part, PointNorm)]
    for clouds, points in ((3, 20), (1, 1), (2, 7)):
        seen = points_of(clouds, points, torch.float64)
        with torch.no_grad():
            torch.testing.assert_close(tuple(made(seen)), tuple(network(seen)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", foldable())
def test_every_pointnet_with_batch_norm_is_folded(name: str) -> None:
    network = stirred(build(name, 5, 0).double())
    assert isinstance(network, PointNet)
    agree(network)


@pytest.mark.parametrize("tnet", [False, True])
@pytest.mark.parametrize("head", [(), (8,), (8, 6)])
def test_a_norm_in_front_of_the_head_goes_into_its_first_layer(tnet: bool, head: tuple[int, ...]) -> None:
    with seeded(0):
        network = PointNet(4, widths=(8, 16), head=head, tnet=tnet, pooled_norm="batch").double()
    agree(stirred(network))  # type: ignore[arg-type]


def test_what_is_folded_and_what_is_not() -> None:
    assert {"pointnet", "pointnet-plain", "pointnet-tiny", "pointnet-small", "pointnet-linear"} <= set(foldable())
    for name in ("pointnet-small-layernorm", "pointnet-full", "dgcnn"):
        assert not can_be_folded(build(name, 2, 0))
    with seeded(0):
        mixed: Network = PointNet(2, widths=(8,), head=(), tnet=False, pooled_norm="layer")
    assert not can_be_folded(mixed)  # layer norm is not affine


def test_folding_copies() -> None:
    network = stirred(build("pointnet-linear", 3, 0))
    assert isinstance(network, PointNet)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = folded(network)
    with torch.no_grad():
        for value in made.parameters():
            value.zero_()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

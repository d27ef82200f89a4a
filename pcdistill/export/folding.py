"""A trained PointNet without its norms, in the layers that runtimes of devices are fast on."""

from collections.abc import Iterable, Sequence
from typing import TypeGuard, cast

import torch
from torch import Tensor, nn

from pcdistill.models import Network, Output
from pcdistill.models.layers.shared import PointNorm, SharedLayer, TNet
from pcdistill.models.pointnet import PointNet


class Folded(Network):
    """PointNet as 1 x 1 convolutions over points, a max, and linear layers, all with biases; norms are in the weights.

    Args:
        shared: weight `(F, K)` and bias `(F,)` of the layers before the max.
        head: those of the layers behind it; the last one gives logits.
        tnet: predicts an offset of a 3 x 3 transform of the points, as `models.pointnet.TNet`.

    Attributes:
        rounding: applied to the input of every layer; the identity, unless int8 is simulated (`quantise`).
    """

    def __init__(
        self, shared: Iterable[tuple[Tensor, Tensor]], head: Iterable[tuple[Tensor, Tensor]], tnet: "Folded | None"
    ) -> None:
        super().__init__()
        self.shared = nn.ModuleList(_filled(nn.Conv1d(w.shape[1], len(w), 1), w[..., None], b) for w, b in shared)
        self.layers = nn.ModuleList(_filled(nn.Linear(w.shape[1], len(w)), w, b) for w, b in head)
        self.rounding = nn.ModuleList(nn.Identity() for _ in range(len(self.shared) + len(self.layers)))
        self.tnet = tnet

    def forward(self, points: Tensor) -> Output:
        pooled = self.pooled(points)
        values = pooled
        for number, layer in enumerate(self.layers):
            values = layer(self.rounding[len(self.shared) + number](values))
            if number + 1 < len(self.layers):
                values = values.relu()
        return Output(values, pooled)

    def pooled(self, points: Tensor) -> Tensor:
        if self.tnet is not None:
            offset = self.tnet(points).logits.view(-1, 3, 3)
            points = points @ (offset + torch.eye(3, device=points.device, dtype=points.dtype))
        values = points.transpose(1, 2)
        for layer, rounding in zip(self.shared, self.rounding, strict=False):
            values = layer(rounding(values)).relu()
        return values.amax(2)


def folded(network: PointNet) -> Folded:
    """A PointNet with batch norm, in evaluation mode, as a network that gives the same logits without it.

    Frozen batch norm is affine and goes into the linear layer before it (`SharedLayer.normed`), or, in front of the
    head, behind it.
    """
    tnet = None
    if network.tnet is not None:
        assert isinstance(network.tnet, TNet)
        tnet = Folded(_shared(network.tnet.trunk.layers), _linear(network.tnet.head), None)
    made = Folded(_shared(network.trunk.layers), _linear(network.head), tnet)
    return made.eval()


def can_be_folded(network: Network) -> TypeGuard[PointNet]:
    """Whether `folded` takes it: a PointNet with batch norm throughout."""
    norms = [part for part in network.modules() if isinstance(part, PointNorm)]
    return isinstance(network, PointNet) and all(norm.kind == "batch" for norm in norms)


def _shared(layers: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    return [_affine(cast(SharedLayer, layer)) for layer in layers]


def _linear(head: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The layers of a head; a norm in front of them goes into the first."""
    folded_layers: list[tuple[Tensor, Tensor]] = []
    before: tuple[Tensor, Tensor] | None = None
    for module in cast(Sequence[nn.Module], head):
        if isinstance(module, PointNorm):
            before = module.affine()
        elif isinstance(module, SharedLayer | nn.Linear):
            weight, bias = _affine(module)
            if before is not None:
                weight, bias, before = weight * before[0], bias + weight @ before[1], None
            folded_layers.append((weight, bias))
    return folded_layers


def _affine(layer: SharedLayer | nn.Linear) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.Linear):
        return layer.weight.detach(), layer.bias.detach()
    factor, shift = layer.norm.affine()
    return (layer.linear.weight * factor[:, None]).detach(), shift.detach()


def _filled(layer: nn.Module, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.to(weight.dtype).load_state_dict({"weight": weight, "bias": bias})
    return layer

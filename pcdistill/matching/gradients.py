"""Gradients of the classification loss with respect to a network's weights, class by class."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from pcdistill.models import Network

Weights = dict[str, Tensor]
Distance = Literal["layer", "cosine", "mse"]
TINY = 1e-20


class Groups(NamedTuple):
    """Clouds put together in G groups of up to n."""

    places: Tensor  # (G, n) int64: of clouds; short groups repeat one
    weight: Tensor  # (G, n): one over the group's size, zero for repeats

    @classmethod
    def of(cls, labels: Tensor, joint: bool = False) -> "Groups":
        """One group per class that occurs among `labels (B,)`, in ascending order, or one of all clouds."""
        place = torch.zeros_like(labels) if joint else labels.unique(return_inverse=True)[1]
        counts = torch.bincount(place)
        order = place.argsort(stable=True)
        starts = counts.cumsum(0) - counts
        column = torch.arange(int(counts.max()))
        own = column < counts[:, None]
        index = order[starts[:, None] + torch.where(own, column, 0)]
        return cls(index, own / counts[:, None])


def parameters(network: Network) -> Weights:
    """The network's parameters, detached, by name."""
    return {name: value.detach() for name, value in network.named_parameters()}


class _Critical(nn.Module):
    """`Network.critical` as the call of a module, which other weights can be put into."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, points: Tensor) -> Tensor:
        return self.network.critical(points)


def critical(network: Network, values: Weights, points: Tensor) -> Tensor:
    """`Network.critical` under the weights given: those points of `(B, P, 3)` that make the gradient."""
    weights = {f"network.{name}": value.detach() for name, value in values.items()}
    found: Tensor = functional_call(_Critical(network), weights, (points,))
    return found


def batch_loss(network: Network, values: Weights, points: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of the cross-entropies of `(n, P, 3)` clouds against `(n, C)` targets under the weights given."""
    logits = functional_call(network, values, (points,)).logits
    return -(weight * (targets * nn.functional.log_softmax(logits, 1)).sum(1)).sum()


def mean_gradient(
    network: Network, values: Weights, points: Tensor, targets: Tensor, create_graph: bool = False
) -> Weights:
    """Gradient of the mean loss of `(B, P, 3)` clouds with respect to `values`.

    With `create_graph` it is differentiable in points, targets and those of `values` that require gradients.
    """
    leaves = {name: value if create_graph else value.detach().requires_grad_() for name, value in values.items()}
    with torch.enable_grad():
        weight = points.new_full((len(points),), 1 / len(points))
        loss = batch_loss(network, leaves, critical(network, leaves, points), targets, weight)
        slope = torch.autograd.grad(loss, list(leaves.values()), create_graph=create_graph)
    return dict(zip(leaves, slope, strict=True))


def group_gradients(network: Network, values: Weights, points: Tensor, targets: Tensor, groups: Groups) -> Weights:
    """Gradient of every group's mean loss with respect to `values`: each `(G, *shape)`.

    Differentiable in points `(B, P, 3)`, targets `(B, C)` and `values`. `network` is in evaluation mode.
    """

    def loss(values: Weights, points: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
        return batch_loss(network, values, points, targets, weight)

    found: Weights = vmap(grad(loss), in_dims=(None, 0, 0, 0))(
        values, points[groups.places], targets[groups.places], groups.weight.to(points)
    )
    return found


def gradient_distance(synthetic: Weights, real: Weights, distance: Distance) -> Tensor:
    """Mean over groups of the distance between gradients `(G, *shape)` of the same weights.

    `layer`: the mean over rows of every weight matrix of one minus the cosine, summed over layers; vectors (biases,
    norms) are left out (Zhao et al., ICLR 2021, section 3.3; they sum over rows, too). `cosine`: one minus the
    cosine of the whole gradient. `mse`: squared distance in units of the real gradient's square.
    """
    if distance == "layer":
        matrices = [name for name, value in synthetic.items() if value.ndim > 2]
        return sum(((1 - _cosine(synthetic[name], real[name])).mean() for name in matrices), torch.zeros(()))
    ours, theirs = (torch.cat([part[name].flatten(1) for name in synthetic], 1) for part in (synthetic, real))
    if distance == "cosine":
        return (1 - _cosine(ours, theirs)).mean()
    return ((ours - theirs).square().sum(1) / (theirs.square().sum(1) + TINY)).mean()


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    """Over the last axis; two vectors of zeros agree."""
    lengths = (first.square().sum(-1) + TINY).sqrt() * (second.square().sum(-1) + TINY).sqrt()
    return ((first * second).sum(-1) + TINY) / lengths


def one_hot(labels: Tensor, classes: int, like: Tensor) -> Tensor:
    """Labels `(B,)` or `(B, C)` as `(B, C)` probabilities of the type of `like`."""
    hard: Any = nn.functional.one_hot
    return (hard(labels, classes) if labels.ndim == 1 else labels).to(like)

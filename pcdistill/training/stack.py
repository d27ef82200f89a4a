"""Networks of one architecture that are trained at once: their weights stacked, every operation carried out once.

Ten networks of an evaluation differ in weights, order of clouds, augmentation and dropout, and in nothing else. Stacked
along a leading axis, a step of all of them is one pass of `torch.func.vmap` through the architecture: batched matrix
products instead of ten small ones, and Python's share of a step once instead of ten times. Networks do not see
one another: values and gradients are those of each alone, up to rounding.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from pcdistill.models.base import Dropout, Network


class Stack:
    """Networks of one architecture in training mode, at least one.

    One network is called as it is; several are stacked: `unstack` gives the weights back to them.

    Args:
        networks: equal but for their weights; several of them `stackable`.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks = list(networks)
        self.dropouts = {name: m for name, m in networks[0].named_modules() if isinstance(m, Dropout)}
        for network in networks:
            network.train()
        if len(networks) > 1:
            self._parameters, self._buffers = stack_module_state(self.networks)
            self._plan = copy.deepcopy(networks[0]).to("meta")

    def parameters(self) -> list[Tensor]:
        """What is learned: leaves, of several networks with a leading axis."""
        if len(self.networks) == 1:
            return list(self.networks[0].parameters())
        return list(self._parameters.values())

    def state(self) -> Iterator[Tensor]:
        """Parameters and buffers that a network's file holds, stacked."""
        if len(self.networks) == 1:
            yield from self.networks[0].state_dict().values()
            return
        for name in self.networks[0].state_dict():
            yield (self._parameters if name in self._parameters else self._buffers)[name].detach()

    def logits(self, points: Tensor, generators: Sequence[torch.Generator], classes: Tensor | None = None) -> Tensor:
        """Of `(S, B, N, 3)` clouds, B for each of S networks, whose dropout masks come from their own generator.

        Args:
            points: of all networks.
            generators: one of each.
            classes: `(B, C)`, of one `Segmenter` alone: what it is told of the classes of its clouds.

        Returns:
            `(S, B, C)`, of a `Segmenter` `(1, B, N, L)`.
        """
        masks = {
            f"{name}.mask": torch.stack([dropout.draw(points.shape[1], each) for each in generators]).to(points.device)
            for name, dropout in self.dropouts.items()
        }
        if len(self.networks) == 1:
            named = {name: mask[0] for name, mask in masks.items()}
            (network,) = self.networks
            told = () if classes is None else (classes,)
            logits: Tensor = functional_call(network, named, (points[0], *told)).logits[None]
            return logits

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], clouds: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._plan, (parameters, buffers), (clouds,)).logits
            return logits

        stacked: Tensor = vmap(one)(self._parameters, {**self._buffers, **masks}, points)
        return stacked

    def unstack(self) -> None:
        """Give every network its weights, and leave all in evaluation mode."""
        for number, network in enumerate(self.networks):
            if len(self.networks) > 1:
                stacked = {**self._parameters, **self._buffers}
                network.load_state_dict({name: stacked[name][number].detach() for name in network.state_dict()})
            network.eval()

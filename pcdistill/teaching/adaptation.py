"""A trained network learns new classes, or a new domain, from few clouds and a memory of what it knows."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import thinned
from pcdistill.models import Dropout, Network, Output, build, seeded
from pcdistill.training.loop import OnStep, train
from pcdistill.training.recipe import Recipe
from pcdistill.training.trained import Trained

How = Literal["whole", "head", "lora"]


class LowRank(nn.Module):
    """A frozen weight `(out, in)` plus `up @ down`, of rank r at most (Hu et al., "LoRA", ICLR 2022, section 4.1).

    `up` starts at zero, so that the first step sees the weight as it was; the paper's factor alpha / r is one here,
    as the learning rate does the same.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rank = min(rank, *weight.shape)
        self.down = nn.Parameter((torch.randn(rank, weight.shape[1]) / weight.shape[1] ** 0.5).to(weight.device))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


class Partly(Network):
    """A network of which only some modules are in training mode while it is trained.

    The others keep their running statistics, and use them: a few new clouds would move those of the old ones away.
    """

    def __init__(self, network: Network, trained: Sequence[nn.Module]) -> None:
        super().__init__()
        self.network, self.trained = network, list(trained)

    def forward(self, points: Tensor) -> Output:
        output: Output = self.network(points)
        return output

    def train(self, mode: bool = True) -> "Partly":
        super().train(False)
        self.training = mode
        for module in self.trained:
            module.train(mode)
        return self


def union(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """The old classes in their order, then those of the new ones that are not among them.

    >>> union(["bed", "sofa"], ["chair", "bed", "desk"])
    ('bed', 'sofa', 'chair', 'desk')
    """
    return (*old, *(name for name in new if name not in old))


def widened(trained: Trained, class_names: tuple[str, ...], seed: int) -> Network:
    """A copy of the network, where it is, with logits for `class_names`, which begin with its own.

    Logits of its own classes stay; the weights of the others are those of a fresh network with this seed.
    """
    network = build(trained.protocol.network, len(class_names), seed)
    network.bf16 = trained.network.bf16
    old = trained.network.state_dict()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            # Only what has a row for every class has another shape.
            (value if value.shape == old[name].shape else value[: len(old[name])]).copy_(old[name])
    return network.to(next(trained.network.parameters()).device).eval()


def evenly(sets: Sequence[PointClouds], class_names: tuple[str, ...]) -> PointClouds:
    """One set of all, repeated so that every class has as many clouds, and in a class every set that knows it.

    A memory holds a few clouds of many classes, new data many of a few. Shown as they are, or half and half, the
    last layer would learn how often classes were shown; test accuracy asks for all alike. Clouds are repeated in turn,
    not drawn, so that none is left out; where classes have many clouds, some of a class are repeated once more than
    others.

    Args:
        sets: of equally many points; classes among `class_names`. Soft labels count by the class that the cloud stands
            for: they know nothing of classes that came later.
        class_names: of the result.
    """
    every = joined(sets, class_names)
    origin = torch.arange(len(sets)).repeat_interleave(torch.tensor([len(one) for one in sets]))
    groups: list[list[Tensor]] = []  # of every class the places of its clouds, by set
    for label in range(len(class_names)):
        by_set = [((every.labels == label) & (origin == place)).nonzero()[:, 0] for place in range(len(sets))]
        groups.append([places for places in by_set if len(places)])
    most = max(len(places) * len(by_set) for by_set in groups for places in by_set)
    index = [
        places[torch.arange(most * (number + 1) // len(by_set) - most * number // len(by_set)) % len(places)]
        for by_set in groups
        for number, places in enumerate(by_set)
    ]
    return every[torch.cat(index)]


def as_stored(clouds: PointClouds, points: int) -> PointClouds:
    """Clouds thinned as stored ones are: a network must not tell old from new by how points were drawn."""
    if points >= clouds.points_per_cloud:
        return clouds
    return thinned(clouds, points)


def joined(sets: Sequence[PointClouds], class_names: tuple[str, ...]) -> PointClouds:
    """The clouds of all sets, hard labels among `class_names`; see `evenly`."""
    together = [one.with_classes(class_names) for one in sets]
    points, labels = torch.cat([one.points for one in together]), torch.cat([one.hard_labels for one in together])
    return PointClouds(points, labels, class_names)


def adapt(
    trained: Trained,
    memory: Sequence[PointClouds],
    new: PointClouds,
    how: How,
    recipe: Recipe,
    seed: int,
    rank: int = 4,
    on_step: OnStep | None = None,
) -> Trained:
    """Fine-tune a copy of a network on new clouds and a memory of old ones.

    Replay of stored examples against forgetting is that of Rebuffi et al. ("iCaRL", CVPR 2017); classifier and loss are
    the network's own, without nearest means or distillation of old logits.

    Args:
        trained: the network, which stays as it is.
        memory: sets of classes that it knows; none lets it forget.
        new: clouds `(N, P, 3)` of new classes, of known ones in a new domain, or both.
        how: `whole` trains all weights; `head` those of the head, while all before it, running statistics too, stays;
            `lora` low-rank updates of the linear layers (all of `nn.Linear` but the last, which is trained whole), with
            norms and statistics as they are. Updates are merged into the weights in the end.
        recipe: of the fine-tuning; clouds are normalised as by that of the network's training.
        seed: of new weights, order and augmentation.
        rank: of low-rank updates.
        on_step: as in `train`.

    Returns:
        The network for the union of classes, old ones first, in evaluation mode.

    Raises:
        InputError: a memory of classes that the network does not know or of other points, and as `train`.
    """
    for one in memory:
        one.with_classes(trained.class_names)
        if one.points_per_cloud != new.points_per_cloud:
            raise InputError("memory", f"{one.points_per_cloud} points per cloud", f"{new.points_per_cloud} as in new")
    class_names = union(trained.class_names, new.class_names)
    network = widened(trained, class_names, seed)
    recipe = recipe.model_copy(update={"normalise": trained.protocol.recipe.normalise})
    train(_prepared(network, how, rank, seed), evenly([*memory, new], class_names), recipe, seed, on_step)
    for module in network.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    protocol = trained.protocol.model_copy(update={"recipe": recipe, "name": recipe.name})
    network.requires_grad_(True).eval()
    return Trained(network, class_names, protocol, trained.dataset, new.points_per_cloud, seed, trained.taught)


def last_layer(network: Network) -> nn.Linear:
    """The layer that gives the logits."""
    return [module for module in network.head.modules() if isinstance(module, nn.Linear)][-1]


def _prepared(network: Network, how: How, rank: int, seed: int) -> Network:
    """What is trained in place of the network, the same with nothing but what `how` says left to learn."""
    if how == "whole":
        return network
    network.requires_grad_(False)
    if how == "head":
        network.head.requires_grad_(True)
        return Partly(network, [network.head])
    last = last_layer(network).requires_grad_(True)
    with seeded(seed):
        for module in list(network.modules()):
            if isinstance(module, nn.Linear) and module is not last:
                parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank))
    return Partly(network, [module for module in network.modules() if isinstance(module, Dropout | nn.Dropout)])

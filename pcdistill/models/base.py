"""What every network offers, and the table of networks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcdistill.core.errors import InputError
from pcdistill.core.registry import Registry


class Output(NamedTuple):
    """What a network says of a batch of clouds."""

    logits: Tensor  # (B, C)
    global_feature: Tensor  # (B, G), after pooling over points


class Dropout(nn.Module):
    """Dropout of `(B, F)` features whose mask may be drawn beforehand, from generators of one's own.

    Then a network that is trained alone sees the same masks as one that is trained in a stack (`Stack`). Without a mask
    it draws from the global generator, as `nn.Dropout` does.
    """

    mask: Tensor

    def __init__(self, p: float, features: int) -> None:
        super().__init__()
        self.p, self.features = p, features
        self.register_buffer("mask", torch.empty(0), persistent=False)

    def draw(self, clouds: int, generator: torch.Generator) -> Tensor:
        """A mask `(clouds, F)` of 0 and 1 / (1 - p)."""
        return (torch.rand(clouds, self.features, generator=generator) >= self.p) / (1 - self.p)

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return features
        if self.mask.numel() == 0:
            return features * nn.functional.dropout(torch.ones(features.shape), self.p).to(features)
        return features * self.mask


class Network(nn.Module):
    """Base of all networks: `(B, N, 3)` float32 in the unit sphere, z up, to `Output`.

    Attributes:
        head: the part that `classify` uses.
        bf16: multiply the widest layers in bfloat16 where the processor can; networks without such layers ignore it.
        stackable: whether `torch.func.vmap` can carry out a training step (`Stack`), and it pays: no random numbers but
            those of `Dropout`, no choices that depend on values in Python, and no gathering of neighbours, which costs
            more stacked than one by one.
        gathers: whether it gathers neighbours of points in a way that an export can follow for one number of points.
        fixed_points: that a cloud must have, of an exported network of which that is so; None of any number.
        least_points: that an export may take for granted; the file that it gives takes fewer, too.
    """

    head: nn.Module
    bf16: bool = False
    stackable: bool = False
    gathers: bool = False
    fixed_points: int | None = None
    least_points: int = 1

    def forward(self, points: Tensor) -> Output:
        pooled = self.pooled(points)
        return Output(self.classify(pooled), pooled)

    def classify(self, global_feature: Tensor) -> Tensor:
        """Logits `(B, C)` of global features `(B, G)`."""
        logits: Tensor = self.head(global_feature)
        return logits

    def point_features(self, points: Tensor) -> list[Tensor]:
        """Features of points after each shared layer or stage, `(B, N_l, F_l)`.

        N_l is N where all points are kept, and less where centres stand for them. Twice differentiable in evaluation.
        """
        raise NotImplementedError

    def pooled(self, points: Tensor) -> Tensor:
        """The global feature `(B, G)`, twice differentiable in evaluation mode."""
        return self.point_features(points)[-1].amax(1).relu()

    def critical(self, points: Tensor) -> Tensor:
        """`(B, N, 3)` clouds reduced to `(B, K, 3)` points that alone give the same output, with the same derivatives.

        K is at most the number of global features: the critical points of Qi et al. (2017, theorem 2). A network
        whose points see one another gives the clouds back as they are.
        """
        return points


class Segmenter(Network):
    """Base of networks that label points: `(B, N, 3)` to logits `(B, N, L)` of the parts of every point.

    The class of a cloud is an input that may be missing: a row of `classes` `(B, C)` is its one-hot vector, or zeros.

    Attributes:
        head: a linear layer, from the last features of points to logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def told(self, classes: Tensor) -> Tensor:
        """What the network is told of clouds of known classes `(B,)`, `(B, C)`."""
        return nn.functional.one_hot(classes, self.num_classes).float()

    def labelling(self, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Last features of points `(B, N, F)`, which `head` labels, and the global feature `(B, G)`."""
        raise NotImplementedError

    def forward(self, points: Tensor, classes: Tensor | None = None) -> Output:
        found, pooled = self.labelling(points, self._known(points, classes))
        return Output(self.classify(found), pooled)

    def point_features(self, points: Tensor, classes: Tensor | None = None) -> list[Tensor]:
        return [self.labelling(points, self._known(points, classes))[0]]

    def _known(self, points: Tensor, classes: Tensor | None) -> Tensor:
        return points.new_zeros(points.shape[0], self.num_classes) if classes is None else classes.to(points)


NetworkFactory = Callable[[int], Network]
networks: Registry[NetworkFactory] = Registry("network", group="pcdistill.networks")
SegmenterFactory = Callable[[int, int], Segmenter]
segmenters: Registry[SegmenterFactory] = Registry("network of parts", group="pcdistill.segmenters")
SUFFIX = "-seg"


def network_for(name: str, parts: bool) -> str:
    """The registered name of a network for sets with parts or without; of those with parts, the `-seg` of `name`.

    Raises:
        InputError: an unknown name, or that of a network for other sets.
    """
    if not parts:
        if name in segmenters:
            raise InputError("network", f"'{name}' for a set whose points have no parts", "one that names objects")
        networks[name]
        return name
    if name in segmenters:
        return name
    if name in networks and name + SUFFIX not in segmenters:
        raise InputError("network", f"'{name}' for a set whose points have parts", "one of " + ", ".join(segmenters))
    segmenters[name + SUFFIX if name in networks else name]
    return name + SUFFIX


def check_network(name: str) -> None:
    """Refuse a name of no network of either kind.

    Raises:
        InputError: with the names that there are.
    """
    if name not in segmenters:
        networks[name]


def build(name: str, num_classes: int, seed: int, num_parts: int = 0) -> Network:
    """A freshly initialised network of the registry; the same seed gives the same weights.

    Args:
        name: registered.
        num_classes: of the set.
        seed: of the weights.
        num_parts: of a set whose points have parts: a `Segmenter`. 0: a network that names objects.

    Raises:
        InputError: unknown name, a plugin that cannot be loaded, or a factory that makes something else.
    """
    name = network_for(name, parts=num_parts > 0)
    with seeded(seed):
        made = segmenters[name](num_classes, num_parts) if num_parts else networks[name](num_classes)
    wanted = Segmenter if num_parts else Network
    if not isinstance(made, wanted):
        raise InputError(f"network {name}", f"a {type(made).__name__} from its factory", f"a {wanted.__name__}")
    return made


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block on the seeded global generators and put their state back afterwards.

    Initialisers and dropout draw from torch's global generator, which cannot be passed to them.
    """
    with torch.random.fork_rng(devices=[]):  # those of the processor: others would be set up, all of them
        torch.manual_seed(seed)
        yield

"""One pass over the real set: running class statistics of a network."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, ClassVar, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from pcdistill.core.cache import Tensors
from pcdistill.core.options import Options
from pcdistill.matching.sorting import quantile_profile, quantile_shares
from pcdistill.models import Network
from pcdistill.training.augment import Augmentation

SEMI_TRAINED = Augmentation(scale=1.25, shift=0.1)


def _ascending(steps: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= steps[0] <= steps[1]:
        raise ValueError("two numbers of steps, ascending, from 0")
    return steps


StepRange = Annotated[tuple[int, int], AfterValidator(_ascending)]


class BankConfig(Options):
    """Which networks see the real set, and how.

    Attributes:
        networks: how many.
        network: registered name; several, separated by commas, take turns (a pool of architectures).
        points: of every real cloud whose features are sorted (its first ones: a cloud is a sample without order).
        pooled_points: of every real cloud that global features are made from: those of test clouds, since a
            synthetic cloud of few points should excite a network as a real one of many does.
        quantiles: Q, the resolution at which a class's feature distributions are kept. 0 keeps no profiles; then
            only the clouds behind `pooled_samples` are passed, and the other statistics are theirs.
        trained_steps: networks are trained on real clouds for a number of batches between these two, evenly
            spread; (0, 0) leaves them random (IDM's semi-trained networks; Zhao et al. 2023).
        trained_clouds: real clouds per class that they are trained on; up to 512 of them calibrate batch norm.
        pooled_samples: real global features kept per class, for kernels over single clouds.
        augmentation: of the real clouds that networks are trained on.
        seed: of networks and subsets.
    """

    later: ClassVar[tuple[str, ...]] = ("augmentation",)

    networks: int = Field(default=10, ge=1)
    network: str = "pointnet-small"
    points: int = Field(default=256, ge=1)
    pooled_points: int = Field(default=1024, ge=1)
    quantiles: int = Field(default=16, ge=0)
    trained_steps: StepRange = (20, 200)
    trained_clouds: int = Field(default=64, ge=2)
    pooled_samples: int = Field(default=64, ge=1)
    augmentation: Augmentation = SEMI_TRAINED
    seed: int = 0


class BankRequest(BankConfig):
    """A bank as an objective asks for it: that of its options, with what it alone reads.

    Single maps and attention need `quantiles`.

    Attributes:
        map_samples: real clouds per class, drawn for every network, whose last layer's quantile profiles are kept
            one by one: C x S x F x Q numbers a network.
        attention: power p of the attention |f|^p of points whose class quantiles are kept (`attention_maps`); 0
            keeps none.
        moments: whether all real clouds are passed, and class means and covariance are of all of their global features.
    """

    later: ClassVar[tuple[str, ...]] = (*BankConfig.later, "moments")

    map_samples: int = 0
    attention: float = 0.0
    moments: bool = False

    @classmethod
    def of(cls, config: BankConfig, **asked: float) -> "BankRequest":
        """The bank of `config`, with the statistics asked for."""
        return cls(**{**config.model_dump(), **asked})

    def facts(self) -> str:
        """All that the bank depends on besides the real set. In the order of release 0.1, whose banks are found."""
        values = self.model_dump(mode="json")
        seed = values.pop("seed")
        return json.dumps({**values, "seed": seed}, separators=(",", ":"))


class Member(NamedTuple):
    """One network and its view of the real set of C classes."""

    network: Network  # in evaluation mode, without gradients of its own
    profiles: list[Tensor]  # per layer (C, F, Q): class mean of the quantile profiles of point features
    spreads: list[Tensor]  # per layer (F,): variance of a point feature over the real set
    pooled_mean: Tensor  # (C, G): class mean of the global features
    pooled: Tensor  # (C, S, G): global features of S real clouds of each class
    maps: Tensor  # (C, S', F, Q): the last layer's quantile profiles of S' real clouds of each class; may be empty
    attention: list[Tensor]  # per layer (C, Q): class mean of the quantile profiles of point attention; may be empty
    covariance: Tensor  # (G, G) of the global features of all real clouds, classes counting equally; may be empty


class _Kept:
    """Values of up to `samples` clouds of each class.

    One block `(C, samples, ...)` of zeros from the start: many small ones would keep the heap from shrinking between
    batches.
    """

    def __init__(self, block: Tensor) -> None:
        self.block = block
        self.counts = [0] * len(block)

    def add(self, values: Tensor, labels: Tensor) -> None:
        """Values `(B, ...)` of clouds of these classes `(B,)`."""
        for value, label in zip(values, labels.tolist(), strict=True):
            self.block[label, self.counts[label]] = value
            self.counts[label] += 1

    def rows(self) -> tuple[Tensor, Tensor]:
        """What was added, class by class, and the classes: `add` takes both."""
        labels = torch.arange(len(self.counts)).repeat_interleave(torch.tensor(self.counts))
        return torch.cat([own[:count] for own, count in zip(self.block, self.counts, strict=True)]), labels

    def cycled(self) -> Tensor:
        """As many of every class as of the largest: a small one repeats its clouds."""
        most = torch.arange(max(self.counts))
        places = torch.stack([most % max(count, 1) for count in self.counts])
        return self.block[torch.arange(len(self.counts))[:, None], places]


class _Gathering:
    """Running class sums of one network's statistics; single clouds' at the indices `pooled` and `mapped`."""

    def __init__(self, network: Network, config: BankRequest, sizes: Tensor, pooled: Tensor, mapped: Tensor) -> None:
        self.network = network
        self.config = config
        self.sizes = sizes
        self.classes = classes = len(sizes)
        self.pooled_places = pooled
        self.mapped_places = mapped
        self.counts = torch.zeros(classes)  # on the processor, as labels are
        self.profiles: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.pooled_sum = torch.zeros(())
        self.products = torch.zeros(0, 0)
        self.pooled = _Kept(torch.zeros(classes, 0))
        self.maps = _Kept(torch.zeros(classes, 0, 0, 0))

    def _allocate(self, sizes: list[int], width: int, like: Tensor) -> None:
        """For layers of so many features and a global feature of `width`, where `like` is."""
        config, classes, zeros = self.config, self.classes, like.new_zeros
        self.profiles = [zeros(classes, size, config.quantiles) for size in sizes]
        self.squares = [zeros(size) for size in sizes]
        self.attention = [zeros(classes, config.quantiles) for _ in sizes if config.attention]
        self.pooled_sum = zeros(classes, width)
        if config.moments:  # on the processor: not every device has float64
            self.products = torch.zeros(width, width, dtype=torch.float64)
        self.pooled = _Kept(zeros(classes, config.pooled_samples, width))
        if config.map_samples:
            self.maps = _Kept(zeros(classes, config.map_samples, sizes[-1], config.quantiles))

    @torch.no_grad()
    def add(self, points: Tensor, labels: Tensor, index: Tensor, shares: Tensor | None = None) -> None:
        """Clouds `(B, P, 3)` at places `index`; of class means, each has the share `(B,)`, or the same."""
        counted = torch.ones(len(points)) if shares is None else shares
        share, places = counted.to(points.device), labels.to(points.device)
        quantiles, power = self.config.quantiles, self.config.attention
        features = self.network.point_features(points[:, : self.config.points]) if quantiles else []
        pooled = self.network(points).global_feature
        if self.pooled_sum.ndim == 0:
            self._allocate([layer.shape[-1] for layer in features], pooled.shape[-1], pooled)
        profiles = torch.zeros(0)
        for total, squares, layer in zip(self.profiles, self.squares, features, strict=True):
            profiles = profiles_fast(layer, quantiles)
            total.index_add_(0, places, profiles * share[:, None, None])
            squares += (layer.square().mean(1) * share[:, None]).sum(0)
        for total, layer in zip(self.attention, features if power else [], strict=True):
            total.index_add_(0, places, quantile_profile(attention_maps(layer, power), quantiles) * share[:, None])
        self.pooled_sum.index_add_(0, places, pooled * share[:, None])
        self.counts += torch.bincount(labels, counted, self.classes)
        if self.config.moments:
            exact = pooled.cpu().double()  # a covariance is a small difference of these
            self.products += (exact * (counted / self.sizes[labels])[:, None]).T @ exact
        keep = torch.isin(index, self.pooled_places)
        self.pooled.add(pooled[keep], labels[keep])
        if self.config.map_samples:
            keep = torch.isin(index, self.mapped_places)
            self.maps.add(profiles[keep], labels[keep])  # the last layer's

    def _totals(self) -> Tensors:
        """All that is summed up, by name; not copies."""
        layers = {"profiles": self.profiles, "squares": self.squares, "attention": self.attention}
        each = {f"{name}/{layer}": value for name, values in layers.items() for layer, value in enumerate(values)}
        return {"counts": self.counts, "pooled_sum": self.pooled_sum, "products": self.products, **each}

    def sums(self) -> Tensors:
        """What it has gathered, for the `join` of another one of the same network."""
        kept: Tensors = {}
        for name, own in (("pooled", self.pooled), ("maps", self.maps)):
            kept[f"kept/{name}"], kept[f"labels/{name}"] = own.rows()
        return {**self._totals(), **kept}

    def join(self, sums: Tensors, device: torch.device) -> None:
        """Add what another one has gathered of the clouds that follow; `device` is that of the network."""
        if self.pooled_sum.ndim == 0:
            layers = sum(name.startswith("squares/") for name in sums)
            sizes = [len(sums[f"squares/{layer}"]) for layer in range(layers)]
            self._allocate(sizes, sums["pooled_sum"].shape[-1], torch.zeros((), device=device))
        for name, total in self._totals().items():
            total += sums[name].to(total.device)
        self.pooled.add(sums["kept/pooled"], sums["labels/pooled"])
        self.maps.add(sums["kept/maps"], sums["labels/maps"])

    def member(self) -> Member:
        counts, total = self.counts.to(self.pooled_sum.device), self.counts.sum()
        means = [profile.mean(2).sum(0) / total for profile in self.profiles]
        centre = (self.pooled_sum.cpu() / self.counts[:, None]).double().mean(0)
        covariance = (
            self.products / self.classes - torch.outer(centre, centre) if self.config.moments else self.products
        )
        return Member(
            self.network,
            [profile / counts[:, None, None] for profile in self.profiles],
            [squares / total - mean.square() for squares, mean in zip(self.squares, means, strict=True)],
            self.pooled_sum / counts[:, None],
            self.pooled.cycled(),
            self.maps.cycled(),
            [attention / counts[:, None] for attention in self.attention],
            covariance.float(),
        )


def attention_maps(features: Tensor, power: float) -> Tensor:
    """Attention `(B, N)` of the points of `(B, N, F)` features: sum over channels of |f|^power, of mean square 1.

    DataDAM divides by the Euclidean norm over positions; the root mean square is that norm in units that do not
    depend on the number of points. A cloud without any features has zeros.
    """
    attention = features.abs().pow(power).sum(2)
    size = torch.linalg.vector_norm(attention, dim=1, keepdim=True) / attention.shape[1] ** 0.5
    maps: Tensor = attention / size.clamp_min(1e-12)
    return maps


def profiles_fast(features: Tensor, quantiles: int) -> Tensor:
    """`quantile_profile` of `(B, N, F)` point features over the points, `(B, F, Q)`, without gradient.

    On the processor by NumPy's values-only sort, which is vectorised (AVX-512, AVX2, NEON) and lets go of the
    interpreter lock.
    """
    if features.device.type != "cpu":
        return quantile_profile(features.transpose(1, 2).contiguous(), quantiles)
    rows = features.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # is sorted in place
    parts: Sequence[Tensor] = rows.view(-1, rows.shape[-1]).chunk(max(1, torch.get_num_threads()))
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: part.numpy().sort(axis=-1), parts))
    return rows if rows.shape[-1] == quantiles else rows @ quantile_shares(rows.shape[-1], quantiles).to(rows)

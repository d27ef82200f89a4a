"""The network bank: surrogate networks and what the whole real set looks like to them.

Published distribution matching draws a network and a handful of real clouds at every step. The real side
is always the same set, so the bank passes it once through a fixed number of networks and keeps class
statistics; a step of the outer loop then touches synthetic clouds only. Memory during the pass depends on
the number of networks, classes and features, not on the size of the real set.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from pcdistill.augment import Augmentation
from pcdistill.clouds import CloudSource, PointClouds, uniform, weights_of
from pcdistill.errors import InputError
from pcdistill.files import atomic, cache_root
from pcdistill.matching.draws import step_generator
from pcdistill.matching.sorting import _shares, quantile_profile
from pcdistill.models import Network, build, seeded
from pcdistill.progress import progress
from pcdistill.training import Recipe, train

FORMAT = 2  # raise when what is computed changes, so that old caches are not read
BATCH = 32


def _ascending(steps: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= steps[0] <= steps[1]:
        raise ValueError("two numbers of steps, ascending, from 0")
    return steps


StepRange = Annotated[tuple[int, int], AfterValidator(_ascending)]


class BankConfig(BaseModel):
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
        map_samples: real clouds per class, drawn for every network, whose last layer's quantile profiles are kept
            one by one: C x S x F x Q numbers a network. The objectives that read them ask for them.
        attention: power p of the attention |f|^p of points whose class quantiles are kept (`attention_maps`); 0
            keeps none. The objective that reads them asks for them.
        seed: of networks and subsets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    networks: int = Field(default=10, ge=1)
    network: str = "pointnet-small"
    points: int = Field(default=256, ge=1)
    pooled_points: int = Field(default=1024, ge=1)
    quantiles: int = Field(default=16, ge=0)
    trained_steps: StepRange = (20, 200)
    trained_clouds: int = Field(default=64, ge=2)
    pooled_samples: int = Field(default=64, ge=1)
    map_samples: int = Field(default=0, ge=0)
    attention: float = Field(default=0.0, ge=0)
    seed: int = 0

    @model_validator(mode="after")
    def _profiles_come_with_quantiles(self) -> "BankConfig":
        if not self.quantiles and (self.map_samples or self.attention):
            raise ValueError("at least 1 quantile for map_samples and attention")
        return self


class Member(NamedTuple):
    """One network and its view of the real set of C classes."""

    network: Network  # in evaluation mode, without gradients of its own
    profiles: list[Tensor]  # per layer (C, F, Q): class mean of the quantile profiles of point features
    spreads: list[Tensor]  # per layer (F,): variance of a point feature over the real set
    pooled_mean: Tensor  # (C, G): class mean of the global features
    pooled: Tensor  # (C, S, G): global features of S real clouds of each class
    maps: Tensor  # (C, S', F, Q): the last layer's quantile profiles of S' real clouds of each class; may be empty
    attention: list[Tensor]  # per layer (C, Q): class mean of the quantile profiles of point attention; may be empty


class Bank(NamedTuple):
    """Surrogate networks with real class statistics."""

    members: list[Member]
    seconds: float  # that it took to build, once

    @classmethod
    def of(cls, real: CloudSource, config: BankConfig, cache: bool = True) -> "Bank":
        """The bank of a real set: read from the cache, or built in one pass and cached.

        Raises:
            InputError: soft labels, fewer than two clouds, or a class without clouds.
        """
        checked_real(real)
        path = cls._path(real, config)
        classes = len(real.class_names)
        if cache and path.exists():
            try:
                with safe_open(path, "pt") as stored:
                    tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
                    return cls(_from_tensors(tensors, config, classes), json.loads(stored.metadata()["seconds"]))
            except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError):
                path.unlink(missing_ok=True)  # damaged: build it again
        start = time.perf_counter()
        members = _build(real, config)
        bank = cls(members, time.perf_counter() - start)
        if not cache:
            return bank
        content = serialised(_to_tensors(members), {"seconds": json.dumps(bank.seconds)})
        try:
            with atomic(path) as temporary:
                temporary.write_bytes(content)
        except OSError:
            return bank  # a read-only or full disk costs time on the next run, nothing else
        return bank

    @classmethod
    def is_cached(cls, real: CloudSource, config: BankConfig) -> bool:
        """Whether `of` would read and not build."""
        return cls._path(real, config).exists()

    @staticmethod
    def _path(real: CloudSource, config: BankConfig) -> Path:
        key = hashlib.sha256(f"{FORMAT} {config.model_dump_json()} {real.fingerprint()}".encode()).hexdigest()
        return cache_root() / "banks" / f"{key[:32]}.safetensors"


def architecture(network: str, k: int) -> str:
    """Registered name of the k-th surrogate: of several, separated by commas, they take turns."""
    names = network.split(",")
    return names[k % len(names)].strip()


def checked_real(real: CloudSource) -> None:
    """Raise `InputError` unless every class has hard-labelled clouds, two in all."""
    if real.labels.ndim != 1:
        raise InputError("real set", f"labels of shape {tuple(real.labels.shape)}", "one class index per cloud")
    counts = torch.bincount(real.labels, minlength=len(real.class_names))
    if int(counts.min()) == 0:
        raise InputError("real set", f"class '{real.class_names[int(counts.argmin())]}' is empty", "at least one cloud")
    if len(real.labels) < 2:
        raise InputError("real set", "1 cloud", "at least 2")


def frozen_network(name: str, sample: PointClouds, steps: int, seed: int) -> Network:
    """A network trained for `steps` batches on real clouds, its batch norm calibrated on them, then frozen."""
    network = build(name, sample.num_classes, seed)
    if steps:
        recipe = Recipe(
            name="semi-trained", steps=steps, label_smoothing=0.1, augmentation=Augmentation(scale=1.25, shift=0.1)
        )
        train(network, sample, recipe, seed)
    calibrate(network, sample.points[:512])
    return network.eval().requires_grad_(False)


def untrained_network(real: CloudSource, name: str, points: int, seed: int, number: int) -> Network:
    """A network with random weights, its batch norm calibrated on some 512 real clouds, then frozen."""
    classes = len(real.class_names)
    network = build(name, classes, seed * 1000 + number)
    generator = step_generator("calibration", seed, number)
    sample, _ = random_clouds(uniform(real), range(classes), 512 // classes + 1, generator)
    calibrate(network, sample[:, :points])
    return network.eval().requires_grad_(False)


def give_fresh_head(network: Network, real: CloudSource, name: str, points: int, seed: int, number: int) -> None:
    """Put an untrained classifier on a network's trained point features, in place; batch norm is calibrated anew."""
    network.head = untrained_network(real, name, points, seed, number).head
    sample, _ = random_clouds(uniform(real), range(len(real.class_names)), 16, step_generator("head", seed, number))
    calibrate(network, sample[:, :points])
    network.eval().requires_grad_(False)


def calibrate(network: Network, points: Tensor) -> None:
    """Set batch norm's running statistics to those of `points`."""
    norms: list[Any] = [module for module in network.modules() if hasattr(module, "running_mean")]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), seeded(0):  # dropout draws from the global generator
        network.train()(points)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum


def _build(real: CloudSource, config: BankConfig) -> list[Member]:
    generator = torch.Generator().manual_seed(config.seed)
    sample = _sample(real, config.trained_clouds, config, generator)
    low, high = config.trained_steps
    steps = np.linspace(low, high, config.networks).round().astype(int).tolist()
    networks = []
    with progress("preparing networks", config.networks) as report:
        for k, count in enumerate(steps):
            networks.append(frozen_network(architecture(config.network, k), sample, count, config.seed * 1000 + k))
            report(k + 1, "")
    kept = _places(real, config.pooled_samples, generator)
    gathering = [
        _Gathering(network, config, len(real.class_names), kept, _places(real, config.map_samples, generator))
        for network in networks
    ]
    # Clouds that were drawn by their weights must not be weighted again.
    passed, shares = (torch.arange(len(real.labels)), _shares_of(real)) if config.quantiles else (kept, None)
    with progress("passing the real set", len(passed)) as report:
        done = 0
        for index in passed.split(BATCH):
            points = real.batch(index)[:, : config.pooled_points]
            for gathered in gathering:
                gathered.add(points, real.labels[index], index, None if shares is None else shares[index])
            done += len(index)
            report(done, "")
    return [gathered.member() for gathered in gathering]


def _shares_of(real: CloudSource) -> Tensor | None:
    """`(N,)` float32 weights of mean 1 in every class, so that classes count as without; None without weights."""
    weights = weights_of(real)
    if weights is None:
        return None
    counts = torch.bincount(real.labels)
    means = torch.bincount(real.labels, weights=weights) / counts
    return (weights / means[real.labels]).float()


def _places(
    real: CloudSource, per_class: int, generator: torch.Generator, classes: Iterable[int] | None = None
) -> Tensor:
    """Ascending indices of up to `per_class` random clouds of each class, of all that occur by default.

    With weights, the next cloud of a class is always drawn with a probability in proportion to its weight among those
    that are left: the largest of log w + Gumbel noise (Kool et al., "Stochastic beams and where to find them", ICML
    2019). Clouds of weight zero are left out, even where a class has fewer others.
    """
    weights, chosen = weights_of(real), []
    for label in real.labels.unique().tolist() if classes is None else classes:
        own = (real.labels == label).nonzero()[:, 0]
        if weights is None or bool((weights[own] == weights[own[:1]]).all()):
            order = torch.randperm(len(own), generator=generator)
        else:
            own = own[weights[own] > 0]
            uniforms = torch.rand(len(own), generator=generator, dtype=torch.float64)
            order = (weights[own].log() - (-uniforms.log()).log()).argsort(descending=True)
        chosen.append(own[order[:per_class]])
    return torch.cat(chosen).sort().values


def random_clouds(
    real: CloudSource, classes: Iterable[int], per_class: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Points and labels of up to `per_class` random real clouds of each class, by their weights if they have any."""
    index = _places(real, per_class, generator, classes)
    return real.batch(index), real.labels[index]


def _sample(real: CloudSource, per_class: int, config: BankConfig, generator: torch.Generator) -> PointClouds:
    index = _places(uniform(real), per_class, generator)
    index = index[torch.randperm(len(index), generator=generator)]
    order = index.argsort()
    points = torch.empty(len(index), min(config.points, real.points_per_cloud), 3)
    points[order] = real.batch(index[order])[:, : config.points]
    return PointClouds(points, real.labels[index], real.class_names)


class _Kept:
    """Values of up to `samples` clouds of each class.

    One block from the start: many small ones would keep the heap from shrinking between batches.
    """

    def __init__(self, classes: int, samples: int, *shape: int) -> None:
        self.block = torch.zeros(classes, samples, *shape)
        self.counts = [0] * classes

    def add(self, values: Tensor, labels: Tensor) -> None:
        for value, label in zip(values, labels.tolist(), strict=True):
            self.block[label, self.counts[label]] = value
            self.counts[label] += 1

    def cycled(self) -> Tensor:
        """As many of every class as of the largest: a small one repeats its clouds."""
        most = torch.arange(max(self.counts))
        places = torch.stack([most % max(count, 1) for count in self.counts])
        return self.block[torch.arange(len(self.counts))[:, None], places]


class _Gathering:
    """Running class sums of one network's statistics; single clouds' at the indices `pooled` and `mapped`."""

    def __init__(self, network: Network, config: BankConfig, classes: int, pooled: Tensor, mapped: Tensor) -> None:
        self.network = network
        self.config = config
        self.classes = classes
        self.pooled_places = pooled
        self.mapped_places = mapped
        self.counts = torch.zeros(classes)
        self.profiles: list[Tensor] = []
        self.squares: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.pooled_sum = torch.zeros(())
        self.pooled = _Kept(classes, 0)
        self.maps = _Kept(classes, 0, 0, 0)

    def _allocate(self, features: list[Tensor], pooled: Tensor) -> None:
        config, classes = self.config, self.classes
        sizes = [layer.shape[-1] for layer in features]
        self.profiles = [torch.zeros(classes, size, config.quantiles) for size in sizes]
        self.squares = [torch.zeros(size) for size in sizes]
        self.attention = [torch.zeros(classes, config.quantiles) for _ in sizes if config.attention]
        self.pooled_sum = torch.zeros(classes, pooled.shape[-1])
        self.pooled = _Kept(classes, config.pooled_samples, pooled.shape[-1])
        if config.map_samples:
            self.maps = _Kept(classes, config.map_samples, sizes[-1], config.quantiles)

    @torch.no_grad()
    def add(self, points: Tensor, labels: Tensor, index: Tensor, shares: Tensor | None = None) -> None:
        """Clouds `(B, P, 3)` at places `index`; of class means, each has the share `(B,)`, or the same."""
        share = torch.ones(len(points)) if shares is None else shares
        quantiles, power = self.config.quantiles, self.config.attention
        features = self.network.point_features(points[:, : self.config.points]) if quantiles else []
        pooled = self.network(points).global_feature
        if self.pooled_sum.ndim == 0:
            self._allocate(features, pooled)
        profiles = torch.zeros(0)
        for total, squares, layer in zip(self.profiles, self.squares, features, strict=True):
            profiles = profiles_fast(layer, quantiles)
            total.index_add_(0, labels, profiles * share[:, None, None])
            squares += (layer.square().mean(1) * share[:, None]).sum(0)
        for total, layer in zip(self.attention, features if power else [], strict=True):
            total.index_add_(0, labels, quantile_profile(attention_maps(layer, power), quantiles) * share[:, None])
        self.pooled_sum.index_add_(0, labels, pooled * share[:, None])
        self.counts += torch.bincount(labels, share, self.classes)
        keep = torch.isin(index, self.pooled_places)
        self.pooled.add(pooled[keep], labels[keep])
        if self.config.map_samples:
            keep = torch.isin(index, self.mapped_places)
            self.maps.add(profiles[keep], labels[keep])  # the last layer's

    def member(self) -> Member:
        total = self.counts.sum()
        means = [profile.mean(2).sum(0) / total for profile in self.profiles]
        return Member(
            self.network,
            [profile / self.counts[:, None, None] for profile in self.profiles],
            [squares / total - mean.square() for squares, mean in zip(self.squares, means, strict=True)],
            self.pooled_sum / self.counts[:, None],
            self.pooled.cycled(),
            self.maps.cycled(),
            [attention / self.counts[:, None] for attention in self.attention],
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

    NumPy's values-only sort is vectorised (AVX-512, AVX2, NEON) and lets go of the interpreter lock.
    """
    rows = features.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # is sorted in place
    parts: Sequence[Tensor] = rows.view(-1, rows.shape[-1]).chunk(max(1, torch.get_num_threads()))
    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(lambda part: part.numpy().sort(axis=-1), parts))
    return rows if rows.shape[-1] == quantiles else rows @ _shares(rows.shape[-1], quantiles).to(rows)


def _to_tensors(members: list[Member]) -> dict[str, Tensor]:
    tensors = {}
    for k, member in enumerate(members):
        for name, value in member.network.state_dict().items():
            tensors[f"{k}/network/{name}"] = value
        for layer, (profile, spread) in enumerate(zip(member.profiles, member.spreads, strict=True)):
            tensors[f"{k}/profiles/{layer}"] = profile
            tensors[f"{k}/spreads/{layer}"] = spread
        tensors[f"{k}/pooled_mean"] = member.pooled_mean
        tensors[f"{k}/pooled"] = member.pooled
        tensors[f"{k}/maps"] = member.maps
        for layer, attention in enumerate(member.attention):
            tensors[f"{k}/attention/{layer}"] = attention
    return {name: value.contiguous() for name, value in tensors.items()}


def _from_tensors(tensors: dict[str, Tensor], config: BankConfig, classes: int) -> list[Member]:
    members = []
    for k in range(config.networks):
        network = build(architecture(config.network, k), classes, 0)
        own = f"{k}/network/"
        network.load_state_dict({name[len(own) :]: value for name, value in tensors.items() if name.startswith(own)})
        layers = sum(name.startswith(f"{k}/profiles/") for name in tensors)
        attentive = layers if config.attention else 0
        members.append(
            Member(
                network.eval().requires_grad_(False),
                [tensors[f"{k}/profiles/{layer}"] for layer in range(layers)],
                [tensors[f"{k}/spreads/{layer}"] for layer in range(layers)],
                tensors[f"{k}/pooled_mean"],
                tensors[f"{k}/pooled"],
                tensors[f"{k}/maps"],
                [tensors[f"{k}/attention/{layer}"] for layer in range(attentive)],
            )
        )
    return members

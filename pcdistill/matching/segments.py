"""The bank of sets whose points have parts: networks that label points, and what real points look like to them.

What classes are to objectives that name objects, *units* are here: a part of a class, as a leg of chairs is another
thing than a leg of beds. Every unit counts the same, however many points it has.
"""

from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, device_of
from pcdistill.clouds.source import in_memory
from pcdistill.core.cache import Tensors, cached, is_cached
from pcdistill.core.progress import progress
from pcdistill.matching.draws import _places, checked_real
from pcdistill.matching.gathering import BankConfig
from pcdistill.matching.surrogates import architecture, frozen_network
from pcdistill.models import Segmenter, build

FORMAT = 1  # raise when what is computed changes, so that old caches are not read
BATCH = 32
SAMPLES = 64  # real points of a unit that are kept


class PartMember(NamedTuple):
    """One network and its view of the real points of U units."""

    network: Segmenter  # in evaluation mode, without gradients of its own
    units: Tensor  # (U, 2): class and part
    samples: Tensor  # (U, S, F): features of real points of each unit
    means: Tensor  # (U, F): of all real points of it that were passed

    def unit_of(self, classes: Tensor, parts: Tensor) -> Tensor:
        """The unit `(B, N)` of points with parts `(B, N)`, of clouds of classes `(B,)`."""
        keys = self.units[:, 0] * (int(self.units[:, 1].max()) + 1) + self.units[:, 1]
        sought: Tensor = classes[:, None] * (int(self.units[:, 1].max()) + 1) + parts.to(classes.device)
        return torch.searchsorted(keys, sought.to(keys.device))

    def features(self, points: Tensor, classes: Tensor) -> Tensor:
        """Last features `(B, N, F)` of points, which the network labels by."""
        return self.network.point_features(points, self.network.told(classes))[0]


class PartBank(NamedTuple):
    """Segmenters with features of real points."""

    members: list[PartMember]
    seconds: float  # that it took to build, once

    @classmethod
    def of(cls, real: CloudSource, config: BankConfig) -> "PartBank":
        """The bank of a real set with parts: read from the cache, or built and cached.

        Networks and clouds are as many as in `Bank`; of real clouds those are passed that its kernels would see.

        Raises:
            InputError: as `Bank.of`.
        """
        checked_real(real)
        whole = cast(PointClouds, in_memory(real))  # what has parts is in memory

        def from_tensors(tensors: Tensors) -> list[PartMember]:
            there = {name: value.to(device_of(real)) for name, value in tensors.items()}
            return [_from_tensors(there, config, k, whole) for k in range(config.networks)]

        return cls(*cached("part_banks", _facts(real, config), lambda: _built(real, whole, config), from_tensors))

    @staticmethod
    def is_cached(real: CloudSource, config: BankConfig) -> bool:
        """Whether `of` would read and not build."""
        return is_cached("part_banks", _facts(real, config))


def _facts(real: CloudSource, config: BankConfig) -> str:
    """All that a bank depends on."""
    return f"{FORMAT} {SAMPLES} {config.model_dump_json()} {real.fingerprint()}"


def _built(real: CloudSource, whole: PointClouds, config: BankConfig) -> Tensors:
    generator = torch.Generator().manual_seed(config.seed)
    trained = _places(whole, config.trained_clouds, generator)
    sample = whole[trained[torch.randperm(len(trained), generator=generator)]].at_points(slice(config.points))
    seen = whole[_places(real, config.pooled_samples, generator)].at_points(slice(config.pooled_points))
    low, high = config.trained_steps
    steps = np.linspace(low, high, config.networks).round().astype(int).tolist()
    tensors: Tensors = {}
    with progress("preparing networks", config.networks) as report:
        for k, count in enumerate(steps):
            seed = config.seed * 1000 + k
            network = cast(
                Segmenter, frozen_network(architecture(config.network, k), sample, count, seed, config.augmentation)
            )
            member = _seen(network, seen, generator)
            tensors |= {f"{k}/network/{name}": value for name, value in network.state_dict().items()}
            tensors |= {f"{k}/{name}": getattr(member, name) for name in ("units", "samples", "means")}
            report(k + 1, "")
    return tensors


@torch.no_grad()
def _seen(network: Segmenter, clouds: PointClouds, generator: torch.Generator) -> PartMember:
    """Units of a set, and what a network makes of their points."""
    assert clouds.parts is not None
    classes = clouds.hard_labels
    pairs = torch.stack([classes[:, None].expand_as(clouds.parts), clouds.parts], 2).flatten(0, 1)
    units, unit = pairs.unique(dim=0, return_inverse=True)
    told_all = network.told(classes)
    features = torch.cat([
        network.point_features(points, own)[0].flatten(0, 1)
        for points, own in zip(clouds.points.split(BATCH), told_all.split(BATCH), strict=True)
    ])  # fmt: skip
    samples, means = [], []
    for number in range(len(units)):
        own = (unit == number).nonzero()[:, 0]
        order = torch.randperm(len(own), generator=generator)
        samples.append(features[own[order[torch.arange(SAMPLES) % len(own)]]])  # of fewer, repeats
        means.append(features[own].mean(0))
    return PartMember(network, units, torch.stack(samples), torch.stack(means))


def _from_tensors(tensors: Tensors, config: BankConfig, k: int, real: PointClouds) -> PartMember:
    assert real.part_names is not None
    network = build(architecture(config.network, k), real.num_classes, 0, len(real.part_names))
    own = f"{k}/network/"
    network.load_state_dict({name[len(own) :]: value for name, value in tensors.items() if name.startswith(own)})
    network.to(tensors[f"{k}/means"].device)
    frozen = cast(Segmenter, network.eval().requires_grad_(False))
    return PartMember(frozen, *(tensors[f"{k}/{name}"] for name in ("units", "samples", "means")))

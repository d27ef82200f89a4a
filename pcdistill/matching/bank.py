"""The network bank: surrogate networks and what the whole real set looks like to them.

Published distribution matching draws a network and a handful of real clouds at every step. The real side
is always the same set, so the bank passes it once through a fixed number of networks and keeps class
statistics; a step of the outer loop then touches synthetic clouds only. Memory during the pass depends on
the number of networks, classes and features, not on the size of the real set. The pass may be shared (`shards`).
"""

from typing import NamedTuple

import numpy as np
import torch

from pcdistill.clouds import CloudSource, PointClouds, device_of, uniform
from pcdistill.core.cache import Tensors, cached, is_cached
from pcdistill.core.engine import ALONE, Team
from pcdistill.core.progress import progress
from pcdistill.matching.draws import _places, _shares_of, checked_real
from pcdistill.matching.gathering import BankRequest, Member
from pcdistill.matching.shards import Pass, gathered
from pcdistill.matching.surrogates import architecture, frozen_network, own_facts
from pcdistill.models import build

FORMAT = 2  # raise when what is computed changes, so that old caches are not read


class Bank(NamedTuple):
    """Surrogate networks with real class statistics."""

    members: list[Member]
    seconds: float  # that it took to build, once

    @classmethod
    def of(cls, real: CloudSource, config: BankRequest, team: Team = ALONE) -> "Bank":
        """The bank of a real set: read from the cache, or built in one pass and cached.

        Args:
            real: the set.
            config: which networks, and what is kept of what they see.
            team: who shares the pass; the bank is the same.

        Raises:
            InputError: soft labels, fewer than two clouds, or a class without clouds; workers that are lost
                (`shards.gathered`).
        """
        checked_real(real)

        def from_tensors(tensors: Tensors) -> list[Member]:
            there = {name: value.to(device_of(real)) for name, value in tensors.items()}
            return _from_tensors(there, config, len(real.class_names), device_of(real))

        return cls(
            *cached("banks", _facts(real, config), lambda: _to_tensors(_build(real, config, team)), from_tensors)
        )

    @staticmethod
    def is_cached(real: CloudSource, config: BankRequest) -> bool:
        """Whether `of` would read and not build."""
        return is_cached("banks", _facts(real, config))


def _facts(real: CloudSource, config: BankRequest) -> str:
    """All that a bank depends on."""
    return f"{FORMAT} {config.facts()} {real.fingerprint()}{own_facts(config.network, real)}"


def _build(real: CloudSource, config: BankRequest, team: Team = ALONE) -> list[Member]:
    generator = torch.Generator().manual_seed(config.seed)
    sample = _sample(real, config.trained_clouds, config, generator)
    low, high = config.trained_steps
    steps = np.linspace(low, high, config.networks).round().astype(int).tolist()
    networks = []
    with progress("preparing networks", config.networks) as report:
        for k, count in enumerate(steps):
            name, seed = architecture(config.network, k), config.seed * 1000 + k
            networks.append(frozen_network(name, sample, count, seed, config.augmentation))
            report(k + 1, "")
    kept = _places(real, config.pooled_samples, generator)
    mapped = [_places(real, config.map_samples, generator) for _ in networks]
    # Clouds that were drawn by their weights must not be weighted again.
    whole = config.quantiles or config.moments
    passed, shares = (torch.arange(len(real.labels)), _shares_of(real)) if whole else (kept, None)
    work = Pass(
        real=real, networks=networks, config=config, passed=passed, shares=shares, pooled=kept, mapped=mapped,
        facts=_facts(real, config),
    )  # fmt: skip
    return [found.member() for found in gathered(work, team)]


def _sample(real: CloudSource, per_class: int, config: BankRequest, generator: torch.Generator) -> PointClouds:
    index = _places(uniform(real), per_class, generator)
    index = index[torch.randperm(len(index), generator=generator)]
    order = index.argsort()
    points = real.batch(index[order])[order.argsort(), : config.points]
    return PointClouds(points, real.labels[index], real.class_names)


def _to_tensors(members: list[Member]) -> Tensors:
    tensors: Tensors = {}
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
        if member.covariance.numel():
            tensors[f"{k}/covariance"] = member.covariance
    return tensors


def _from_tensors(tensors: Tensors, config: BankRequest, classes: int, device: torch.device) -> list[Member]:
    members = []
    for k in range(config.networks):
        network = build(architecture(config.network, k), classes, 0).to(device)
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
                tensors[f"{k}/covariance"] if config.moments else torch.zeros(0, 0),
            )
        )
    return members

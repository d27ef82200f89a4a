"""The one pass over the real set, in shards.

A shard is a run of clouds. What networks see in it is summed up on its own, kept in the cache until all are done, and
added to the others' in order: whoever has passed them, in one process or on many machines, the sums are the same. A
pass that was stopped goes on after the shards that are there.
"""

import copy
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, device_of
from pcdistill.core.cache import Tensors, cached, is_cached, place
from pcdistill.core.engine import Job, Lost, Team, carried_out
from pcdistill.core.errors import InputError
from pcdistill.core.log import LOG
from pcdistill.core.progress import Report, progress
from pcdistill.matching.gathering import BankRequest, _Gathering
from pcdistill.models import Network

BATCH = 32
SHARD = 16_384  # clouds at most; of a smaller set the pass is one shard
TRIES = 3  # of a shard whose worker was lost
PATIENCE = 60.0  # seconds until a file of another machine is seen in a shared folder


@dataclass(frozen=True, eq=False, kw_only=True)
class Pass:
    """A pass of real clouds through networks.

    Attributes:
        real: the set.
        networks: frozen, where the set's points are.
        config: what is gathered.
        passed: `(M,)` ascending places of the clouds that are passed.
        shares: `(N,)` float32 of all clouds, as `_Gathering.add` takes them; None: the same.
        pooled: places of clouds that are kept one by one.
        mapped: the same of maps, for each network.
        facts: all that the result depends on.
        most: clouds of a shard.
    """

    real: CloudSource
    networks: Sequence[Network]
    config: BankRequest
    passed: Tensor
    shares: Tensor | None
    pooled: Tensor
    mapped: Sequence[Tensor]
    facts: str
    most: int = field(default_factory=lambda: SHARD)

    def shards(self) -> tuple[Tensor, ...]:
        """The places of each, but for the last equally many."""
        count = -(-len(self.passed) // self.most)
        each = -(-len(self.passed) // count)
        shards: tuple[Tensor, ...] = self.passed.split(-(-each // BATCH) * BATCH)  # whole batches
        return shards

    def begun(self) -> list[_Gathering]:
        """Of each network, without a cloud."""
        sizes = torch.bincount(self.real.labels, minlength=len(self.real.class_names))
        pairs = zip(self.networks, self.mapped, strict=True)
        return [_Gathering(network, self.config, sizes, self.pooled, mapped) for network, mapped in pairs]

    def gathered(self, places: Tensor, report: Report | None = None) -> list[_Gathering]:
        """What the networks see in the clouds at some places."""
        gathering, labels, done = self.begun(), self.real.labels, 0
        for index in places.split(BATCH):
            points = self.real.batch(index)[:, : self.config.pooled_points]
            for gathered in gathering:
                gathered.add(points, labels[index], index, None if self.shares is None else self.shares[index])
            done += len(index)
            if report is not None:
                report(done, "")
        return gathering

    def name(self, shard: int) -> str:
        """What a shard is kept by."""
        return f"{self.facts} shard {shard} of {len(self.shards())}"

    def sums(self, shard: int, report: Report | None = None) -> list[Tensors]:
        """Those of a shard, of each network: from the cache, or passed now and kept there."""

        def passed() -> Tensors:
            each = enumerate(self.gathered(self.shards()[shard], report))
            return {f"{k}/{name}": value for k, one in each for name, value in one.sums().items()}

        return cached("shards", self.name(shard), passed, partial(_by_network, networks=len(self.networks)))[0]


def gathered(work: Pass, team: Team) -> list[_Gathering]:
    """What networks see in the whole pass, shared out among a team.

    Raises:
        InputError: a shard whose worker was lost `TRIES` times, or that fails otherwise; a cache that workers and this
            process do not share.
        OSError: as `carried_out`.
    """
    shards = work.shards()
    with progress("passing the real set", len(work.passed)) as report:
        if len(shards) == 1:
            return work.gathered(shards[0], report)
        if not team.alone(str(device_of(work.real))):
            _share_out(work, team, report)
        whole, device, done = work.begun(), device_of(work.real), 0
        for shard, places in enumerate(shards):
            for one, sums in zip(whole, work.sums(shard, _later(report, done)), strict=True):
                one.join(sums, device)
            done += len(places)
            report(done, "")
    for shard in range(len(shards)):
        with suppress(OSError):  # a cache that cannot be written has none
            place("shards", work.name(shard)).unlink()
    return whole


def _share_out(work: Pass, team: Team, report: Report) -> None:
    """Have all shards in the cache that are not there yet; those of lost workers are read again."""
    device = device_of(work.real)
    # A network on an accelerator cannot travel; a worker takes it to its own.
    sent = replace(work, networks=[copy.deepcopy(network).cpu() for network in work.networks])
    sizes = [len(places) for places in work.shards()]
    total, patience = len(sizes), PATIENCE if team.engine == "ray" else 0.0
    for left in reversed(range(TRIES)):
        missing = [shard for shard in range(total) if not is_cached("shards", work.name(shard))]
        if not missing:
            return
        done = len(work.passed) - sum(sizes[shard] for shard in missing)
        report(done, "")
        jobs = [Job(f"{shard}", _work, (sent, shard)) for shard in missing]
        with closing(carried_out(jobs, team.engine, team.workers, str(device))) as ends:
            for job, reason in ends:
                shard = int(job.name)
                if reason is None and not _appeared(work.name(shard), patience):
                    reason = "done, but not in the cache here: PCDISTILL_CACHE has to be a folder of all workers"
                if reason is None:
                    done += sizes[shard]
                    report(done, f"shard {shard + 1} of {total}")
                elif not isinstance(reason, Lost):
                    raise InputError("real set", f"shard {shard + 1} of {total}: {reason}")
                elif left == 0:
                    raise InputError(
                        "real set", f"shard {shard + 1} of {total}: lost {TRIES} times, {reason}",
                        "memory for every worker (fewer --workers)",
                    )  # fmt: skip
                else:
                    LOG.warning("shard %d of %d is read again: %s", shard + 1, total, reason)


def _appeared(name: str, patience: float) -> bool:
    """Whether a shard that is done is in the cache; what another machine has written may be seen here later."""
    until = time.monotonic() + patience
    while not is_cached("shards", name) and time.monotonic() < until:
        time.sleep(0.5)
    return is_cached("shards", name)


def _work(sent: Pass, shard: int) -> None:
    """What a worker does: leave the sums of a shard in the cache."""
    device = device_of(sent.real)
    replace(sent, networks=[network.to(device) for network in sent.networks]).sums(shard)


def _by_network(tensors: Tensors, networks: int) -> list[Tensors]:
    """Tensors `K/NAME` by K.

    Raises:
        KeyError: a network without any.
    """
    found: dict[int, Tensors] = {k: {} for k in range(networks)}
    for name, value in tensors.items():
        k, _, own = name.partition("/")
        found[int(k)][own] = value
    return [found[k] for k in range(networks)]


def _later(report: Report, done: int) -> Report:
    """What counts a shard's clouds after those before it."""
    return lambda step, note: report(done + step, note)

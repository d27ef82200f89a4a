"""The one outer loop: change what a storage has learned until the objective likes the clouds it decodes."""

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, placed
from pcdistill.core.errors import Diverged, InputError
from pcdistill.core.files import atomic, check_writable
from pcdistill.core.options import Options
from pcdistill.core.sealed import KEY, sealed, unsealed
from pcdistill.core.signals import interrupts_held
from pcdistill.matching import Objective
from pcdistill.matching.draws import step_generator
from pcdistill.storage import Storage

SAVE_EVERY = 120  # seconds, of the checkpoint
JUDGING = 16  # draws under which a run is judged that seems to have made nothing better


class Follower:
    """Is told how a run goes: a log, a page, a progress bar. What the run makes does not depend on it."""

    def begin(self, storage: Storage, steps: int) -> None:
        """The run is about to begin, or to go on, with the first guess in `storage`; it will take `steps` steps."""

    def prepared(self, kept: bool) -> None:
        """What the objective needs of the real set is there: `kept` from an earlier run, or made just now."""

    def step(self, step: int, loss: float) -> None:
        """Step number `step`, from 1, is done; that of a resumed run goes on counting."""

    def snapshot(self, step: int, points: Tensor) -> None:
        """Decoded clouds after a step, `(N, P, 3)` in the order in which they are learned, are kept (`snapshots`)."""

    def judged(self, before: float, after: float) -> None:
        """The loss of the first guess and of the result, under the same draws; not of a run without steps."""

    def end(self, finished: bool) -> None:
        """The run is over: finished, with the result in the storage, or stopped on the way. Called in any case."""


class DistillSettings(Options):
    """How the outer loop runs.

    Attributes:
        steps: of the optimiser (Adam, with a learning rate that falls to zero as a cosine).
        lr: of coordinates, in units of the unit sphere's radius; `pace` of storage and objective says of the rest.
        batch: clouds per step. Where the objective compares classes, whole classes are drawn until it is full
            (of a class with more clouds than that a random subset); else equally many clouds of every class,
            one at least.
        ema: decay per step of the averaged storage that is the result (FTD, Du et al. 2023; at step s at most
            s / (9 + s)); 0 gives the last one.
        rate: weight in the loss of a bit per point, as `Storage.rate` expects it; 0 leaves size out of account.
        freeze: share of every class that does not change: the first clouds (`frozen`).
        snapshots: decoded clouds are kept this many times, evenly spread, besides start and end.
        seed: of the draws.
    """

    later: ClassVar[tuple[str, ...]] = ("freeze",)

    steps: int = Field(ge=0)
    lr: float = Field(gt=0)
    batch: int = Field(default=64, ge=1)
    ema: float = Field(default=0.0, ge=0, lt=1)
    rate: float = Field(default=0.0, ge=0)
    freeze: float = Field(default=0.0, ge=0, lt=1)
    snapshots: int = Field(default=0, ge=0)
    seed: int = 0


@dataclass
class Distilled:
    """What `distill` did; the clouds are in the storage that was given to it."""

    losses: list[float]
    seconds: float  # in the loop, over all resumed parts
    prepare_seconds: float  # for what needs the real data, when it was first computed
    snapshots: list[Tensor] = field(default_factory=list)  # decoded points, from first to last, in one order


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run; `str()` says where it stopped and where it was saved."""


def distill(
    real: CloudSource,
    storage: Storage,
    objective: Objective,
    settings: DistillSettings,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    followers: Sequence[Follower] = (),
    device: str = "cpu",
) -> Distilled:
    """Change `storage` in place so that `objective` falls.

    Args:
        real: the set to condense.
        storage: holds the first guess when called and the distilled clouds afterwards.
        objective: is prepared on `real` here.
        settings: how.
        checkpoint: file that the state is written to on Ctrl-C, every two minutes and at the end; whoever has
            put the result into safety removes it.
        resume: go on from `checkpoint` if it exists; the result has the same bits as an uninterrupted run's.
        followers: are told of the begin, of every step, and of the end.
        device: where the real set, networks and what is learned are meanwhile; a checkpoint may have been written on
            another one.

    Raises:
        InputError: the checkpoint is damaged or of another run.
        Diverged: the loss is no longer finite; the last good state is then in the storage, and in the checkpoint if
            one was asked for.
        OSError: the checkpoint cannot be written; found out before the work starts.
        Interrupted: Ctrl-C, after the state was saved.
    """
    if checkpoint is not None:
        check_writable(checkpoint)
    identity = _identity(real, storage, objective, settings)
    saved_run = _read(Path(checkpoint), identity) if resume and checkpoint and Path(checkpoint).exists() else None
    with _following(followers, storage, settings.steps), _moved(storage, device):
        start = time.perf_counter()
        objective.prepare(placed(real, device))
        took = time.perf_counter() - start
        for follower in followers:
            follower.prepared(took < objective.seconds)  # which are those of its making, whenever that was
        run = _Run(storage, objective, settings, identity, followers)
        if saved_run is not None:
            _restore(run, *saved_run, Path(str(checkpoint)))
        try:
            saved = time.monotonic()
            while run.step < settings.steps:
                loss = run.advance()
                for follower in followers:
                    follower.step(run.step, loss)
                if checkpoint is not None and time.monotonic() - saved > SAVE_EVERY:
                    run.save(Path(checkpoint))
                    saved = time.monotonic()
        except (KeyboardInterrupt, InputError, OSError) as stop:
            if checkpoint is not None:
                run.save(Path(checkpoint))
            if not isinstance(stop, KeyboardInterrupt):
                raise
            where = f"; saved to {checkpoint}" if checkpoint is not None else ""
            raise Interrupted(f"stopped after step {run.step} of {settings.steps}{where}") from None
        run.settle()
        run.snapshot()
        if checkpoint is not None:
            run.save(Path(checkpoint))
        if run.losses:
            try:
                before, after = run.judged()
            except KeyboardInterrupt:
                raise Interrupted("stopped when the result was compared with the first guess") from None
            for follower in followers:
                follower.judged(before, after)
    return Distilled(
        run.losses, run.seconds, objective.seconds, [run.snapshots[step] for step in sorted(run.snapshots)]
    )


@contextmanager
def _following(followers: Sequence[Follower], storage: Storage, steps: int) -> Iterator[None]:
    """Begin and end of a run, told to all followers; the end also to those before one that cannot begin."""
    begun: list[Follower] = []
    finished = False
    try:
        for follower in followers:
            follower.begin(storage, steps)
            begun.append(follower)
        yield
        finished = True
    finally:
        for follower in reversed(begun):
            follower.end(finished)


@contextmanager
def _moved(storage: Storage, device: str) -> Iterator[None]:
    """What a storage has learned, on a device, and back on the processor."""
    storage.to(device)
    try:
        yield
    finally:
        storage.to("cpu")


def frozen(labels: Tensor, share: float) -> Tensor:
    """`(N,)` bool: which clouds of ascending `labels` stay as they are, the first of every class, and never all."""
    counts = torch.bincount(labels)
    rank = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels]
    return rank < (share * counts + 1e-9).long()[labels]


def learned_points(storage: Storage) -> Tensor:
    """Decoded points in the order in which they are learned: point j of a cloud is the same one at every step."""
    with torch.enable_grad():  # without, storages may decode in the order of a file
        return storage.decode().points.detach().cpu().clone()


class _Run:
    """The state of one run: everything that a checkpoint holds."""

    def __init__(
        self,
        storage: Storage,
        objective: Objective,
        settings: DistillSettings,
        identity: str,
        followers: Sequence[Follower] = (),
    ) -> None:
        self.storage = storage
        self.objective = objective
        self.settings = settings
        self.identity = identity
        self.followers = followers
        self.step = 0
        self.losses: list[float] = []
        self.seconds = 0.0
        own = {f"objective/{name}": value for name, value in objective.learned().items()}
        self.learned = storage.learned() | own
        self.frozen = frozen(storage.labels, settings.freeze)
        self.shown = torch.arange(len(storage))  # clouds that a step may show to the objective
        if self.frozen.any():
            with torch.no_grad():
                held = objective.hold(storage.decode(self.frozen.nonzero()[:, 0]))
            self.shown = self.shown[~self.frozen] if held else self.shown
        self.pace = {**storage.pace, **{f"objective/{name}": value for name, value in objective.pace.items()}}
        self.first = {name: value.detach().clone() for name, value in self.learned.items()}
        self.averaged = {name: value.detach().clone() for name, value in storage.learned().items() if settings.ema}
        self.moments = {name: value.new_zeros(2, *value.shape) for name, value in self.learned.items()}
        self.snapshots: dict[int, Tensor] = {}  # by step: an interrupted step takes its own again
        count = min(settings.snapshots, 2 * settings.steps + 1)  # so many and more are all steps
        self.snapshot_steps = {round(settings.steps * i / (count + 1)) for i in range(count + 1)} if count else set()

    def advance(self) -> float:
        start = time.perf_counter()
        if self.step in self.snapshot_steps:
            self.snapshot()
        loss, place = self.loss(self.step), f"distilling, step {self.step + 1}"
        gradients = torch.autograd.grad(loss, list(self.learned.values()), materialize_grads=True)
        finite = [gradient.isfinite().all().to(loss) for gradient in gradients]
        numbers: list[float] = torch.stack([loss.detach(), *finite]).tolist()  # at once: it is to wait for a device
        value = numbers[0]
        if not math.isfinite(value):
            raise Diverged(place, f"loss {value}", "a finite one (lower --lr)")
        if not all(numbers[1:]):
            raise Diverged(place, "a gradient that is not finite", "a finite one (lower --lr)")
        with interrupts_held():
            for (name, parameter), gradient in zip(self.learned.items(), gradients, strict=True):
                self._adam(parameter, gradient, self.moments[name], self.pace.get(name, 1.0))
            self._average()
            self.step += 1
            self.losses.append(value)
            self.seconds += time.perf_counter() - start
        return value

    def loss(self, step: int) -> Tensor:
        """Of the clouds as they are, under the draws of a step; what objectives carry along is none at step 0."""
        index = self._clouds(self.objective.minibatch, step)
        decoded = self.storage.decode(index)
        if self.frozen.any():
            decoded = _without_gradient(decoded, self.frozen if index is None else self.frozen[index])
        loss = self.objective.loss(decoded, step)
        return loss + self.settings.rate * self.storage.rate(decoded) if self.settings.rate else loss

    def judged(self) -> tuple[float, float]:
        """The loss of the first guess and of the result, under the same draws.

        They are those of step 0, whose loss is known; where it has not fallen, the mean over some seeds decides.
        """
        before, after = self.losses[0], self.loss(0).item()
        if after < before:
            return before, after
        result = {name: value.detach().clone() for name, value in self.learned.items()}
        after = self._mean_loss()
        self._set(self.first)
        try:
            before = self._mean_loss()
        finally:
            self._set(result)
        return before, after

    def _mean_loss(self) -> float:
        """Over draws of step 0 by several seeds: those of later steps may depend on what objectives carry along."""
        own, total = self.objective.seed, 0.0
        try:
            for self.objective.seed in range(own, own + JUDGING):
                total += self.loss(0).item()
        finally:
            self.objective.seed = own
        return total / JUDGING

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.learned[name].copy_(value)

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, mean in self.averaged.items():
            mean.lerp_(self.learned[name], 1 - decay)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the averaged values, if there are any, into the storage."""
        self._set(self.averaged)

    def snapshot(self) -> None:
        if not self.settings.snapshots:
            return
        self.snapshots[self.step] = learned_points(self.storage)
        for follower in self.followers:
            follower.snapshot(self.step, self.snapshots[self.step])

    def _clouds(self, kind: str, step: int) -> Tensor | None:
        """Ascending indices of the clouds of a step; None for all."""
        batch, classes = self.settings.batch, len(self.storage.class_names)
        if len(self.shown) <= batch:
            return None if len(self.shown) == len(self.storage) else self.shown
        generator = step_generator("clouds", self.settings.seed, step)
        most = batch if kind == "classes" else max(1, batch // classes)
        chosen: list[Tensor] = []
        for label in torch.randperm(classes, generator=generator):
            own = self.shown[self.storage.labels[self.shown] == label]
            chosen.append(own[torch.randperm(len(own), generator=generator)[:most]])
            if kind == "classes" and sum(map(len, chosen)) + len(own) > batch:
                break
        return torch.cat(chosen).sort().values

    @torch.no_grad()
    def _adam(self, parameter: Tensor, gradient: Tensor, moments: Tensor, pace: float) -> None:
        """Adam (Kingma & Ba 2015) that leaves elements alone that this step did not touch.

        Clouds outside the minibatch have zero gradient; moving them on old momentum would be noise. The
        correction for the first steps uses beta2 = 0.99 as few steps touch each cloud.
        """
        touched = gradient.flatten(1).any(1)
        here = gradient.device.type == "cpu"
        rows = touched if here else slice(None)  # to pick rows out is to wait for a device
        first, second = moments[0], moments[1]
        m = first[rows].lerp(gradient[rows], 0.1)
        v = second[rows].lerp(gradient[rows].square(), 0.01)
        count = self.step + 1
        lr = pace * self.settings.lr * (0.5 + 0.5 * math.cos(math.pi * self.step / self.settings.steps))
        change = lr * ((m / (1 - 0.9**count)) / ((v / (1 - 0.99**count)).sqrt() + 1e-12))
        if not here:
            own = touched.view(-1, *[1] * (gradient.ndim - 1))
            m, v, change = m.where(own, first), v.where(own, second), change.where(own, 0)
        first[rows], second[rows] = m, v
        parameter[rows] -= change

    def _state(self) -> dict[str, Tensor]:
        """What every checkpoint of this run has, in shapes that do not change."""
        tensors = {f"learned/{name}": value.detach() for name, value in self.learned.items()}
        tensors |= {f"moments/{name}": value for name, value in self.moments.items()}
        return tensors | {f"averaged/{name}": value for name, value in self.averaged.items()}

    def save(self, path: Path) -> None:
        tensors = self._state()
        tensors |= {f"state/{name}": value for name, value in self.objective.state().items()}
        tensors |= {f"snapshots/{step}": value for step, value in self.snapshots.items()}
        tensors["losses"] = torch.tensor(self.losses, dtype=torch.float64)
        state = {"identity": self.identity, "step": str(self.step), "seconds": repr(self.seconds)}
        content = sealed(tensors, state)
        with atomic(path) as temporary:
            temporary.write_bytes(content)

    def restore(self, tensors: dict[str, Tensor], state: dict[str, str]) -> None:
        """Go on from what `save` wrote; `KeyError` or `ValueError` where it is not that."""
        for name, wanted in self._state().items():
            if (found := tensors[name]).shape != wanted.shape or found.dtype != wanted.dtype:
                raise ValueError(f"{name} of shape {tuple(found.shape)}, {found.dtype}")
        self.step, self.losses = int(state["step"]), tensors["losses"].flatten().tolist()
        if not 0 <= self.step <= self.settings.steps or len(self.losses) != self.step:
            raise ValueError(f"{len(self.losses)} losses of {self.step} steps")
        for name, value in self.learned.items():
            with torch.no_grad():
                value.copy_(tensors[f"learned/{name}"])
            self.moments[name].copy_(tensors[f"moments/{name}"])
        for name, mean in self.averaged.items():
            mean.copy_(tensors[f"averaged/{name}"])
        self.snapshots = {int(step): value for step, value in _under("snapshots/", tensors).items()}
        self.objective.restore(_under("state/", tensors))
        self.seconds = float(state["seconds"])


def _without_gradient(clouds: PointClouds, frozen: Tensor) -> PointClouds:
    """The same clouds; those that are `frozen (B,)` have no gradient, nor have their labels."""
    points = torch.where(frozen[:, None, None].to(clouds.points.device), clouds.points.detach(), clouds.points)
    labels = clouds.labels
    if labels.ndim == 2:
        labels = torch.where(frozen[:, None].to(labels.device), labels.detach(), labels)
    return PointClouds(points, labels, clouds.class_names, clouds.provenance, clouds.classes)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: Path, identity: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and facts of a checkpoint of the run called `identity`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(path, f"not a readable checkpoint ({error})") from None
    tensors, state = unsealed(content, path, "a readable checkpoint")
    if state.get("identity") != identity:
        raise InputError(path, "checkpoint of a run with other data or settings", "one of the same run")
    # Those of release 0.1 have no digest, and no other key: one that is misspelt is damage.
    if state.keys() - {KEY} != {"identity", "step", "seconds"}:
        raise InputError(path, f"not a readable checkpoint (facts {sorted(state)!s:.200})")
    return tensors, state


def _restore(run: _Run, tensors: dict[str, Tensor], state: dict[str, str], path: Path) -> None:
    """Go on from what was read; `InputError` where it is not what such a run writes."""
    try:
        run.restore(tensors, state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(path, f"not a readable checkpoint ({reason})") from None


def _digest(value: Tensor) -> str:
    return hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()


def _identity(real: CloudSource, storage: Storage, objective: Objective, settings: DistillSettings) -> str:
    facts = [real.fingerprint(), storage.name, storage.layout(), len(storage), objective.name]
    facts += [objective.identity(), settings.model_dump()]
    facts += [hashlib.sha256(array.tobytes()).hexdigest() for array in storage.arrays().values()]  # the first guess
    facts.append({name: _digest(value) for name, value in storage.learned().items()})  # and what of it may change
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

"""The one loop that trains a classifier on clouds; a `Recipe` says how."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from pcdistill.core.environment import memory
from pcdistill.core.errors import InputError
from pcdistill.data.stream import AnyClouds, StreamedClouds
from pcdistill.geometry import normalise
from pcdistill.models import Network, Segmenter, build, seeded
from pcdistill.training.augment import apply, labels_kept
from pcdistill.training.losses import label_losses, part_losses
from pcdistill.training.recipe import Recipe, _bounds
from pcdistill.training.stack import Stack
from pcdistill.training.supervision import Batch, Supervision

OnStep = Callable[[int, float], None]
OnProgress = Callable[[int, str], None]  # steps done, of all networks together, and a word on them
OnLosses = Callable[[int, Mapping[int, float]], None]  # step, from 1, and losses by the seeds of networks


def train(
    network: Network,
    clouds: AnyClouds,
    recipe: Recipe,
    seed: int,
    on_step: OnStep | None = None,
    supervision: Supervision | None = None,
) -> list[float]:
    """Train `network` in place and leave it in evaluation mode.

    Args:
        network: any network whose logits match the classes of `clouds`.
        clouds: `(N, P, 3)`, hard or soft labels; of a set on disk the clouds of a step are read when it comes.
        recipe: how.
        seed: of order, augmentation and dropout.
        on_step: called after each step with its number, from 1, and the loss.
        supervision: by a teacher; without, labels are those of `clouds`.

    Returns:
        The training loss of every step.

    Raises:
        InputError: a single cloud (batch norm needs two), a loss that is not finite, or a teacher of points with parts.
    """
    report = None if on_step is None else lambda step, losses: on_step(step, losses[0])
    return [losses[0] for losses in _fit([network], clouds, recipe, [seed], report, supervision)]


def _fit(
    networks: Sequence[Network],
    clouds: AnyClouds,
    recipe: Recipe,
    seeds: Sequence[int],
    on_step: Callable[[int, list[float]], None] | None,
    supervision: Supervision | None = None,
) -> list[list[float]]:
    """Train networks at once, each as its seed says; the losses of every step. See `train`."""
    if len(clouds) < 2:
        raise InputError("training set", "1 cloud", "at least 2")
    device = next(networks[0].parameters()).device
    read = _reader(clouds, recipe.normalise, device)
    labels, classes = clouds.labels.to(device), clouds.hard_labels.to(device)
    if isinstance(networks[0], Segmenter) != (clouds.parts is not None):
        found = "points without parts" if clouds.parts is None else "points with parts"
        raise InputError("training set", found, "what the network was made for: the other kind")
    if clouds.parts is not None and supervision is not None:
        raise InputError("teacher", "of a set whose points have parts", "none: it is labelled point by point")
    if clouds.parts is not None and recipe.augmentation.partial:
        raise InputError("augmentation", "partial views of points with parts", "partial = 0")
    parts = None if clouds.parts is None else clouds.parts.to(device)
    total = recipe.total_steps(len(clouds))
    drawn = recipe.points if recipe.points is not None and recipe.points < clouds.points_per_cloud else None
    on_batch = None if supervision is None else supervision.begin(seeds)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    batches = [_batches(clouds.hard_labels, recipe, generator) for generator in generators]
    for network in networks:
        network.bf16 = recipe.bf16 and device.type == "cpu"  # whether the processor can says nothing of others
    stack = Stack(networks)
    optimizer = _optimizer(stack.parameters(), recipe)
    averaged = [value.detach().clone() for value in stack.state()] if recipe.ema else []
    history: list[list[float]] = []
    with seeded(seeds[0]):  # networks that are not stacked may draw from the global generator
        for step in range(total):
            index = torch.stack([next(indices) for indices in batches]).to(device)
            flat = index.flatten()
            seen, own = read(flat), None if parts is None else parts[flat]
            if drawn is not None:
                chosen = _some(seen, drawn, generators)
                seen = seen.gather(1, chosen[..., None].expand(-1, -1, 3))
                own = None if own is None else own.gather(1, chosen)
            draw = recipe.augmentation.draw(index.shape[1], seen.shape[1], *generators)
            batch = Batch(apply(seen, draw), labels[flat], classes[flat], step, total)
            if on_batch is not None:
                batch = on_batch(batch, stack.networks)
            seen = batch.points.view(*index.shape, *batch.points.shape[1:])
            if own is None:
                each = label_losses(
                    stack.logits(seen, generators).flatten(0, 1), batch.labels, batch.classes,
                    smoothing=recipe.label_smoothing, soft=recipe.soft_loss, temperature=recipe.temperature,
                    hard=recipe.hard, labelled=batch.labelled,
                )  # fmt: skip
            else:
                logits = stack.logits(seen, generators, told_some(batch.classes, clouds.num_classes))[0]
                each = part_losses(logits, labels_kept(own, draw), recipe.label_smoothing)
            losses = each.view(index.shape).mean(1)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * _lr_factor(recipe.schedule, step, total)
            optimizer.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimizer.step()
            _average(averaged, list(stack.state()) if averaged else [], min(recipe.ema, (1 + step) / (10 + step)))
            history.append(losses.tolist())
            bad = [loss for loss in history[-1] if not math.isfinite(loss)]
            if bad:
                raise InputError(f"training, step {step + 1}", f"loss {bad[0]}", "a finite one (lower the lr)")
            if on_step is not None:
                on_step(step + 1, history[-1])
    for mean, value in zip(averaged, stack.state(), strict=bool(averaged)):
        value.copy_(mean)
    stack.unstack()
    return history


def _reader(clouds: AnyClouds, scaled: bool, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What gives the points `(B, P, 3)` of the clouds at `(B,)` places, on a device; centred and scaled if `scaled`.

    Those of a set in memory are moved there once, all of them.
    """
    if isinstance(clouds, StreamedClouds):
        return lambda index: (normalise(clouds.batch(index)) if scaled else clouds.batch(index)).to(device)
    points = (normalise(clouds.points) if scaled else clouds.points).to(device)
    return lambda index: points[index]


def train_networks(
    name: str,
    clouds: AnyClouds,
    recipe: Recipe,
    seeds: Sequence[int],
    on_progress: OnProgress | None = None,
    device: str = "cpu",
    supervision: Supervision | None = None,
    on_losses: OnLosses | None = None,
) -> list[Network]:
    """Fresh networks, one per seed, trained on the same clouds; in evaluation mode.

    As many as fit into memory are trained at once (`stack_size`, `models.Stack`); where a device has less of it than it
    said, half as many, and so on.

    Args:
        name: registered network.
        clouds: `(N, P, 3)`, hard or soft labels.
        recipe: how.
        seeds: of weights, order, augmentation and dropout.
        on_progress: called along the way.
        device: where the networks, and with them clouds and labels, are kept; random numbers are drawn on the
            processor everywhere, so that they are the same.
        supervision: as in `train`.
        on_losses: called after each step of those that are trained at once; anew where memory fell short.

    Raises:
        InputError: as `train`.
    """
    fresh = [fresh_network(name, clouds, seed).to(device) for seed in seeds]
    total = recipe.total_steps(len(clouds))
    follows = supervision is not None and supervision.follows
    at_once = 1 if follows else stack_size(fresh[0], clouds, recipe, len(seeds))
    first, short = 0, ""

    def report(step: int, losses: list[float]) -> None:
        if on_progress is not None:
            named = f"{first + 1} to {first + len(losses)}" if len(losses) > 1 else f"{first + 1}"
            note = f"network {named} of {len(seeds)}, loss {sum(losses) / len(losses):.4g}{short}"
            on_progress(first * total + step * len(losses), note)
        if on_losses is not None:
            on_losses(step, dict(zip(seeds[first:], losses, strict=False)))

    while first < len(seeds):
        part = slice(first, first + at_once)
        try:
            _fit(fresh[part], clouds, recipe, seeds[part], report, supervision)
        except torch.OutOfMemoryError:
            if at_once == 1:
                reason = f"memory of {device} is short for {min(recipe.batch, len(clouds))} clouds"
                raise InputError("training", reason, "clouds of fewer points, or another device") from None
            at_once = at_once // 2  # networks are as they were: a stack has weights of its own
            short = f" (memory is short: {at_once} at once)"
            continue
        first += at_once
    return fresh


def fresh_network(name: str, clouds: AnyClouds, seed: int) -> Network:
    """A network for a set, not trained: of one with parts, the `-seg` of `name` (`models.network_for`).

    Raises:
        InputError: as `models.build`.
    """
    return build(name, clouds.num_classes, seed, 0 if clouds.part_names is None else len(clouds.part_names))


def told_some(classes: Tensor, count: int) -> Tensor:
    """What a `Segmenter` in training is told of the classes `(B,)` of its clouds, `(B, C)`: of every fourth, nothing.

    So it learns to do without.
    """
    known = torch.nn.functional.one_hot(classes, count).float()
    known[3::4] = 0
    return known


def stack_size(network: Network, clouds: AnyClouds, recipe: Recipe, most: int) -> int:
    """How many networks like this one are trained at once: as many as fit into a quarter of the memory, up to `most`.

    What a step of one takes is measured on a copy: its weights with gradients and the optimiser's moments, and twice
    what is kept for the backward pass. It is the machine's memory that counts, not what is free of it at the moment:
    the last bits of results depend on how many networks are trained together, and should not depend on the hour.
    """
    if most < 2 or not network.stackable:
        return 1
    batch = min(recipe.batch, len(clouds)) if not recipe.fill else recipe.batch
    device = next(network.parameters()).device
    kept: dict[int, int] = {}

    def measured(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    probe = copy.deepcopy(network).train()
    with torch.autograd.graph.saved_tensors_hooks(measured, lambda value: value), seeded(0):
        probe(clouds.batch(torch.arange(batch) % len(clouds))[:, : recipe.points].to(device))
    weights = sum(value.nbytes for value in network.state_dict().values())
    each: int = 4 * weights + 2 * sum(kept.values())
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory()
    return max(1, min(most, total // 4 // each))


@torch.no_grad()
def predict(network: Network, points: Tensor, batch: int = 64, classes: Tensor | None = None) -> Tensor:
    """Logits `(N, C)` of `(N, P, 3)` clouds, in evaluation mode; where the clouds are, wherever the network is.

    Of a `Segmenter` `(N, P, L)`; `classes` `(N,)` are what it is told of the clouds.
    """
    network.eval()
    device = next((value.device for value in network.parameters()), points.device)
    if classes is None or not isinstance(network, Segmenter):
        return torch.cat([network(part.to(device)).logits.to(points.device) for part in points.split(batch)])
    known = network.told(classes)
    pairs = zip(points.split(batch), known.split(batch), strict=True)
    return torch.cat([network(part.to(device), own.to(device)).logits.to(points.device) for part, own in pairs])


def _some(clouds: Tensor, count: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Places `(B, count)` in clouds `(B, N, 3)`, others at every call; as many clouds from each generator."""
    keys = [torch.rand(len(clouds) // len(generators), clouds.shape[1], generator=one) for one in generators]
    return torch.cat(keys).topk(count, sorted=False).indices.to(clouds.device)


def _batches(classes: Tensor, recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    """Without end: the places of the clouds of every step, of clouds whose classes `(N,)` are given."""
    passes = (_balanced_passes if recipe.balanced else _passes)(classes, generator)
    if not recipe.fill:
        for order in passes:
            yield from (order[start:stop] for start, stop in _bounds(len(classes), recipe.batch))
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < recipe.batch:
            order = torch.cat([order, next(passes)])
        yield order[: recipe.batch]
        order = order[recipe.batch :]


def _passes(classes: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    while True:
        yield torch.randperm(len(classes), generator=generator)


def _balanced_passes(classes: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    drawn = _balanced(classes, generator)
    while True:
        yield torch.tensor(list(islice(drawn, len(classes))))


def _balanced(classes: Tensor, generator: torch.Generator) -> Iterator[int]:
    members = [(classes == label).nonzero().flatten() for label in classes.unique()]
    left: list[list[int]] = [[] for _ in members]
    while True:
        for label in torch.randperm(len(members), generator=generator).tolist():
            if not left[label]:
                own = members[label]
                left[label] = own[torch.randperm(len(own), generator=generator)].tolist()
            yield left[label].pop()


def _optimizer(parameters: list[Tensor], recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
    return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)


def _lr_factor(schedule: str, step: int, total: int) -> float:
    if schedule == "halfway":
        return 1.0 if step < total // 2 else 0.1
    rise = 0.3 * total
    if step < rise:
        return 0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * step / rise))
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (total - rise))


def _average(averaged: list[Tensor], values: list[Tensor], decay: float) -> None:
    for mean, value in zip(averaged, values, strict=True):
        if value.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)  # a count of batches

"""Networks that see the real set: made, calibrated, frozen."""

from typing import Any

import torch
from torch import Tensor

from pcdistill.clouds import CloudSource, PointClouds, device_of, uniform
from pcdistill.matching.draws import random_clouds, step_generator
from pcdistill.matching.gathering import SEMI_TRAINED
from pcdistill.models import Network, Segmenter, build, check_network, seeded
from pcdistill.models.wrapped import digest
from pcdistill.training.augment import Augmentation
from pcdistill.training.loop import fresh_network, train
from pcdistill.training.recipe import Recipe


def check_networks(network: str) -> None:
    """Refuse names of surrogates, separated by commas, that are not registered.

    Raises:
        InputError: naming the first.
    """
    for name in network.split(","):
        check_network(name.strip())


def architecture(network: str, k: int) -> str:
    """Registered name of the k-th surrogate: of several, separated by commas, they take turns."""
    names = network.split(",")
    return names[k % len(names)].strip()


def own_facts(network: str, real: CloudSource) -> str:
    """What a cache has to know of surrogates besides their names: what `as_network` wrapped, and the accelerator.

    Nothing of registered ones on the processor. Numbers of another device have other last bits, so that what one has
    made is not read on another.
    """
    kind = device_of(real).type
    names = {architecture(network, k) for k in range(network.count(",") + 1)}
    there = "" if kind == "cpu" else f" on {kind}"
    return there + "".join(f" {found}" for name in sorted(names) if (found := digest(name, len(real.class_names))))


def frozen_network(
    name: str, sample: PointClouds, steps: int, seed: int, augmentation: Augmentation = SEMI_TRAINED
) -> Network:
    """A network trained for `steps` batches on real clouds, its batch norm calibrated on them, then frozen."""
    network = fresh_network(name, sample, seed).to(sample.points.device)
    if steps:
        recipe = Recipe(name="semi-trained", steps=steps, label_smoothing=0.1, augmentation=augmentation)
        train(network, sample, recipe, seed)
    calibrate(network, sample.points[:512], sample.hard_labels[:512])
    return network.eval().requires_grad_(False)


def untrained_network(real: CloudSource, name: str, points: int, seed: int, number: int) -> Network:
    """A network with random weights, its batch norm calibrated on some 512 real clouds, then frozen."""
    classes = len(real.class_names)
    network = build(name, classes, seed * 1000 + number).to(device_of(real))
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


def calibrate(network: Network, points: Tensor, classes: Tensor | None = None) -> None:
    """Set batch norm's running statistics to those of `points`; a `Segmenter` is told the classes `(B,)`."""
    norms: list[Any] = [module for module in network.modules() if hasattr(module, "running_mean")]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad(), seeded(0):  # dropout draws from the global generator
        if isinstance(network, Segmenter) and classes is not None:
            network.train()(points, network.told(classes))
        else:
            network.train()(points)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum

"""Carving a validation split from the training clouds."""

from dataclasses import replace

import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.prepare import stratified


def validation_split(clouds: PointClouds, fraction: float, seed: int) -> tuple[PointClouds, PointClouds]:
    """Seeded, stratified (train, validation): `fraction` of each class, rounded, at least one on either side.

    Clouds keep their order; the provenance of both says how they were split.

    Raises:
        InputError: for a fraction outside (0, 1), or a class of fewer than two clouds.
    """
    _check(clouds)
    chosen = torch.from_numpy(stratified(clouds.hard_labels.numpy(), clouds.num_classes, fraction, seed))
    return _side(clouds, ~chosen, "train", fraction, f"seed {seed}"), _side(
        clouds, chosen, "validation", fraction, f"seed {seed}"
    )


def last_split(clouds: PointClouds, fraction: float) -> tuple[PointClouds, PointClouds]:
    """(train, validation) where the last `fraction` of every class, rounded, at least one, is held out.

    ModelNet's test clouds follow its training clouds in the order of collection, where neighbours resemble one another.
    A random split puts near-copies on both sides and is easier than the test set; this one is as hard.

    Raises:
        InputError: a class of fewer than two clouds.
    """
    _check(clouds)
    held = torch.zeros(len(clouds), dtype=torch.bool)
    for label in range(clouds.num_classes):
        own = (clouds.hard_labels == label).nonzero()[:, 0]
        count = min(len(own) - 1, max(1, round(fraction * len(own))))
        held[own[len(own) - count :]] = True
    return _side(clouds, ~held, "train", fraction, "the last"), _side(clouds, held, "validation", fraction, "the last")


def _check(clouds: PointClouds) -> None:
    for name, count in zip(clouds.class_names, clouds.class_counts.tolist(), strict=True):
        if count < 2:
            found = f"class '{name}' has {count} clouds"
            raise InputError(str(clouds.provenance.get("name", "point clouds")), found, "at least two")


def _side(clouds: PointClouds, mask: torch.Tensor, side: str, fraction: float, which: str) -> PointClouds:
    part = clouds[mask]
    rule = f"{side} side of {clouds.provenance.get('split', 'all')}, {fraction:g} held out, {which}"
    if earlier := clouds.provenance.get("split_rule"):
        rule = f"{earlier}; {rule}"
    facts = {**clouds.provenance, "split": side, "split_rule": rule}
    return replace(part, provenance=facts)

"""Carving a validation split from the training clouds."""

import torch

from pcdistill.clouds import PointClouds
from pcdistill.data.prepare import stratified
from pcdistill.errors import InputError


def validation_split(clouds: PointClouds, fraction: float, seed: int) -> tuple[PointClouds, PointClouds]:
    """Seeded, stratified (train, validation): `fraction` of each class, rounded, at least one on either side.

    Clouds keep their order; the provenance of both says how they were split.

    Raises:
        InputError: for a fraction outside (0, 1), or a class of fewer than two clouds.
    """
    for name, count in zip(clouds.class_names, clouds.class_counts.tolist(), strict=True):
        if count < 2:
            found = f"class '{name}' has {count} clouds"
            raise InputError(str(clouds.provenance.get("name", "point clouds")), found, "at least two")
    chosen = torch.from_numpy(stratified(clouds.hard_labels.numpy(), clouds.num_classes, fraction, seed))
    return _side(clouds, ~chosen, "train", fraction, seed), _side(clouds, chosen, "validation", fraction, seed)


def _side(clouds: PointClouds, mask: torch.Tensor, side: str, fraction: float, seed: int) -> PointClouds:
    part = clouds[mask]
    rule = f"{side} side of {clouds.provenance.get('split', 'all')}, {fraction:g} held out, seed {seed}"
    facts = {**clouds.provenance, "split": side, "split_rule": rule}
    return PointClouds(part.points, part.labels, part.class_names, facts)

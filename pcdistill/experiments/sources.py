"""Where the clouds of a grid come from: what sets are made of, and what networks are tested on."""

import torch

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.options import Reading
from pcdistill.data import last_split
from pcdistill.data.prepare import TooFewPoints
from pcdistill.data.reading import read
from pcdistill.evaluation import split
from pcdistill.experiments.cells import Source
from pcdistill.geometry import thinned
from pcdistill.training.recipe import protocol as protocol_named


def training_set(source: Source, reading: Reading) -> tuple[PointClouds, PointClouds | None]:
    """What sets are made from, and what a protocol with a grid chooses recipes on."""
    protocol = protocol_named(source.protocol)
    train = read(reading, source.data, points=source.points, at_most=True)
    return split(train if source.validation is None else last_split(train, source.validation)[0], protocol)


def clouds_to_test(source: Source, reading: Reading, *, whole_clouds: bool = False) -> PointClouds:
    """What networks are tested on: the test split is not read if there is another.

    Args:
        source: which.
        reading: how it is read.
        whole_clouds: give all points that are stored, for conditions that look at more of them.
    """
    points = None if whole_clouds else source.points
    try:
        if source.validation is None:
            return read(reading, source.data, "test", points=points)
        held = last_split(read(reading, source.data, points=points), source.validation)[1]
    except TooFewPoints as few:
        raise InputError(source.data, f"test clouds of {few.stored} points", f"--test-points {few.stored}") from None
    if source.validation_clouds is None:
        return held
    first = [(held.hard_labels == label).nonzero()[: source.validation_clouds, 0] for label in range(held.num_classes)]
    return held[torch.cat(first)]


def thinned_whole(real: PointClouds, points: int | None) -> PointClouds:
    """The whole set as it is trained on."""
    return thinned(real, points)

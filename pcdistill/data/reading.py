"""Data sets read as a command is asked to read them."""

from pcdistill.clouds import PointClouds
from pcdistill.core.options import Reading
from pcdistill.data.catalog import load, open_streamed
from pcdistill.data.prepare import Wanted
from pcdistill.data.stream import StreamedClouds


def read(
    asked: Reading, name: str, split: str = "train", *, points: int | None = None, at_most: bool = False, seed: int = 0
) -> PointClouds:
    """As `data.load`."""
    return load(
        name, split, root=asked.root, points=points, seed=seed, at_most=at_most, up_axis=asked.up_axis,
        least_points=asked.least_points, skip_bad=asked.skip_bad,
    )  # fmt: skip


def stream(
    asked: Reading, name: str, split: str = "train", *, points: int | None = None, at_most: bool = False
) -> StreamedClouds:
    """As `data.open_streamed`."""
    return open_streamed(
        name, split, root=asked.root, points=points, at_most=at_most, up_axis=asked.up_axis,
        least_points=asked.least_points, skip_bad=asked.skip_bad,
    )  # fmt: skip


def wanted(asked: Reading, points: int | None = None, seed: int = 0) -> Wanted:
    """For readers of layouts."""
    return Wanted(points, seed=seed, up_axis=asked.up_axis, least_points=asked.least_points, skip_bad=asked.skip_bad)

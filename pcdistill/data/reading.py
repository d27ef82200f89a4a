"""How data sets are read, as every command that reads some asks it."""

from pcdistill.clouds import PointClouds
from pcdistill.core.options import LeastPoints, Options, Root, SkipBad, UpAxis
from pcdistill.data.catalog import load, open_streamed
from pcdistill.data.prepare import Wanted
from pcdistill.data.stream import StreamedClouds


class Reading(Options):
    """Where sets lie, and how they are read: flags that mean the same in every command."""

    root: Root = None
    up_axis: UpAxis = None
    least_points: LeastPoints = 1
    skip_bad: SkipBad = False

    def load(
        self, name: str, split: str = "train", *, points: int | None = None, at_most: bool = False, seed: int = 0
    ) -> PointClouds:
        """As `data.load`."""
        return load(
            name, split, root=self.root, points=points, seed=seed, at_most=at_most, up_axis=self.up_axis,
            least_points=self.least_points, skip_bad=self.skip_bad,
        )  # fmt: skip

    def stream_of(self, name: str, split: str = "train") -> StreamedClouds:
        """As `data.open_streamed`."""
        return open_streamed(
            name, split, root=self.root, up_axis=self.up_axis, least_points=self.least_points, skip_bad=self.skip_bad
        )

    def wanted(self, points: int | None = None, seed: int = 0) -> Wanted:
        """For readers of layouts."""
        return Wanted(
            points, seed=seed, up_axis=self.up_axis, least_points=self.least_points, skip_bad=self.skip_bad
        )  # fmt: skip

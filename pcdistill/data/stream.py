"""A set larger than memory: one split of a project HDF5 file that is only ever read in small parts."""

from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.data.prepare import CHUNK
from pcdistill.data.project import H5Clouds


class StreamedClouds(H5Clouds):
    """A `CloudSource` over one split of a project HDF5 file, for the whole way from selection to artefact.

    Labels (8 bytes a cloud), class names and provenance are in memory, coordinates are not: however many clouds a
    batch asks for, they are read, turned and normalised `CHUNK` at a time, so that memory beyond the batch itself
    stays bounded. What comes out equals the loaded set's bit for bit, and so does the fingerprint, which takes one
    pass over the file and is remembered: the file must not change while it is open. A context manager. Pickled, it is
    where the file lies: another process opens it when it first reads.

    Args:
        path: the file; float16 or float32 points `(N, P, 3)` under `{train,test}/points`, see `data/project.py`.
        split: "train" or "test".
        points: keep the first this many points of each cloud; None keeps all.

    Raises:
        InputError: as `H5Clouds`.
        ValueError: read after `close`.
    """

    _fingerprint: str | None = None

    def __repr__(self) -> str:
        return super().__repr__().replace("H5Clouds", "StreamedClouds", 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_file", "_points")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._file = None

    def close(self) -> None:
        """Let go of the file; labels and a fingerprint that was asked for before stay. Twice does no harm."""
        if self._file is not None:
            self._file.close()

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> Tensor:
        """`(C,)` int64: clouds per class."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    def batch(self, index: Tensor) -> Tensor:
        """Points `(len(index), P, 3)` float32 of the clouds at `index` (int64, 0 to N - 1, best ascending)."""
        if len(index) <= CHUNK:
            return super().batch(index)
        points = torch.empty(len(index), self.points_per_cloud, 3)
        for low in range(0, len(index), CHUNK):
            points[low : low + CHUNK] = super().batch(index[low : low + CHUNK])
        return points

    def fingerprint(self) -> str:
        """Hex SHA-256 of the content, as `PointClouds.fingerprint` of the loaded set; computed once."""
        if self._fingerprint is None:
            self._fingerprint = super().fingerprint()
        return self._fingerprint

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if self._file is None:
            self._open()
        if not self._file:
            raise ValueError(f"{self!r} is closed")  # and not damaged, as its reader would say
        return super()._read(rows)


AnyClouds = PointClouds | StreamedClouds
"""A labelled set, in memory or on disk."""

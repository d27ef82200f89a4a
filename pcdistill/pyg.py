"""For those who work with torch-geometric: artefacts as its data sets, and clouds there and back.

>>> from pcdistill.pyg import CondensedDataset  # doctest: +SKIP
>>> dataset = CondensedDataset("set.h5")  # doctest: +SKIP
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pcdistill.artefact.artefact import Artefact
from pcdistill.data.pyg import from_pyg, to_pyg

try:
    from torch_geometric.data import InMemoryDataset
except ImportError:  # `to_pyg` says so when a data set is made
    InMemoryDataset = object


class CondensedDataset(InMemoryDataset):  # type: ignore[misc]
    """The training clouds of an artefact as an `InMemoryDataset`: items have `pos` `(P, 3)` and `y`.

    `y` is `(1,)` int64, or `(1, C)` float32 where labels are soft. Nothing is written, and no pickle is read.

    Args:
        artefact: an artefact, or the path of its file.
        transform: of every item as it is taken, as torch-geometric has them.

    Attributes:
        class_names: in the order of labels.

    Raises:
        InputError: no such file, or torch-geometric is not installed.
    """

    def __init__(self, artefact: Artefact | Path | str, transform: Callable[[Any], Any] | None = None) -> None:
        made = artefact if isinstance(artefact, Artefact) else Artefact.load(Path(artefact))
        clouds = made.training_clouds
        items = to_pyg(clouds)
        super().__init__(transform=transform)
        self.class_names = clouds.class_names
        self.data, self.slices = self.collate(items)

    @property
    def num_classes(self) -> int:
        """Of the labels, whether all of them occur or not."""
        return len(self.class_names)


__all__ = ["CondensedDataset", "from_pyg", "to_pyg"]

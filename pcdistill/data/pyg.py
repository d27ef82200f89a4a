"""To and from torch-geometric: any dataset whose items have `pos` and `y`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.memory import from_dataset


def from_pyg(
    dataset: Iterable[Any] | Sequence[Any],
    class_names: Sequence[str] | None = None,
    up_axis: str = "z",
    points_per_cloud: int | None = None,
    seed: int = 0,
) -> PointClouds:
    """The items of a torch-geometric data set, a loader or a list of `Data` as `PointClouds`: centred, largest norm 1.

    Args:
        dataset: items with `pos` `(P, 3)` and `y`, one class or probabilities `(1, C)`; whatever else `from_dataset`
            takes. With `face` `(3, F)`, as ModelNet's have, `pos` are vertices, and the surface is sampled.
        class_names: in label order; by default those of the data set, else "0", "1", ... up to the largest label.
        up_axis: "z", "y" (turned, so that z is up) or "unspecified".
        points_per_cloud: sampled of larger clouds and meshes; smaller clouds are filled up with repeats. None: as many
            as they have, so that `from_pyg(to_pyg(clouds))` are the same, and 1024 of meshes and unequal clouds.
        seed: of what is sampled and repeated.

    Raises:
        InputError: naming the item, for a missing or misshapen `pos` or `y`.
    """
    clouds = from_dataset(dataset, class_names, points_per_cloud, True, seed, up_axis)
    return replace(clouds, provenance={**clouds.provenance, "layout": "torch-geometric"})


def to_pyg(clouds: PointClouds, colours: NDArray[np.uint8] | None = None) -> list[Any]:
    """One `torch_geometric.data.Data` per cloud: `pos` `(P, 3)` float32, `y` `(1,)` int64 or `(1, C)` soft.

    They are in memory, for a `DataLoader`; no file is written, as those of torch-geometric are pickles.

    Args:
        clouds: axes and scale stay as they are.
        colours: `(N, P, 3)` uint8 sRGB (`export.height_colouring` makes some); they become node features `x` `(P, 3)`
            float32 in [0, 1], as in torch-geometric's S3DIS. None: no `x`, as in its ModelNet.

    Raises:
        InputError: colours of another shape or type; torch-geometric is not installed.
    """
    try:
        from torch_geometric.data import Data
    except ImportError:
        raise InputError("to_pyg", "torch-geometric is not installed", "pip install 'pcdistill[pyg]'") from None
    if colours is None:
        return [Data(pos=points, y=label[None]) for points, label in zip(clouds.points, clouds.labels, strict=True)]
    shape = tuple(clouds.points.shape)
    if colours.shape != shape or colours.dtype != np.uint8:
        raise InputError("colours", f"{colours.dtype} {colours.shape}", f"uint8 {shape}")
    features = torch.from_numpy(colours).to(torch.float32) / 255
    return [
        Data(x=x, pos=points, y=label[None])
        for x, points, label in zip(features, clouds.points, clouds.labels, strict=True)
    ]

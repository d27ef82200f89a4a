"""To and from torch-geometric: any dataset whose items have `pos` and `y`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.memory import from_dataset


def from_pyg(
    dataset: Iterable[Any] | Sequence[Any],
    class_names: Sequence[str] | None = None,
    up_axis: str = "z",
    points_per_cloud: int | None = None,
    seed: int = 0,
    *,
    part_names: PartNames | Sequence[str] | None = None,
) -> PointClouds:
    """The items of a torch-geometric data set, a loader or a list of `Data` as `PointClouds`: centred, largest norm 1.

    Args:
        dataset: items with `pos` `(P, 3)` and `y`, one class or probabilities `(1, C)`; whatever else `from_dataset`
            takes. With `face` `(3, F)`, as ModelNet's have, `pos` are vertices, and the surface is sampled. With a
            `category`, as ShapeNet's have, that is the class, and `y` `(P,)` the part of each point.
        class_names: in label order; by default those of the data set, else "0", "1", ... up to the largest label.
        up_axis: "z", "y" (turned, so that z is up) or "unspecified".
        points_per_cloud: sampled of larger clouds and meshes; smaller clouds are filled up with repeats. None: as many
            as they have, so that `from_pyg(to_pyg(clouds))` are the same, and 1024 of meshes and unequal clouds.
        seed: of what is sampled and repeated.
        part_names: as in `from_dataset`.

    Raises:
        InputError: naming the item, for a missing or misshapen `pos` or `y`.
    """
    clouds = from_dataset(dataset, class_names, points_per_cloud, True, seed, up_axis, part_names=part_names)
    return replace(clouds, provenance={**clouds.provenance, "layout": "torch-geometric"})


def to_pyg(clouds: PointClouds, colours: NDArray[np.uint8] | None = None) -> list[Any]:
    """One `torch_geometric.data.Data` per cloud: `pos` `(P, 3)` float32, `y` `(1,)` int64 or `(1, C)` soft.

    With parts `y` `(P,)` int64 are those, and `category` `(1,)` is the class, as in torch-geometric's ShapeNet.
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
    features: list[dict[str, Any]] = [{}] * len(clouds)
    if colours is not None:
        shape = tuple(clouds.points.shape)
        if colours.shape != shape or colours.dtype != np.uint8:
            raise InputError("colours", f"{colours.dtype} {colours.shape}", f"uint8 {shape}")
        features = [{"x": x} for x in torch.from_numpy(colours).to(torch.float32) / 255]
    labels = [{"y": label[None]} for label in clouds.labels]
    if clouds.parts is not None:
        labels = [{"y": own, "category": label[None]} for own, label in zip(clouds.parts, clouds.labels, strict=True)]
    return [Data(pos=points, **x, **y) for points, x, y in zip(clouds.points, features, labels, strict=True)]

"""To and from torch-geometric: any dataset whose items have `pos` and `y`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.prepare import assemble


def from_pyg(dataset: Sequence[Any], class_names: Sequence[str] | None = None) -> PointClouds:
    """The items of a torch-geometric dataset (or a list of `Data`) as `PointClouds`.

    Args:
        dataset: items with `pos` `(P, 3)`, the same P in all, and `y`, one class index.
        class_names: in label order; by default "0", "1", ... up to the largest label.

    Coordinates come out centred on their mean, largest norm 1; axes stay as they are.

    Raises:
        InputError: naming the item, for a missing or misshapen `pos` or `y` and unequal P.
    """
    place = type(dataset).__name__
    items = [dataset[at] for at in range(len(dataset))]
    if not items:
        raise InputError(place, "0 items", "at least one")
    clouds, labels = [], []
    for at, item in enumerate(items):
        pos, y = getattr(item, "pos", None), getattr(item, "y", None)
        if pos is None or y is None:
            raise InputError(f"{place} item {at}", f"no {'pos' if pos is None else 'y'}", "pos (P, 3) and y")
        if pos.ndim != 2 or pos.shape[1] != 3 or torch.as_tensor(y).numel() != 1:
            found = f"pos {tuple(pos.shape)}, y {tuple(torch.as_tensor(y).shape)}"
            raise InputError(f"{place} item {at}", found, "pos (P, 3) and one y")
        if len(pos) != len(items[0].pos):
            found = f"{len(pos)} points, {len(items[0].pos)} in item 0"
            raise InputError(f"{place} item {at}", found, "equal numbers (transforms.SamplePoints or FixedPoints)")
        clouds.append(pos.detach().cpu().double().numpy())
        labels.append(int(torch.as_tensor(y).reshape(())))
    names = class_names if class_names is not None else [str(label) for label in range(max(labels) + 1)]
    facts = {"name": place, "source": place, "layout": "torch-geometric"}
    return assemble(np.stack(clouds), np.array(labels), names, place=place, up_axis="unspecified", provenance=facts)


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

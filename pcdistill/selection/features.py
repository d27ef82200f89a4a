"""What selection compares clouds by: a network-free descriptor, or the features of a network."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pcdistill.clouds import CloudSource
from pcdistill.models import networks

QUANTILES = 16
BATCH = 256


def raw_descriptor(clouds: CloudSource) -> Tensor:
    """A description of every cloud by its coordinates alone, blind to the order of the points.

    In this order: 16 quantiles each (levels 1/32, 3/32, ... 31/32, linearly interpolated) of the x,
    y and z coordinates and of the radius, then the second moments about the mean xx, yy, zz, xy, xz,
    yz. It sees size, position and direction, so clouds should stand in one frame. Hardly changes
    with the number of points. One pass, a batch in memory at a time.

    Args:
        clouds: n clouds in the unit sphere.

    Returns:
        `(n, 70)` float32, in units of the sphere's radius (moments: squared).
    """
    return torch.cat([_describe(points) for points in _batches(clouds, BATCH)])


def check_features(name: str) -> None:
    """Refuse features that there are not: `raw`, `trained`, or those of a registered network.

    Raises:
        InputError: no network of that name.
    """
    if name not in ("raw", "trained"):
        networks[name]


def network_descriptor(clouds: CloudSource, network: nn.Module, batch: int = 64) -> Tensor:
    """The global feature of every cloud in a network, each scaled to Euclidean norm 1 (as in iCaRL).

    The network works in evaluation mode and without gradients; its modules' modes are restored.

    Args:
        clouds: n clouds in the frame that the network knows.
        network: its output has an attribute `global_feature` `(B, G)`.
        batch: clouds at a time.

    Returns:
        `(n, G)` float32 on the processor.
    """
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            parts = [network(points.to(device)).global_feature.cpu() for points in _batches(clouds, batch)]
    finally:
        for module, mode in modes.items():
            module.training = mode
    return nn.functional.normalize(torch.cat(parts).float(), dim=1)


def _batches(clouds: CloudSource, size: int) -> Iterator[Tensor]:
    for index in torch.split(torch.arange(len(clouds.labels)), size):
        yield clouds.batch(index).detach()


def _describe(points: Tensor) -> Tensor:
    points = points.cpu().float()
    values = torch.cat([points, points.norm(dim=2, keepdim=True)], dim=2)
    offset = points - points.mean(dim=1, keepdim=True)
    moments = offset.mT @ offset / points.shape[1]
    rows, columns = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])
    return torch.cat([_quantiles(values).flatten(1), moments[:, rows, columns]], dim=1)


def _quantiles(values: Tensor) -> Tensor:
    """`(B, C, Q)` quantiles over the points of values `(B, P, C)`."""
    # NumPy's sort of values alone is vectorised, several times as fast as PyTorch's.
    ordered = torch.from_numpy(np.sort(values.mT.contiguous().numpy(), axis=2))
    last = ordered.shape[2] - 1
    place = ((torch.arange(QUANTILES) + 0.5) / QUANTILES * (last + 1) - 0.5).clamp(0, last)
    below = place.long()
    above = (below + 1).clamp(max=last)
    return torch.lerp(ordered[:, :, below], ordered[:, :, above], place - below)

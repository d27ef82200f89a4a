"""Small sets to draw."""

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.geometry.nearest import nearest_real
from pcdistill.models import build
from pcdistill.viewing import Exhibit, Judge, Real


@pytest.fixture
def clouds() -> PointClouds:
    """Three clouds of `ball`, two of `night_stand`, none of `nothing`."""
    generator = torch.Generator().manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(3, 150, 3, generator=generator), dim=-1)
    box = torch.rand(2, 150, 3, generator=generator) - 0.5
    labels = torch.tensor([0, 2, 0, 2, 0])
    points = torch.stack([ball[0], box[0], ball[1], box[1], ball[2]])
    return PointClouds(points, labels, ("ball", "nothing", "night_stand"))


@pytest.fixture
def exhibit(clouds: PointClouds) -> Exhibit:
    """The same class by class, on their way there from smaller ones, beside real clouds, judged by a new network."""
    generator = torch.Generator().manual_seed(1)
    shown = clouds[clouds.labels.argsort(stable=True)]
    real = PointClouds(
        torch.cat([shown.points, shown.points[:, :50] * 0.8], dim=1), shown.labels, shown.class_names, {"name": "real"}
    )
    nearest = nearest_real(shown, real)
    drift = 0.3 * torch.randn(shown.points.shape, generator=generator)
    frames = tuple(shown.points * (0.6 + 0.2 * step) + drift * (1 - step / 2) for step in (0, 1, 2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build("pointnet-nano", 3, 64).eval()
    return Exhibit(
        "made: here, 9 bytes per class", shown, frames, (0, 10, 40), real=Real(nearest, real.points[nearest.index]),
        judge=Judge(network, shown.labels),
    )  # fmt: skip

"""Small sets to draw."""

import pytest
import torch

from pcdistill.clouds import PointClouds


@pytest.fixture
def clouds() -> PointClouds:
    """Three clouds of `ball`, two of `night_stand`, none of `nothing`."""
    generator = torch.Generator().manual_seed(0)
    ball = torch.nn.functional.normalize(torch.randn(3, 150, 3, generator=generator), dim=-1)
    box = torch.rand(2, 150, 3, generator=generator) - 0.5
    labels = torch.tensor([0, 2, 0, 2, 0])
    points = torch.stack([ball[0], box[0], ball[1], box[1], ball[2]])
    return PointClouds(points, labels, ("ball", "nothing", "night_stand"))

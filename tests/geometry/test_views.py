"""What is seen from one side, beside what geometry says of simple shapes and hidden point removal of others."""

import torch

from pcdistill.data.procedural.shapes import generate
from pcdistill.geometry import in_sight, random_rotations
from pcdistill.geometry.corruptions import visible


def frames(count: int) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(0), axis=None)


def test_the_near_half_of_a_sphere() -> None:
    points = torch.nn.functional.normalize(torch.randn(5, 2000, 3, generator=torch.Generator().manual_seed(1)), dim=2)
    turned = frames(5)
    height = (points * turned[:, :1]).sum(2)
    seen = in_sight(points, turned)
    assert seen[height < -0.1].float().mean() < 0.01
    assert seen[height > 0.5].float().mean() > 0.99


def test_a_wall_hides_what_is_behind_it() -> None:
    wall = torch.rand(1, 1500, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wall[..., 0] = 0.8
    behind = wall[:, :500] * 0.8 - torch.tensor([1.5, 0, 0])
    seen = in_sight(torch.cat([wall, behind], 1), torch.eye(3)[None])
    assert seen[0, :1500].all()
    assert not seen[0, 1500:].any()


def test_what_hidden_point_removal_sees_is_seen() -> None:
    points = generate("train", 3, 512, 0).points
    turned = frames(len(points))
    seen, expected = in_sight(points, turned), visible(points, 3 * turned[:, 0])
    assert (seen & expected).sum() / expected.sum() > 0.8
    assert 0.3 < seen.float().mean() < 0.7


def test_some_point_of_every_cloud_is_seen() -> None:
    odd = torch.stack([torch.zeros(7, 3), torch.full((7, 3), torch.nan), torch.eye(7, 3)])
    assert in_sight(odd, frames(3)).any(1).all()
    assert in_sight(torch.ones(1, 1, 3), frames(1)).all()

"""Half clouds and the planes in which they are mirrored."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import chamfer, farthest_points
from pcdistill.storage.base import storages
from pcdistill.storage.parts import Part, PartedStorage, Values


@storages.register("symmetric", cites=())
class MirroredHalves(PartedStorage):
    """P / 2 points of every cloud, followed by their mirror images in the plane x = 0 or y = 0.

    Our own: most furniture and vehicles are symmetric, with z up in a vertical plane. The plane of a cloud is the one
    in which its mirror image is nearer to it (Chamfer distance); x where they are equal. The half is a farthest point
    sample of the cloud folded over the plane, so that points of both sides are kept; learning may take it across.

    Bytes per cloud: `ceil(3 (P / 2) bits / 8) + 1`; the byte is the axis, 0 for x and 1 for y. Coordinates are coded
    over the whole of [-1, 1], as those along the plane need it.

    P has to be even. Learned: `half` `(C * n, P / 2, 3)`; `axes` `(C * n,)` are not.
    """

    name = "symmetric"
    side_bytes = 1

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        if sizes["points"] % 2:
            raise InputError("points", str(sizes["points"]), "an even number: half of them are mirrored")

    @classmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        clouds = classes * sizes["clouds"]
        return {
            "half": Part((clouds, sizes["points"] // 2, 3), "coordinates"),
            "axes": Part((clouds,), "choices", choices=2),
        }

    @classmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        away = torch.stack([chamfer(points, mirrored(points, torch.full((len(points),), axis))) for axis in (0, 1)])
        axes = away.argmin(0)  # the first of equals
        image = mirrored(points, axes)
        along = points.gather(2, axes[:, None, None].expand(-1, points.shape[1], 1))
        folded = torch.where(along < 0, image, points)
        return {"half": farthest_points(folded, sizes["points"] // 2), "axes": axes}

    @classmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        half = values["half"][index]
        return torch.cat([half, mirrored(half, values["axes"][index])], 1)


def mirrored(points: Tensor, axes: Tensor) -> Tensor:
    """Clouds `(B, N, 3)` with the coordinate along axis `axes` `(B,)` negated."""
    signs = 1 - 2 * torch.nn.functional.one_hot(axes, 3)
    return points * signs.to(points)[:, None]

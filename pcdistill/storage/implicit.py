"""A small network that makes every cloud from a sphere and a code of its own."""

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pcdistill.core.errors import InputError
from pcdistill.geometry import farthest_points, gather_points
from pcdistill.storage.base import storages
from pcdistill.storage.labels import LABEL_PACE
from pcdistill.storage.parts import Part, PartedStorage, Values

WIDTH = 48
CODE = 24
FREQUENCY = 6.0  # w0 of the first layer: the sphere's radius is 1, and shapes have edges
MOST_POINTS = 4096  # of a cloud: any number could be read off the network
FIT_STEPS = 600
FIT_POINTS = 256  # of a cloud that the fit compares; the sphere is then as coarse
FIT_BLOCK = 2**18  # distances of a step of the fit
FIT_LR = 0.01
LAYER_PACE = 0.1  # a weight of the network moves every point of every cloud; Bo & Wang learn at 1e-3


@storages.register("implicit", cites=("bo2025dd3d", "sitzmann2020siren"))
class ImplicitClouds(PartedStorage):
    """One sine network for all clouds, and a code per cloud that gates its layers.

    The point-wise generator of DD3D (Bo & Wang, "Point Cloud Dataset Distillation", ICML 2025), a SIREN (Sitzmann et
    al. 2020) with layer-wise multiplicative modulation. Point u of the unit sphere becomes

        h1 = sin(w0 (A1 u + b1)) * (1 + G1 c),   h2 = sin(A2 h1 + b2) * (1 + G2 c),   p = A3 h2 + b3

    with the code c of the cloud. Where we differ: the inputs are P points of a Fibonacci lattice on the sphere
    (`sphere`) instead of P draws from U(0, 1), so that a cloud is deterministic and neighbours on the sphere are
    neighbours on the shape; width 48 and codes of 24 numbers instead of 256 and 256, w0 = 6, no tanh at the end, gates
    of 1 + G c instead of ReLU; codes are learned instead of embeddings of class and index; and it starts at a fit to
    the given clouds (Adam on their Chamfer distance) instead of random weights.

    Everything is a weight: float16, at 32 bits float32, and the budget's bits decide over nothing else. Bytes of a
    set of N clouds: `2 (W^2 + 8 W + 3 + 2 W D) + 2 N D`, that is 9990 + 48 N, whatever P is. At 8 bits stored points
    take 3 P per cloud: it pays from 30 clouds of 128 points on, or 4 of 1024.

    Learned: `layer1` `(W, 4)`, `layer2` `(W, W + 1)`, `layer3` `(3, W + 1)` with biases as last columns, `gates`
    `(2 W, D)`, `codes` `(C * n, D)`.
    """

    name = "implicit"
    fields = ("width", "code")
    pace: ClassVar[Mapping[str, float]] = {
        "labels": LABEL_PACE,
        **dict.fromkeys(("layer1", "layer2", "layer3", "gates"), LAYER_PACE),
    }
    fit_steps: ClassVar[int] = FIT_STEPS

    @classmethod
    def rule(cls, clouds: int, points: int) -> dict[str, int]:
        return {"width": WIDTH, "code": CODE}

    @classmethod
    def check(cls, sizes: Mapping[str, int]) -> None:
        if sizes["points"] > MOST_POINTS:
            raise InputError("points", str(sizes["points"]), f"at most {MOST_POINTS}")
        for field in cls.fields:
            if sizes[field] < 1:
                raise InputError(field, str(sizes[field]), "at least 1")

    @classmethod
    def parts(cls, sizes: Mapping[str, int], classes: int) -> dict[str, Part]:
        width, code = sizes["width"], sizes["code"]
        return {
            "layer1": Part((width, 4)),
            "layer2": Part((width, width + 1)),
            "layer3": Part((3, width + 1)),
            "gates": Part((2 * width, code)),
            "codes": Part((classes * sizes["clouds"], code)),
        }

    @classmethod
    def fit(cls, points: Tensor, sizes: Mapping[str, int], classes: int) -> Values:
        values = _initial(len(points), sizes["width"], sizes["code"])
        few = min(FIT_POINTS, points.shape[1])
        target = farthest_points(points, few)
        batch = max(1, FIT_BLOCK // few**2)
        parameters = [value.requires_grad_() for value in values.values()]
        moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in parameters]
        for step in range(cls.fit_steps):
            index = torch.arange(step * batch, step * batch + min(batch, len(points))) % len(points)
            with torch.enable_grad():
                loss = _chamfer(_generate(values, sphere(few), index), target[index])
                gradients = torch.autograd.grad(loss, parameters)
            lr = FIT_LR * (0.5 + 0.5 * math.cos(math.pi * step / cls.fit_steps))
            for value, gradient, (first, second) in zip(parameters, gradients, moments, strict=True):
                _adam(value, gradient, first, second, lr, step + 1)
        return {name: value.detach() for name, value in values.items()}

    @classmethod
    def assemble(cls, values: Values, sizes: Mapping[str, int], index: Tensor) -> Tensor:
        # All of them: products of matrices of another size are summed in another order.
        every = torch.arange(len(values["codes"]))
        return _generate(values, sphere(sizes["points"]), every)[index]


def sphere(count: int) -> Tensor:
    """`(count, 3)` float64 points of the unit sphere, each for as much of its area: a Fibonacci lattice.

    Heights in equal steps from +z to -z, each point turned on by the golden angle (González, "Measurement of areas on a
    sphere using Fibonacci and latitude-longitude lattices", 2010).
    """
    steps = torch.arange(count, dtype=torch.float64)
    height = 1 - (2 * steps + 1) / count
    turn = steps * math.pi * (3 - math.sqrt(5))
    around = (1 - height.square()).sqrt()
    return torch.stack([around * turn.cos(), around * turn.sin(), height], 1)


def _generate(values: Values, inputs: Tensor, index: Tensor) -> Tensor:
    """Clouds `(len(index), P, 3)` at `inputs` `(P, 3)` of the sphere."""
    codes = values["codes"][index]
    first, second = (1 + codes @ values["gates"].T)[:, None].chunk(2, dim=2)
    hidden = torch.sin(FREQUENCY * _affine(inputs.to(codes), values["layer1"])) * first
    hidden = torch.sin(_affine(hidden, values["layer2"])) * second
    return _affine(hidden, values["layer3"])


def _affine(inputs: Tensor, layer: Tensor) -> Tensor:
    return inputs @ layer[:, :-1].T + layer[:, -1]


def _chamfer(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean Chamfer distance; its neighbours, by the expanded square, are good enough to fit to and soon found."""
    with torch.no_grad():
        distances = torch.cdist(made, wanted).numpy()
    forth, back = (torch.from_numpy(distances.argmin(axis)) for axis in (2, 1))
    there = (made - gather_points(wanted, forth)).square()
    return (there + (gather_points(made, back) - wanted).square()).sum(2).mean()


@torch.no_grad()
def _adam(value: Tensor, gradient: Tensor, first: Tensor, second: Tensor, lr: float, count: int) -> None:
    """Step number `count` of Adam (Kingma & Ba 2015); `torch.optim` would import a compiler, which takes longer."""
    first.lerp_(gradient, 0.1)
    second.lerp_(gradient.square(), 0.001)
    value -= lr * (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)


def _initial(clouds: int, width: int, code: int) -> Values:
    """SIREN's uniform weights, and codes that tell clouds apart a little; always the same."""
    random = torch.Generator().manual_seed(0)

    def uniform(rows: int, columns: int, bound: float) -> Tensor:
        return (2 * torch.rand(rows, columns, generator=random) - 1) * bound

    return {
        "layer1": uniform(width, 4, 1 / 3),
        "layer2": uniform(width, width + 1, math.sqrt(6 / width)),
        "layer3": uniform(3, width + 1, math.sqrt(6 / width) / 2),
        "gates": torch.randn(2 * width, code, generator=random) / math.sqrt(code),
        "codes": torch.randn(clouds, code, generator=random) / 2,
    }

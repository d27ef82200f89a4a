"""Quantisation-aware training: a network is fine-tuned under the rounding that an int8 file will bring."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pcdistill.clouds import PointClouds
from pcdistill.export.folding import Folded
from pcdistill.teaching import Online, Teacher
from pcdistill.training.loop import OnStep, train
from pcdistill.training.recipe import Recipe
from pcdistill.training.trained import Trained

MOMENTUM = 0.05  # of the range of activations, per step


class TuneRecipe(NamedTuple):
    """How long and how fast; found on a validation split (docs/notebook/11-teachers-students-devices.md)."""

    steps: int = 200
    lr: float = 2e-4


class RoundedWeight(nn.Module):
    """Weights as symmetric int8 codes with a scale per output channel, as onnxruntime's quantiser rounds them."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        zero = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)


class RoundedActivation(nn.Module):
    """Activations as int8 codes between the smallest and the largest value met; the gradient passes through."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, values: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                first = bool(self.low == self.high)
                for bound, latest in ((self.low, values.min().clamp_max(0)), (self.high, values.max().clamp_min(0))):
                    bound.copy_(latest if first else bound.lerp(latest, MOMENTUM))
        scale = float((self.high - self.low).clamp_min(1e-12)) / 255
        zero = max(-128, min(127, round(-128 - float(self.low) / scale)))
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, -128, 127)


def fine_tuned(
    network: Folded, trained: Trained, clouds: PointClouds, recipe: Recipe, seed: int, on_step: OnStep | None = None
) -> Folded:
    """A copy of a folded network, fine-tuned with rounded weights and activations (Jacob et al., CVPR 2018).

    The network that it was folded from is its teacher (a straight-through estimator wants small steps, and hard
    labels would pull at what the network has learned besides).

    Args:
        network: folded.
        trained: what it was folded from.
        clouds: that it is trained on.
        recipe: of its training; steps and learning rate are those of `TuneRecipe`.
        seed: of order and augmentation.
        on_step: as in `train`.

    Returns:
        The network with weights in float32 that are meant to be rounded; itself it rounds nothing.
    """
    made = copy.deepcopy(network)
    for part in _parts(made):
        part.rounding = nn.ModuleList(RoundedActivation() for _ in part.rounding)
        for layer in (*part.shared, *part.layers):
            parametrize.register_parametrization(layer, "weight", RoundedWeight())
    how = recipe.model_copy(update={**TuneRecipe()._asdict(), "name": recipe.name.removesuffix("*") + "*", "hard": 0.0})
    teacher = Teacher((trained,), how.temperature)
    train(made, clouds, how, seed, on_step, Online(teacher))
    for part in _parts(made):
        for layer in (*part.shared, *part.layers):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        part.rounding = nn.ModuleList(nn.Identity() for _ in part.rounding)
    return made.eval()


def _parts(network: Folded) -> Iterator[Folded]:
    """The network and its T-Net."""
    yield network
    if network.tnet is not None:
        yield network.tnet

"""The fully connected part of a classifier."""

from collections.abc import Sequence

from torch import nn

from pcdistill.models.base import Dropout
from pcdistill.models.layers.shared import SharedLayer


def classifier(
    inputs: int, widths: Sequence[int], num_classes: int, p: float = 0.5, slope: float = 0.0
) -> nn.Sequential:
    """Layers with batch norm and ReLU, dropout after each, and a linear layer: `(B, inputs)` to `(B, num_classes)`.

    Args:
        inputs: width of the global feature.
        widths: of the layers in front of the linear one.
        num_classes: number of logits.
        p: of dropout.
        slope: of a leaky ReLU, below zero.
    """
    sizes = [inputs, *widths]
    layers: list[nn.Module] = []
    for i in range(len(widths)):
        layers += [SharedLayer(sizes[i], sizes[i + 1], "batch", slope=slope), Dropout(p, sizes[i + 1])]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], num_classes))

"""Shared layers of PointNets: the same small network at every point."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from pcdistill.geometry import gather_points
from pcdistill.models.layers.fused import extreme_points, linear_norm_max, linear_norm_relu

Norm = Literal["batch", "layer", "instance", "group", "none"]


class PointNorm(nn.Module):
    """Normalisation of point features `(B, N, C)` (or `(B, C)`), with a learned scale and bias.

    `batch`: over clouds and points; `layer`: over the channels of a point; `instance`: over the points of
    a cloud, per channel; `group`: over the points and channels of 8 groups. On `(B, C)` input `instance`
    and `group` act as `layer` does.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, kind: Norm, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.eps = 1e-5
        self.momentum = 0.1
        if kind != "none":
            self.scale = nn.Parameter(torch.ones(channels))
            self.bias = nn.Parameter(torch.zeros(channels))
        if kind == "batch":
            self.register_buffer("running_mean", torch.zeros(channels))
            self.register_buffer("running_var", torch.ones(channels))

    def forward(self, values: Tensor) -> Tensor:
        if self.kind == "none":
            return values
        if self.kind == "batch":
            flat = nn.functional.batch_norm(
                values.reshape(-1, values.shape[-1]), self.running_mean, self.running_var, self.scale, self.bias,
                self.training, self.momentum, self.eps,
            )  # fmt: skip
            return flat.view(values.shape)
        if self.kind == "layer" or values.ndim == 2:
            return nn.functional.layer_norm(values, values.shape[-1:], self.scale, self.bias, self.eps)
        if self.kind == "instance":  # of a single point nothing but the bias is left
            variance, mean = torch.var_mean(values, 1, correction=0, keepdim=True)
            return (values - mean) * (self.scale / (variance + self.eps).sqrt()) + self.bias
        normed = nn.functional.group_norm(values.transpose(1, 2), 8, self.scale, self.bias, self.eps)
        return normed.transpose(1, 2)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Factor and shift per channel that frozen batch norm comes to."""
        factor = self.scale / (self.running_var + self.eps).sqrt()
        return factor, self.bias - self.running_mean * factor

    def update(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics as batch norm does (unbiased variance)."""
        for running, latest in ((self.running_mean, mean), (self.running_var, variance * (count / max(1, count - 1)))):
            running.mul_(1 - self.momentum).add_(latest, alpha=self.momentum)


class SharedLayer(nn.Module):
    """Linear layer shared by all points, norm, and (unless told otherwise) ReLU, leaky with a `slope`."""

    def __init__(self, inputs: int, outputs: int, norm: Norm, activate: bool = True, slope: float = 0.0) -> None:
        super().__init__()
        # Batch and instance norm take any bias out again.
        self.linear = nn.Linear(inputs, outputs, bias=norm not in ("batch", "instance"))
        self.norm = PointNorm(norm, outputs)
        self.activate = activate
        self.slope = slope

    def normed(self, values: Tensor) -> Tensor:
        """Linear layer and norm; frozen batch norm as one product, which second derivatives are cheap through."""
        if self.norm.kind == "batch" and not self.training:
            factor, shift = self.norm.affine()
            return nn.functional.linear(values, self.linear.weight * factor[:, None], shift)
        normed: Tensor = self.norm(self.linear(values))
        return normed

    def forward(self, values: Tensor) -> Tensor:
        values = self.normed(values)
        if not self.activate:
            return values
        return nn.functional.leaky_relu(values, self.slope) if self.slope else values.relu()

    def fused(self, values: Tensor) -> Tensor:
        """`forward`, in one operation where batch norm is being trained, the layer widens, and ReLU follows."""
        norm, linear = self.norm, self.linear
        widens = linear.out_features > linear.in_features
        if not (self._trains_batch_norm(values) and self.activate and widens):
            return self.forward(values)
        rows = values.reshape(-1, values.shape[-1])
        out, mean, variance = linear_norm_relu(rows, linear.weight, norm.scale, norm.bias, norm.eps, slope=self.slope)
        with torch.no_grad():
            norm.update(mean, variance, len(rows))
        return out.view(*values.shape[:-1], -1)

    def max_pool(self, values: Tensor, bf16: bool) -> Tensor:
        """`forward` without the ReLU, then the max over points: `(B, N, K)` to `(B, F)`."""
        norm, weight = self.norm, self.linear.weight
        folds = self._trains_batch_norm(values)
        if not folds and (norm.kind != "batch" or self.training or torch.is_grad_enabled()):
            return self.normed(values).amax(1)
        if folds:
            pooled, mean, variance = linear_norm_max(values, weight, norm.scale, norm.bias, norm.eps, bf16)
            with torch.no_grad():
                norm.update(mean, variance, values.shape[0] * values.shape[1])
            return pooled
        factor, shift = norm.affine()
        sign = torch.where(factor >= 0, 1.0, -1.0)
        extremes, _ = extreme_points(values, weight, sign, bf16)
        return extremes * factor + shift

    def frozen_max_pool(self, values: Tensor) -> Tensor:
        """`max_pool` of frozen batch norm, of which only the products that are largest are differentiated.

        Cheaper than all products, as often as one likes; of equal ones the first counts. For `(B, N, K)` that no
        transform of `torch.func` wraps.
        """
        weight = self.linear.weight
        factor, shift = self.norm.affine()
        with torch.no_grad():
            _, places = extreme_points(values, weight, torch.where(factor >= 0, 1.0, -1.0))
        return (gather_points(values, places) * weight).sum(2) * factor + shift

    def _trains_batch_norm(self, values: Tensor) -> bool:
        """Whether batch norm is trained on enough rows for statistics from the input's covariance to pay.

        They cost as much as a layer that is as wide as its input, on as many rows and once more on its outputs.
        """
        width = values.shape[-1]
        return self.training and self.norm.kind == "batch" and values.numel() // width > 4 * width


class Trunk(nn.Module):
    """Shared layers and max-pool: `(B, N, inputs)` to `(B, widths[-1])`."""

    def __init__(self, inputs: int, widths: Sequence[int], norm: Norm) -> None:
        super().__init__()
        sizes = [inputs, *widths]
        self.layers = nn.ModuleList(
            SharedLayer(sizes[i], sizes[i + 1], norm, activate=i + 2 < len(sizes)) for i in range(len(widths))
        )

    def forward(self, points: Tensor, bf16: bool) -> Tensor:
        last, hidden = self._hidden(points)
        return last.max_pool(hidden, bf16).relu()

    def frozen(self, points: Tensor) -> Tensor:
        """`forward` of frozen batch norm, whose derivatives are cheap (`SharedLayer.frozen_max_pool`)."""
        last, hidden = self._hidden(points)
        return last.frozen_max_pool(hidden).relu()

    def _hidden(self, points: Tensor) -> tuple[SharedLayer, Tensor]:
        """The last layer, and what comes before it."""
        *shared, last = cast(list[SharedLayer], list(self.layers))
        for layer in shared:
            points = layer.fused(points)
        return last, points

    def point_features(self, points: Tensor) -> list[Tensor]:
        features = []
        for layer in self.layers:
            points = layer(points)
            features.append(points)
        return features


class TNet(nn.Module):
    """Transform of points or features: predicts a square matrix as an offset from the identity."""

    def __init__(self, norm: Norm, size: int = 3) -> None:
        super().__init__()
        self.trunk = Trunk(size, (64, 128, 1024), norm)
        self.head = nn.Sequential(SharedLayer(1024, 512, norm), SharedLayer(512, 256, norm), nn.Linear(256, size**2))

    def forward(self, points: Tensor, bf16: bool) -> Tensor:
        size = points.shape[2]
        offset: Tensor = self.head(self.trunk(points, bf16)).view(-1, size, size)
        return offset + torch.eye(size, device=points.device, dtype=points.dtype)

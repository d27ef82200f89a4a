"""PointNet (Qi, Su, Mo, Guibas, CVPR 2017) in the layout that is fast on a processor.

Shared layers are linear layers on `(B * N, C)`; the widest one is fused with its norm and the max-pool
while training and predicting (`pcdistill.models.fused`). We follow the paper's classifier without the
feature T-Net (as SADM does), with ReLU after the max-pool: the two commute.
"""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from pcdistill.models.base import Dropout, Network, NetworkFactory, Output, networks
from pcdistill.models.fused import bf16_available, extreme_points, linear_norm_max, linear_norm_relu

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
        *shared, last = cast(list[SharedLayer], list(self.layers))
        for layer in shared:
            points = layer.fused(points)
        return last.max_pool(points, bf16).relu()

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


class PointNet(Network):
    """PointNet's classifier.

    Args:
        num_classes: number of logits.
        widths: of the shared layers; the last one is the global feature's.
        head: widths of the fully connected layers.
        tnet: predict and apply a 3 x 3 input transform.
        norm: normalisation after every layer but the last.
        dropout: before the last layer.
        pooled_norm: normalise the global feature in front of the head. Max-pooled features are large and all
            positive, which makes plain gradient descent on the head slow and unstable.
    """

    stackable = True

    def __init__(
        self,
        num_classes: int,
        *,
        widths: Sequence[int] = (64, 128, 1024),
        head: Sequence[int] = (512, 256),
        tnet: bool = True,
        norm: Norm = "batch",
        dropout: float = 0.3,
        pooled_norm: Norm = "none",
    ) -> None:
        super().__init__()
        self.norm = norm
        self.tnet = TNet(norm) if tnet else None
        self.trunk = Trunk(3, widths, norm)
        sizes = [widths[-1], *head]
        first = [] if pooled_norm == "none" else [PointNorm(pooled_norm, widths[-1])]
        self.head = nn.Sequential(
            *first,
            *(SharedLayer(sizes[i], sizes[i + 1], norm) for i in range(len(head))),
            Dropout(dropout, sizes[-1]),
            nn.Linear(sizes[-1], num_classes),
        )

    def align(self, points: Tensor) -> Tensor:
        """The cloud in the frame that the T-Net chose, `(B, N, 3)`."""
        return points if self.tnet is None else points @ self.tnet(points, self._use_bf16())

    def forward(self, points: Tensor) -> Output:
        pooled = self.trunk(self.align(points), self._use_bf16())
        return Output(self.classify(pooled), pooled)

    def point_features(self, points: Tensor) -> list[Tensor]:
        features: list[Tensor] = self.trunk.point_features(self.align(points))
        return features

    def critical(self, points: Tensor) -> Tensor:
        pointwise = self.norm in ("layer", "none") or (self.norm == "batch" and not self.training)
        if self.tnet is not None or not pointwise:
            return points
        with torch.no_grad():
            chosen = torch.cat([_extreme(self.trunk.point_features(part)[-1]) for part in points.split(32)])
            most = int(chosen.sum(1).max())
            # Clouds with fewer critical points are filled up with others of theirs, which change nothing.
            index = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]
        return points.gather(1, index[..., None].expand(-1, -1, 3))

    def _use_bf16(self) -> bool:
        return self.bf16 and bf16_available()


def _extreme(features: Tensor) -> Tensor:
    """`(B, N)` bool: the points of `(B, N, F)` that hold the maximum of some channel; all where that is NaN."""
    return (~(features < features.amax(1, keepdim=True))).any(2)


@networks.register("pointnet")
def pointnet(num_classes: int) -> Network:
    """PointNet with input T-Net and batch norm: the network of the papers' tables (1.6 M parameters)."""
    return PointNet(num_classes)


@networks.register("pointnet-plain")
def pointnet_plain(num_classes: int) -> Network:
    """PointNet without T-Net ("vanilla" in the paper; 0.8 M parameters)."""
    return PointNet(num_classes, tnet=False)


@networks.register("pointnet-layernorm")
def pointnet_layernorm(num_classes: int) -> Network:
    """PointNet without T-Net and with layer norm: no running statistics."""
    return PointNet(num_classes, tnet=False, norm="layer")


@networks.register("pointnet-small")
def pointnet_small(num_classes: int) -> Network:
    """Narrow PointNet without T-Net: the surrogate that the network bank is made of."""
    return PointNet(num_classes, widths=(64, 128, 256), head=(128,), tnet=False, dropout=0.0)


@networks.register("pointnet-tiny")
def pointnet_tiny(num_classes: int) -> Network:
    """PointNet for small devices: no T-Net, 57,000 parameters with 40 classes, 19,000 products a point."""
    return PointNet(num_classes, widths=(32, 64, 256), head=(128,), tnet=False, dropout=0.0)


# Sizes of students, from 20,000 parameters to 3 million with 40 classes; two of them stand above. A device spends
# its time on the shared layers, so that it is these that the smallest ones are narrow in.
STUDENTS = ("nano", "tiny", "light", "medium", "plain", "wide")


@networks.register("pointnet-nano")
def pointnet_nano(num_classes: int) -> Network:
    """PointNet for the smallest devices: no T-Net, 20,000 parameters with 40 classes, 5,200 products a point."""
    return PointNet(num_classes, widths=(16, 32, 144), head=(72,), tnet=False, dropout=0.0)


@networks.register("pointnet-light")
def pointnet_light(num_classes: int) -> Network:
    """PointNet of 98,000 parameters with 40 classes, without T-Net; 29,000 products a point."""
    return PointNet(num_classes, widths=(32, 64, 384), head=(160,), tnet=False, dropout=0.0)


@networks.register("pointnet-medium")
def pointnet_medium(num_classes: int) -> Network:
    """PointNet of 290,000 parameters with 40 classes, without T-Net."""
    return PointNet(num_classes, widths=(64, 128, 512), head=(320, 128), tnet=False, dropout=0.1)


@networks.register("pointnet-wide")
def pointnet_wide(num_classes: int) -> Network:
    """PointNet of 3 million parameters with 40 classes, without T-Net."""
    return PointNet(num_classes, widths=(128, 256, 2048), head=(1024, 320), tnet=False)


def _small(norm: Norm) -> NetworkFactory:
    return lambda num_classes: PointNet(
        num_classes, widths=(64, 128, 256), head=(128,), tnet=False, norm=norm, dropout=0.0
    )


# The same without running statistics: what gradients and trajectories are matched on.
networks.register("pointnet-small-layernorm")(_small("layer"))
networks.register("pointnet-small-instancenorm")(_small("instance"))
networks.register("pointnet-small-groupnorm")(_small("group"))


@networks.register("pointnet-linear")
def pointnet_linear(num_classes: int) -> Network:
    """Narrow PointNet with a linear classifier on its normalised global feature: gradients are matched on it best."""
    return PointNet(num_classes, widths=(64, 128, 256), head=(), tnet=False, dropout=0.0, pooled_norm="batch")

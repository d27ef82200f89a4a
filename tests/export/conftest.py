"""A small trained network, and its files, made once."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.commands.train import Train
from pcdistill.data import load
from pcdistill.export import card_of, export_onnx, folded
from pcdistill.models import Network, seeded
from pcdistill.training.trained import Trained, load_network


class Made(NamedTuple):
    """Files of one network, and the clouds that it was trained on."""

    trained: Trained
    clouds: PointClouds
    weights: Path
    float32: Path
    int8: Path


@pytest.fixture(scope="session")
def made(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A `pointnet-tiny` of 30 steps in all its formats; leave it as it is."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("exported")
    weights, float32, int8 = (folder / name for name in ("net.safetensors", "net.onnx", "net8.onnx"))
    Train(source=str(tiny_file), output=weights, points=64, network="pointnet-tiny", train_steps=30).run([].append)
    trained, clouds = load_network(weights), load(str(tiny_file), "train", points=64)
    network = folded(trained.network)  # type: ignore[arg-type]
    export_onnx(network, trained, float32, card_of(trained))
    export_onnx(network, trained, int8, card_of(trained), clouds)
    return Made(trained, clouds, weights, float32, int8)


def points_of(clouds: int, points: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    random = torch.Generator().manual_seed(1000 * clouds + points)
    return 0.4 * torch.randn(clouds, points, 3, dtype=dtype, generator=random)


def stirred(network: Network) -> Network:
    """A network with norms, in evaluation mode, moved away from its start: some scales are negative."""
    with torch.no_grad(), seeded(0):
        for name, value in network.named_parameters():
            if name.endswith(("scale", "bias")):
                value += 0.7 * torch.randn_like(value)
        for _ in range(3):
            network.train()(points_of(6, 12, next(network.parameters()).dtype))
    return network.eval()

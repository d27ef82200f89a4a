"""The real thing, where there is one: the processor's losses up to rounding, the whole way, and memory given back."""

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import pcdistill as pcd
from pcdistill.condense.loop import DistillSettings, distill
from pcdistill.core.devices import resolved
from pcdistill.matching import objectives
from pcdistill.models import networks
from pcdistill.storage import Budget, storages
from pcdistill.training.loop import train_networks
from pcdistill.training.recipe import Recipe
from tests.devices.test_distilling import OPTIONS

DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else ""

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not DEVICE, reason="no accelerator here")]


@pytest.fixture(scope="module")
def shapes() -> pcd.PointClouds:
    return pcd.load("shapes", "train", points=256)[::5]


@pytest.fixture(autouse=True)
def _exact() -> Any:
    """Products in float32 as it is, without TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_auto_finds_it() -> None:
    assert resolved("auto") == DEVICE


@pytest.mark.parametrize("name", objectives)
def test_losses_of_twenty_steps_are_the_processors(name: str, shapes: pcd.PointClouds) -> None:
    """The bank is made on both: what is compared is all of it."""
    losses = []
    for device in ("cpu", DEVICE):
        first = pcd.select(shapes, method="random", clouds_per_class=1, points=32).clouds
        storage = storages["points"].from_clouds(first, Budget(1, 32))
        objective = objectives[name](**OPTIONS.get(name, {"bank": {"networks": 2, "trained_steps": (2, 4)}}))
        losses.append(distill(shapes, storage, objective, DistillSettings(steps=20, lr=0.01), device=device).losses)
    torch.testing.assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", networks)
def test_every_network_learns_there(name: str, shapes: pcd.PointClouds) -> None:
    recipe = Recipe(name="brief", steps=3, batch=8, lr=1e-3, bf16=False)
    trained = train_networks(name, shapes, recipe, [0, 1], device=DEVICE)
    for network in trained:
        assert all(value.isfinite().all() for value in network.state_dict().values())


def test_the_whole_way(shapes: pcd.PointClouds, tmp_path: Path) -> None:
    """What `demo` does, shorter: select, distil, evaluate; the file says where it was made."""
    brief = pcd.protocol("tuned", test_points=256).changed(steps=60)
    made = pcd.distill(shapes, clouds_per_class=1, points=64, steps=40, snapshots=1, device=DEVICE)
    made.save(tmp_path / "made.h5")
    read = pcd.Artefact.load(tmp_path / "made.h5")
    assert " on " in read.metadata.hardware
    accuracy = pcd.evaluate(read, shapes, brief, network="pointnet-tiny", seeds=3, device=DEVICE).accuracies
    assert min(accuracy) > 0.3, json.dumps(accuracy)  # of ten classes


@pytest.mark.skipif(DEVICE != "cuda", reason="memory is counted by CUDA")
def test_memory_is_given_back(shapes: pcd.PointClouds) -> None:
    pcd.distill(shapes, clouds_per_class=1, points=64, steps=3, device=DEVICE)  # handles and workspaces of libraries
    gc.collect()
    before = torch.cuda.memory_allocated()
    pcd.distill(shapes, clouds_per_class=1, points=64, steps=3, device=DEVICE)
    gc.collect()
    assert torch.cuda.memory_allocated() <= before

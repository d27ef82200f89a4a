"""Training, testing, teaching, choosing and auditing on a device, with the processor's numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.commands.predict import Predict
from pcdistill.evaluation import evaluate, train
from pcdistill.evaluation.audit import audit
from pcdistill.models import build, networks
from pcdistill.selection import network_descriptor
from pcdistill.teaching import Online, OnPolicy, OnPolicyOptions, Teacher, Watched, read_teacher
from pcdistill.teaching.adaptation import adapt
from pcdistill.teaching.candidates import snapshots
from pcdistill.training import loop
from pcdistill.training.augment import Augmentation
from pcdistill.training.recipe import Recipe, protocol
from pcdistill.training.supervision import Supervision
from pcdistill.training.trained import Trained, load_network, save_network
from tests.devices.accelerator import AVAILABLE, DEVICE, accelerator

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this torch lets no device be simulated")

# Without dropped points, of which copies take the place: which of them is a neighbour is open. With SGD, which does not
# make much of the last bits of gradients that are almost zero.
EVERYTHING = Augmentation(scale=1.2, stretch=1.2, shift=0.1, jitter=0.01, tilt=8, rotate="z", mirror=True, partial=0.3)
BRIEF = Recipe(
    name="brief", steps=2, batch=4, lr=0.01, augmentation=EVERYTHING, label_smoothing=0.1, optimizer="sgd", bf16=False
)


def few(clouds: PointClouds) -> PointClouds:
    """Six clouds, two of every class, of 24 points."""
    return clouds[torch.tensor([0, 1, 8, 9, 16, 17])].with_points(clouds.points[::4, :24])


def predicted(clouds: PointClouds, name: str, device: str, seeds: list[int], recipe: Recipe) -> Tensor:
    trained = loop.train_networks(name, clouds, recipe, seeds, device=device)
    return torch.stack([loop.predict(network, clouds.points) for network in trained])


# Waits of a step of training: for the loss; of networks with neighbours in balls for how many there are.
FULL = ("pointnet2", "pointnet2-msg-half", "pointnext", "pointmlp")


@pytest.mark.parametrize("name", networks)
def test_every_network_is_trained_and_tested_with_the_processors_numbers(name: str, tiny_clouds: PointClouds) -> None:
    clouds = few(tiny_clouds)
    # Batch norm over a few points makes much of last bits, too.
    careful = BRIEF.model_copy(update={"lr": 1e-4, "steps": 1})
    expected = predicted(clouds, name, "cpu", [0], careful)
    with accelerator() as waits:
        found = predicted(clouds, name, DEVICE, [0], careful)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    if not name.startswith(FULL):
        assert waits.total() == 2, waits  # for the loss, and for the prediction


def test_seeds_at_once_wait_once_a_step(tiny_clouds: PointClouds) -> None:
    changes = {
        "ema": 0.9,
        "optimizer": "adamw",
        "normalise": True,
        "augmentation": EVERYTHING.model_copy(update={"drop": 0.3}),
    }
    clouds, recipe = few(tiny_clouds), BRIEF.model_copy(update=changes)
    expected = predicted(clouds, "pointnet-tiny", "cpu", [0, 1, 2], recipe)
    with accelerator() as waits:
        found = predicted(clouds, "pointnet-tiny", DEVICE, [0, 1, 2], recipe)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert waits.total() == recipe.steps + 3, waits  # and for every network's predictions


def test_an_evaluation_gives_the_processors_scores(tiny_clouds: PointClouds) -> None:
    plan = protocol("tuned", "pointnet-tiny").changed(steps=2, bf16=False)
    plan = plan.model_copy(update={"test_points": 24, "thin": True})
    expected = evaluate(few(tiny_clouds), tiny_clouds, plan, seeds=2)
    with accelerator():
        assert evaluate(few(tiny_clouds), tiny_clouds, plan, seeds=2, device=DEVICE).runs == expected.runs


def trained_on(clouds: PointClouds, device: str, supervision: Supervision | None = None) -> Trained:
    plan = protocol("tuned", "pointnet-nano").changed(steps=2, bf16=False, optimizer="sgd")
    return train(few(clouds), plan, seed=1, device=device, supervision=supervision)


def test_networks_are_kept_and_read_wherever_they_were_trained(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    save_network(tmp_path / "here.safetensors", trained_on(tiny_clouds, "cpu"))
    with accelerator():
        there = trained_on(tiny_clouds, DEVICE)
        assert next(there.network.parameters()).device.type == DEVICE
        save_network(tmp_path / "there.safetensors", there)
    here, back = (load_network(tmp_path / name).network for name in ("here.safetensors", "there.safetensors"))
    torch.testing.assert_close(back.state_dict(), here.state_dict(), rtol=1e-5, atol=1e-6)
    assert f'"{DEVICE}' in (tmp_path / "there.safetensors").read_bytes()[:4096].decode(errors="replace")


def test_files_are_guessed_on_the_device(tiny_clouds: PointClouds, tmp_path: Path) -> None:
    trained = trained_on(tiny_clouds, "cpu")
    save_network(tmp_path / "net.safetensors", trained)
    np.save(tmp_path / "cloud.npy", tiny_clouds.points[3])
    said: dict[str, list[str]] = {}
    for device in ("cpu", DEVICE):
        with accelerator():
            files = {"model": tmp_path / "net.safetensors", "files": [tmp_path / "cloud.npy"]}
            command = Predict.checked({**files, "json": True, "device": device})
            command.run(said.setdefault(device, []).append)
    here, there = (json.loads(said[device][0])["guesses"][0]["probabilities"] for device in ("cpu", DEVICE))
    assert there == pytest.approx(here, abs=1e-5)


def policies(kind: str) -> Callable[[Teacher], Supervision]:
    options = {"warm": 0.0} if kind != "move" else {"warm": 0.0, "choose": "disagreement"}
    return lambda teacher: OnPolicy(teacher, OnPolicyOptions(kind=kind, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "supervised",
    [Online, lambda teacher: Watched(Online(teacher), teacher, 1, []), *map(policies, ["relabel", "augment", "mix"]),
     policies("move")],
)  # fmt: skip
def test_a_teacher_teaches_on_the_device(
    supervised: Callable[[Teacher], Supervision], tiny_clouds: PointClouds, tmp_path: Path
) -> None:
    file = tmp_path / "teacher.safetensors"
    save_network(file, trained_on(tiny_clouds, "cpu"))
    expected = trained_on(tiny_clouds, "cpu", supervised(read_teacher([file], 2.0)))
    with accelerator():
        teacher = read_teacher([file], 2.0, DEVICE)
        found = trained_on(tiny_clouds, DEVICE, supervised(teacher)).network.cpu()
    torch.testing.assert_close(found.state_dict(), expected.network.state_dict(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("how", ["whole", "head", "lora"])
def test_a_network_is_adapted_where_it_is(how, tiny_clouds: PointClouds) -> None:  # type: ignore[no-untyped-def]
    old = trained_on(tiny_clouds, "cpu")
    new = PointClouds(few(tiny_clouds).points, few(tiny_clouds).labels, ("ring", "cone", "disc"))
    expected = adapt(old, [], new, how, BRIEF, 0)
    with accelerator():
        found = adapt(old._replace(network=old.network.to(DEVICE)), [few(tiny_clouds)][:0], new, how, BRIEF, 0)
        assert next(found.network.parameters()).device.type == DEVICE
        back = found.network.cpu().state_dict()
    torch.testing.assert_close(back, expected.network.state_dict(), rtol=1e-5, atol=1e-6)


def test_snapshots_of_a_teacher_are_on_the_processor(tiny_clouds: PointClouds) -> None:
    expected = snapshots("pointnet-nano", few(tiny_clouds), BRIEF, 0, [1, 2])
    with accelerator():
        found = snapshots("pointnet-nano", few(tiny_clouds), BRIEF, 0, [1, 2], device=DEVICE)
    for step, network in expected.items():
        torch.testing.assert_close(found[step].state_dict(), network.state_dict(), rtol=1e-5, atol=1e-6)


def test_features_to_choose_by_are_made_on_the_device(tiny_clouds: PointClouds) -> None:
    network = build("pointnet-nano", 3, 0)
    expected = network_descriptor(tiny_clouds, network)
    with accelerator():
        torch.testing.assert_close(network_descriptor(tiny_clouds, network.to(DEVICE)), expected, rtol=0, atol=0)


def test_an_audit_finds_the_same(tiny_clouds: PointClouds) -> None:
    made = few(tiny_clouds)
    expected = audit(made, tiny_clouds, tiny_clouds, bits=6)
    with accelerator():
        found = audit(made, tiny_clouds, tiny_clouds, bits=6, device=DEVICE)
    assert found.overall == expected.overall
    torch.testing.assert_close(found.near._asdict(), expected.near._asdict(), rtol=0, atol=0)

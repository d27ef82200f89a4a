"""Gradient matching: what is kept of the real set, and the loss written out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.matching import BankConfig
from pcdistill.matching.draws import step_generator
from pcdistill.matching.gm import GradientMatching
from pcdistill.training.augment import Augmentation, apply
from tests.conftest import of_class

Configure = Callable[..., BankConfig]
SMOOTH = "pointnet-small-layernorm"


def made(real: PointClouds, bank: BankConfig, **options: Any) -> GradientMatching:
    objective = GradientMatching(bank, **options)
    objective.prepare(real)
    return objective


def guess() -> PointClouds:
    cubes = torch.rand(6, 20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    return PointClouds(cubes, torch.arange(3).repeat_interleave(2), ("ball", "box", "ring"))


def naive(network: nn.Module, points: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradient of the mean loss of whole clouds by the module's own weights."""
    network.requires_grad_().zero_grad()
    nn.functional.cross_entropy(network(points).logits, labels).backward()
    found = {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}
    network.requires_grad_(False)
    return found


@pytest.mark.parametrize("network", [SMOOTH, "pointnet-small", "pointnet-small-instancenorm"])
@pytest.mark.parametrize("joint", [False, True])
def test_real_gradients_are_those_of_all_clouds(
    network: str, joint: bool, tiny_clouds: PointClouds, configure: Configure
) -> None:
    objective = made(tiny_clouds, configure(network=network), joint=joint)
    assert objective.minibatch == ("clouds" if joint else "classes")
    for member, found in zip(objective.bank.members, objective.real, strict=True):
        parts = [tiny_clouds] if joint else [of_class(tiny_clouds, label) for label in range(3)]
        for group, part in enumerate(parts):
            expected = naive(member.network, part.points, part.labels)
            assert set(found) == set(expected)
            for name, value in expected.items():
                torch.testing.assert_close(found[name][group], value, rtol=1e-3, atol=1e-5)


def test_real_gradients_are_those_of_some_clouds_and_points(tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = made(tiny_clouds, configure(network=SMOOTH, pooled_samples=1, pooled_points=9, networks=1))
    network, box = objective.bank.members[0].network, of_class(tiny_clouds, 1)
    gaps = [
        (objective.real[0]["head.2.weight"][1] - naive(network, box.points[[k], :9], box.labels[[k]])["head.2.weight"])
        for k in range(8)
    ]
    assert sum(float(gap.abs().max()) < 1e-5 for gap in gaps) == 1


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("distance", ["layer", "cosine", "mse"])
def test_loss_is_the_distance_of_gradients(
    joint: bool, distance: str, tiny_clouds: PointClouds, configure: Configure
) -> None:
    changed = Augmentation(stretch=1.3, jitter=0.01)
    objective = made(tiny_clouds, configure(network=SMOOTH), joint=joint, distance=distance, augmentation=changed)
    generator = step_generator("objective", 0, 5)
    network = objective.bank.members[int(torch.randint(2, (), generator=generator))].network
    moved = apply(guess().points, changed.draw(6, 20, generator))
    parts = [torch.arange(6)] if joint else [torch.tensor([2 * label, 2 * label + 1]) for label in range(3)]
    total = 0.0
    for own in parts:
        real = tiny_clouds if joint else of_class(tiny_clouds, int(guess().labels[own[0]]))
        ours, theirs = naive(network, moved[own], guess().labels[own]), naive(network, real.points, real.labels)
        if distance == "layer":
            total += sum(float((1 - nn.functional.cosine_similarity(value, theirs[name], 1)).mean())
                         for name, value in ours.items() if value.ndim == 2)  # fmt: skip
        else:
            one, two = (torch.cat([value.flatten() for value in part.values()]) for part in (ours, theirs))
            cosine = float(nn.functional.cosine_similarity(one, two, 0))
            total += 1 - cosine if distance == "cosine" else float((one - two).square().sum() / two.square().sum())
    assert objective.loss(guess(), 5).item() == pytest.approx(total / len(parts), rel=1e-3)


def test_real_gradients_are_computed_once(
    tiny_clouds: PointClouds, configure: Configure, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    compute = GradientMatching._real_gradients
    monkeypatch.setattr(GradientMatching, "_real_gradients", lambda *given: (calls.append(True), compute(*given))[1])
    first = made(tiny_clouds, configure(network=SMOOTH))
    assert sorted(path.name for path in own_cache.iterdir()) == ["banks", "gradients"]
    again = made(tiny_clouds, configure(network=SMOOTH), distance="mse", seed=3)  # which real gradients do not know
    assert (len(calls), again.seconds) == (1, first.seconds)
    for one, two in zip(first.real, again.real, strict=True):
        assert set(one) == set(two)
        assert all(torch.equal(value, two[name]) for name, value in one.items())
    made(tiny_clouds, configure(network=SMOOTH), joint=True)
    made(tiny_clouds, configure(network=SMOOTH, pooled_samples=3))
    made(tiny_clouds.with_points(-tiny_clouds.points), configure(network=SMOOTH))
    assert len(calls) == 4


def test_of_the_bank_only_the_networks_are_kept(tiny_clouds: PointClouds, configure: Configure) -> None:
    member = made(tiny_clouds, configure(network=SMOOTH, quantiles=8)).bank.members[0]
    assert (member.profiles, member.maps.numel(), member.pooled.shape[1]) == ([], 0, 1)

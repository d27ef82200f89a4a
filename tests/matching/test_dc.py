"""DC and DSA: the loops of the papers written out, and that they can be interrupted anywhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pcdistill.clouds import PointClouds
from pcdistill.condense.loop import DistillSettings, Follower, Interrupted, distill
from pcdistill.core.errors import InputError
from pcdistill.matching import dc
from pcdistill.matching.dc import DatasetCondensation, SiameseAugmentation
from pcdistill.matching.draws import random_clouds
from pcdistill.matching.surrogates import untrained_network
from pcdistill.storage.points import StoredPoints
from pcdistill.training.augment import Augmentation
from pcdistill.training.augment import apply as apply_draw
from tests.conftest import of_class

CLASSES = ("ball", "box", "ring")
OPTIONS: dict[str, Any] = {"outer": 3, "inner": 2, "network_lr": 0.01, "real_clouds": 8, "real_points": 64}


def guess(step: int = 0) -> PointClouds:
    cubes = torch.rand(6, 20, 3, generator=torch.Generator().manual_seed(step)) - 0.5
    return PointClouds(cubes, torch.arange(3).repeat_interleave(2), CLASSES)


def made(real: PointClouds, kind: type[DatasetCondensation] = DatasetCondensation, **options: Any) -> Any:
    objective = kind(**{**OPTIONS, **options})
    objective.prepare(real)
    return objective


def naive_loss(network: nn.Module, ours: PointClouds, theirs: PointClouds) -> float:
    """Layer-wise distance, the mean over classes, by the module's own gradients of whole clouds."""
    total = 0.0
    for label in range(3):
        slopes = []
        for part in (of_class(ours, label), of_class(theirs, label)):
            loss = nn.functional.cross_entropy(network(part.points).logits, part.labels)
            slopes.append([value for value in torch.autograd.grad(loss, list(network.parameters())) if value.ndim == 2])
        for a, b in zip(*slopes, strict=True):
            silent = ~(a.any(1) | b.any(1))  # units that no cloud excites agree
            total += float((1 - nn.functional.cosine_similarity(a, b, 1)).masked_fill(silent, 0).mean())
    return total / 3


@pytest.mark.parametrize("network", ["pointnet-small-layernorm", "pointnet-small, pointnet-small-instancenorm"])
def test_networks_are_trained_on_the_synthetic_set(network: str, tiny_clouds: PointClouds) -> None:
    """Two episodes by torch's own SGD, the synthetic set another one at every step."""
    objective = made(tiny_clouds, bank={"network": network, "seed": 1}, seed=2)
    names = [name.strip() for name in network.split(",")]
    for step in range(5):
        found = objective.loss(guess(step), step).item()
        if step % 3 == 0:
            episode = step // 3
            student = untrained_network(tiny_clouds, names[episode % len(names)], 64, 1002, episode).requires_grad_()
            optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
        else:
            for _ in range(2):
                optimizer.zero_grad()
                nn.functional.cross_entropy(student(guess(step).points).logits, guess().labels).backward()
                optimizer.step()
        weights = objective.trained[1]
        for name, value in student.named_parameters():
            torch.testing.assert_close(weights[name], value.detach(), rtol=1e-3, atol=1e-5)
        assert found == pytest.approx(naive_loss(student, guess(step), tiny_clouds), rel=1e-3)


def test_every_episode_has_a_network_of_its_own(tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, outer=2, inner=1)
    found = []
    for step in range(6):
        objective.loss(guess(), step)
        found.append(objective.trained[1]["head.2.weight"])
    assert all(not torch.equal(one, two) for k, one in enumerate(found) for two in found[:k])
    other = made(tiny_clouds, seed=1)
    other.loss(guess(), 0)
    assert not torch.equal(other.trained[1]["head.2.weight"], found[0])


def test_no_inner_steps_leave_the_network_random(tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, inner=0)
    losses = {objective.loss(guess(), step).item() for step in range(3)}
    assert max(losses) - min(losses) < 1e-5  # the real clouds are all of them at every step


def test_real_clouds_are_drawn_anew_from_the_classes_that_occur(
    tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[int], int]] = []
    draw = random_clouds

    def recorded(*given: Any) -> tuple[Tensor, Tensor]:
        points, labels = draw(*given)
        seen.append((labels.tolist(), hash(points.numpy().tobytes())))
        return points, labels

    monkeypatch.setattr(dc, "random_clouds", recorded)
    objective = made(tiny_clouds, real_clouds=2)
    for step in range(3):
        objective.loss(guess()[[0, 1, 4]], step)
    assert [labels for labels, _ in seen] == [[0, 0, 2, 2]] * 3
    assert len({points for _, points in seen}) == 3


def test_siamese_draw_is_shared(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix and one shift for all real and synthetic clouds of a step; the inner loop draws one a cloud."""
    draws: list[Any] = []
    monkeypatch.setattr(dc, "apply", lambda points, draw: (draws.append(draw), apply_draw(points, draw))[1])
    changed = Augmentation(stretch=1.3, shift=0.1, tilt=8, rotate="z", jitter=0.01, drop=0.5)
    objective = made(tiny_clouds, SiameseAugmentation, augmentation=changed, inner=1)
    shared = []
    for step in range(2):
        objective.loss(guess(), step)
        real, ours = draws[-2:]
        assert (len(real.matrix), len(ours.matrix)) == (24, 6)
        for one, two in ((real.matrix, ours.matrix), (real.shift, ours.shift)):
            assert torch.equal(one, two[:1].expand_as(one))
            assert torch.equal(two, two[:1].expand_as(two))
        assert real.noise is real.keep is ours.noise is ours.keep is None
        shared.append(ours.matrix[0])
    assert not torch.equal(*shared)
    (inner,) = [draw for draw in draws if draw.noise is not None]
    assert len(inner.matrix.unique(dim=0)) == 6


def test_dsa_has_no_loss_at_the_real_set_under_any_draw(tiny_clouds: PointClouds) -> None:
    objective = made(tiny_clouds, SiameseAugmentation)
    for step in range(4):
        assert objective.loss(tiny_clouds, step) < 1e-4 * objective.loss(guess(), step)


def test_real_set_with_soft_labels_is_refused() -> None:
    soft = PointClouds(guess().points, torch.full((6, 3), 1 / 3), CLASSES)
    with pytest.raises(InputError, match="one class index per cloud"):
        made(soft)


# Interruption


def run(real: PointClouds, kind: type[DatasetCondensation], **more: Any) -> tuple[list[float], Tensor]:
    storage = StoredPoints(guess().points.clone(), guess().hard_labels, 32, CLASSES)
    how = DistillSettings(steps=7, lr=0.02, batch=3)
    done = distill(real, storage, kind(**{**OPTIONS, "real_clouds": 2}), how, **more)
    return done.losses, storage.points.detach()


@pytest.mark.parametrize("kind", [DatasetCondensation, SiameseAugmentation])
@pytest.mark.parametrize("last", [3, 5])
def test_resumed_within_an_episode_is_uninterrupted(
    kind: type[DatasetCondensation],
    last: int,
    tiny_clouds: PointClouds,
    stop_after: Callable[[int], Follower],
    tmp_path: Path,
) -> None:
    losses, points = run(tiny_clouds, kind)
    with pytest.raises(Interrupted, match=f"after step {last} of 7"):
        run(tiny_clouds, kind, checkpoint=tmp_path / "run", followers=[stop_after(last)])
    found = run(tiny_clouds, kind, checkpoint=tmp_path / "run", resume=True)
    assert found[0] == losses
    assert torch.equal(found[1], points)


@pytest.mark.parametrize("function", ["mean_gradient", "random_clouds", "gradient_distance"])
@pytest.mark.parametrize("call", [1, 2, 4])
def test_interrupted_within_a_step_that_is_then_repeated(
    function: str, call: int, tiny_clouds: PointClouds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner loop is not run twice, nor half."""
    left, usual = [call], getattr(dc, function)

    def interrupted(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return usual(*given)

    losses, points = run(tiny_clouds, SiameseAugmentation)
    with monkeypatch.context() as patch:
        patch.setattr(dc, function, interrupted)
        with pytest.raises(Interrupted):
            run(tiny_clouds, SiameseAugmentation, checkpoint=tmp_path / "run")
    found = run(tiny_clouds, SiameseAugmentation, checkpoint=tmp_path / "run", resume=True)
    assert found[0] == losses
    assert torch.equal(found[1], points)

"""Kernel ridge regression against scikit-learn, and what the objective promises beyond the contract."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from pcdistill.clouds import PointClouds, Weighted
from pcdistill.condense.loop import DistillSettings, distill
from pcdistill.core.errors import InputError
from pcdistill.matching import Bank, BankConfig
from pcdistill.matching.gathering import BankRequest
from pcdistill.matching.krr import KernelRidgeRegression, ridge_predictions, standardised
from pcdistill.storage import Budget
from pcdistill.storage.points import StoredPoints
from pcdistill.training.augment import Augmentation

Configure = Callable[..., BankConfig]


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
def test_predictions_are_those_of_scikit_learn(ridge: float) -> None:
    features, targets, queries = normal(0, 9, 5), normal(1, 9, 3), normal(2, 20, 5)
    alpha = ridge * features.square().sum(1).mean().item()  # relative to the kernel's diagonal
    reference = KernelRidge(alpha=alpha, kernel="linear").fit(features.numpy(), targets.numpy())
    found = ridge_predictions(features, targets, queries, ridge)
    np.testing.assert_allclose(found.numpy(), reference.predict(queries.numpy()), rtol=1e-8, atol=1e-10)


def test_standardised_features_have_unit_mean_square_and_a_constant() -> None:
    rows = 5 + 3 * normal(0, 400, 64)
    spread, centre = torch.std_mean(rows, 0, correction=0)
    found = standardised(rows, centre, spread)
    assert found.shape == (400, 65)
    torch.testing.assert_close(found[:, :-1].mean(0), torch.zeros(64, dtype=torch.float64), atol=1e-12, rtol=0)
    assert found[:, :-1].square().sum(1).mean().item() == pytest.approx(1, rel=2e-3)
    torch.testing.assert_close(found[:, -1], torch.full((400,), 1 / 8, dtype=torch.float64))


def test_loss_equals_a_separate_computation(tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = KernelRidgeRegression(configure(networks=1), augmentation=Augmentation(), ridge=0.3)
    objective.prepare(tiny_clouds)
    synthetic = tiny_clouds[[0, 1, 8, 9, 16, 17]]
    member = objective.bank.members[0]
    rows = member.pooled.flatten(0, 1).double()
    with torch.no_grad():
        features = member.network.eval()(synthetic.points).global_feature.double()
    centre, spread = rows.mean(0), rows.std(0, correction=0)
    x, q = (np.asarray(standardised(part, centre, spread)) for part in (features, rows))
    truth = np.repeat(np.eye(3), len(rows) // 3, axis=0) - 1 / 3
    alpha = 0.3 * np.square(x).sum(1).mean()
    guesses = KernelRidge(alpha=alpha).fit(x, np.eye(3)[synthetic.labels] - 1 / 3).predict(q)
    expected = np.square(guesses - truth).sum(1).mean()
    assert objective.loss(synthetic, 0).item() == pytest.approx(expected, rel=1e-4)


def test_augmentation_is_drawn_anew_at_every_step(tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = KernelRidgeRegression(configure(networks=1), augmentation=Augmentation(stretch=1.5))
    objective.prepare(tiny_clouds)
    losses = [objective.loss(tiny_clouds, step).item() for step in (0, 1, 0)]
    assert losses[0] == losses[2]
    assert losses[0] != losses[1]


def test_minibatches_hold_clouds_of_every_class(tiny_clouds: PointClouds, configure: Configure) -> None:
    seen: list[Any] = []

    class Watched(KernelRidgeRegression):
        def loss(self, decoded: PointClouds, step: int) -> torch.Tensor:
            seen.append(decoded.class_counts.tolist())
            return super().loss(decoded, step)

    budget = Budget(clouds_per_class=8, points=64, bits=8)
    storage = StoredPoints.from_clouds(tiny_clouds, budget)
    distill(tiny_clouds, storage, Watched(configure(networks=1)), DistillSettings(steps=3, lr=0.01, batch=10))
    assert set(map(tuple, seen)) == {(3, 3, 3)}  # three steps, and the judgement of the result


def test_one_class_is_refused(tiny_clouds: PointClouds, configure: Configure) -> None:
    single = PointClouds(tiny_clouds.points[:4], tiny_clouds.labels[:4], ("only",))
    with pytest.raises(InputError, match=r"^real set: 1 class, expected at least 2$"):
        KernelRidgeRegression(configure()).prepare(single)


def test_soft_labels_are_the_targets(tiny_clouds: PointClouds, configure: Configure) -> None:
    """Against scikit-learn; of class 2 there is no cloud, so its probabilities count for nothing."""
    objective = KernelRidgeRegression(configure(networks=1), augmentation=Augmentation(), ridge=0.3)
    objective.prepare(tiny_clouds)
    member, points = objective.bank.members[0], tiny_clouds.points[[0, 1, 8, 9]]
    labels = torch.tensor([[0.7, 0.1, 0.2], [0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.1, 0.5, 0.4]])
    rows = member.pooled[:2].flatten(0, 1).double()
    features = member.network(points).global_feature.double()
    centre, spread = rows.mean(0), rows.std(0, correction=0)
    x, q = (np.asarray(standardised(part, centre, spread)) for part in (features, rows))
    alpha = 0.3 * np.square(x).sum(1).mean()
    guesses = KernelRidge(alpha=alpha).fit(x, labels[:, :2].double().numpy() - 1 / 2).predict(q)
    expected = np.square(guesses - np.repeat(np.eye(2) - 1 / 2, len(rows) // 2, axis=0)).sum(1).mean()
    learned = labels.requires_grad_()
    loss = objective.loss(PointClouds(points, learned, tiny_clouds.class_names), 0)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    (slope,) = torch.autograd.grad(loss, learned)
    assert slope[:, :2].all()


def uneven(clouds: PointClouds) -> PointClouds:
    """8, 3 and 5 clouds of the classes."""
    return clouds[[*range(8), 8, 9, 10, *range(16, 21)]]


def reference(objective: KernelRidgeRegression, real: PointClouds, support: PointClouds, ridge: float) -> torch.Tensor:
    """The error by a plain solve in float64, all real clouds side by side; differentiable in the support's points."""
    member = objective.bank.members[0]
    network = copy.deepcopy(member.network).double()
    rows = network(real.points.double()).global_feature.detach()
    weight = 1 / (3 * real.class_counts[real.labels].double())
    centre = (weight[:, None] * rows).sum(0)
    spread = (weight[:, None] * (rows - centre).square()).sum(0).sqrt()
    x, q = (standardised(part, centre, spread) for part in (network.pooled(support.points.double()), rows))
    centred = torch.eye(3, dtype=torch.float64) - 1 / 3
    guesses = ridge_predictions(x, centred[support.labels], q, ridge)
    return (weight * (guesses - centred[real.labels]).square().sum(1)).sum()


@pytest.mark.parametrize("held", [0, 1, 6])
def test_error_on_all_targets_is_that_of_a_plain_solve(
    held: int, tiny_clouds: PointClouds, configure: Configure
) -> None:
    real, order = uneven(tiny_clouds), [0, 8, 16, 1, 9, 17, 2, 11, 18]
    support = tiny_clouds[order]
    objective = KernelRidgeRegression(
        configure(networks=1, quantiles=0, pooled_samples=1), augmentation=Augmentation(), ridge=0.3, targets="all"
    )
    objective.prepare(real)
    if held:
        assert objective.hold(support[:held])
    points = support.points.clone().requires_grad_()
    moving = PointClouds(points[held:], support.labels[held:], support.class_names)
    loss = objective.loss(moving, 0)
    expected = reference(objective, real, PointClouds(points, support.labels, support.class_names), 0.3)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    (slope,), (exact,) = (torch.autograd.grad(value, points) for value in (loss, expected))
    torch.testing.assert_close(slope[held:], exact[held:], rtol=1e-3, atol=1e-4 * exact.abs().max().item())
    assert not slope[:held].any()


def test_held_clouds_are_passed_once_by_every_network(tiny_clouds: PointClouds, configure: Configure) -> None:
    objective = KernelRidgeRegression(configure(networks=2, quantiles=0), targets="all")
    objective.prepare(tiny_clouds)
    objective.hold(tiny_clouds)
    sizes: list[int] = []
    for member in objective.bank.members:
        pooled = member.network.pooled
        member.network.pooled = lambda points, pooled=pooled: (sizes.append(len(points)), pooled(points))[1]  # type: ignore[method-assign]
    for step in range(12):
        objective.loss(tiny_clouds[:3], step)
    assert sorted(sizes) == [3] * 12 + [24] * 2


def test_banks_of_some_targets_are_found_as_before() -> None:
    some, all_targets = KernelRidgeRegression(), KernelRidgeRegression(targets="all")
    assert "moments" not in some.bank_config().facts()
    assert some.bank_config().facts() != all_targets.bank_config().facts()
    assert "targets" not in some.identity()
    assert all_targets.identity()["targets"] == "all"


def test_all_targets_count_by_their_weights(tiny_clouds: PointClouds, configure: Configure) -> None:
    """Of mean 1 in every class: a weight of 2 is a cloud twice, 0 not at all."""
    weights = torch.tensor([2.0, 2.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0] * 3)
    config = BankRequest.of(configure(networks=1, quantiles=0), moments=True)
    (member,) = Bank.of(Weighted(tiny_clouds, weights), config).members
    rows = member.network(tiny_clouds.points).global_feature.numpy()
    repeated = rows.repeat(weights.long().numpy(), axis=0)
    np.testing.assert_allclose(member.covariance, np.cov(repeated.T, bias=True), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(member.pooled_mean, repeated.reshape(3, 8, -1).mean(1), rtol=1e-4, atol=1e-5)

"""What the simulated device refuses and counts: without this, tests that pass on it would say nothing."""

import pytest
import torch

from tests.devices.accelerator import AVAILABLE, DEVICE, accelerator

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="this torch lets no device be simulated")


def test_numbers_are_those_of_the_processor() -> None:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with accelerator():
        leaf = values.to(DEVICE).requires_grad_()
        (slope,) = torch.autograd.grad((leaf @ leaf.T).exp().sum(), leaf)
        assert slope.device.type == DEVICE
        found = slope.cpu()
    here = values.clone().requires_grad_()
    torch.testing.assert_close(found, torch.autograd.grad((here @ here.T).exp().sum(), here)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    "mixing",
    [
        lambda here, there: there + here,
        lambda here, there: there @ here.T,
        lambda here, there: torch.where(here > 0, there, there),
        lambda here, there: there.index_add(0, torch.tensor([0]), there[:1]),
        lambda here, there: here[there[:, 0].long()],
        lambda here, there: there.numpy(),
        lambda here, there: there.double(),
        lambda here, there: torch.rand(3, device=DEVICE, generator=torch.Generator()),
    ],
)
def test_what_a_device_refuses_is_refused(mixing) -> None:  # type: ignore[no-untyped-def]
    with accelerator():
        there = torch.ones(2, 3, device=DEVICE)
        with pytest.raises((RuntimeError, TypeError)):
            mixing(torch.ones(2, 3), there)


def test_numbers_and_indices_of_the_processor_are_taken() -> None:
    with accelerator() as waits:
        there = torch.arange(6.0, device=DEVICE).view(2, 3)
        assert (there * torch.tensor(2.0) + 1)[torch.tensor([1, 0])].device.type == DEVICE
        assert waits.total() == 0


@pytest.mark.parametrize(
    "waiting",
    [
        lambda there: there.sum().item(),
        lambda there: there.tolist(),
        lambda there: there.cpu(),
        lambda there: there[there > 1],
        lambda there: there.unique(),
        lambda there: bool((there > 0).all()),
        lambda there: torch.linalg.solve(torch.eye(3, device=DEVICE), there.T),
    ],
)
def test_what_waits_is_counted(waiting) -> None:  # type: ignore[no-untyped-def]
    with accelerator() as waits:
        there = torch.ones(2, 3, device=DEVICE)
        assert waits.total() == 0
        waiting(there)
    assert waits.total() >= 1

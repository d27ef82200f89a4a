"""What objectives share: random numbers of a step and class means."""

import torch

from pcdistill.matching.base import class_means
from pcdistill.matching.draws import step_generator


def first_number(purpose: str, seed: int, step: int, below: int) -> int:
    return int(torch.randint(below, (), generator=step_generator(purpose, seed, step)))


def test_numbers_of_a_step_repeat_and_differ_from_those_of_others() -> None:
    known = torch.rand(4, generator=step_generator("network", 1, 2))
    assert torch.equal(torch.rand(4, generator=step_generator("network", 1, 2)), known)
    for other in (("network", 1, 3), ("network", 2, 2), ("clouds", 1, 2), ("network", 12, 0)):
        assert not torch.equal(torch.rand(4, generator=step_generator(*other)), known)


def test_purposes_are_independent() -> None:
    """Every pair of a network (of 5) and a class (of 4) comes about as often as every other."""
    steps = 2000
    pairs = torch.zeros(5, 4)
    for step in range(steps):
        pairs[first_number("network", 0, step, 5), first_number("clouds", 0, step, 4)] += 1
    expected = steps / 20
    chi_square = ((pairs - expected) ** 2 / expected).sum()
    assert chi_square < 44  # 19 degrees of freedom: one in a thousand


def test_class_means_of_the_classes_that_occur() -> None:
    values = torch.arange(12.0).view(4, 3)
    classes, means = class_means(values, torch.tensor([5, 1, 5, 5]))
    assert classes.tolist() == [1, 5]
    torch.testing.assert_close(means, torch.stack([values[1], values[[0, 2, 3]].mean(0)]))
    flat = class_means(values.double()[:, 0], torch.tensor([0, 0, 1, 1]))[1]
    assert flat.tolist() == [1.5, 7.5]

"""Quota `gain`: clouds where they gain most, and facility location within a class."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.selection import Dynamics, Watch, choose, class_gains, counts_by_gain
from pcdistill.selection.facility import likeness, select_facility
from pcdistill.selection.greedy import POWER


def falling(seed: int, sizes: list[int]) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.rand(size, generator=random, dtype=torch.float64).sort(descending=True).values for size in sizes]


def test_facility_by_hand() -> None:
    """Directions at 0, 10, 20 and 90 degrees; lengths do not matter. The second stands for the first three."""
    turns = torch.tensor([0.0, 10, 20, 90]).deg2rad()
    values = torch.stack([turns.cos(), turns.sin()], dim=1) * torch.tensor([1.0, 5, 2, 3])[:, None]
    alike = likeness(values.double())
    apart = 2 * math.sin(math.radians(5))  # the chord of ten degrees
    assert float(alike[0, 1]) == pytest.approx(math.exp(-(apart**2) / 0.5), rel=1e-5)
    generator = torch.Generator()
    assert select_facility(values, 4, generator).tolist() == [1, 3, 0, 2]
    assert select_facility(values, 2, generator, costs=torch.tensor([1.0, 99, 1, 1])).tolist()[0] in (0, 2)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.floats(1, 40))
def test_half_is_even_and_the_rest_goes_where_it_gains_most(seed: int, sizes: list[int], level: float) -> None:
    """Against one after the other to the class whose next cloud gains most."""
    gains = falling(seed, sizes)
    expected = [min(size, max(1, int(level / 2))) for size in sizes]
    while sum(expected) < min(round(level * len(sizes)), sum(sizes)):
        free = [k for k, size in enumerate(sizes) if expected[k] < size]
        expected[max(free, key=lambda k: float(gains[k][expected[k]]))] += 1
    assert list(counts_by_gain(level, gains)) == expected


def test_gains_of_classes_are_those_of_facility(tiny_clouds: PointClouds, told: Watch) -> None:
    costs = torch.rand(24, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.5
    for priced in (False, True):
        gains = class_gains(tiny_clouds, told, costs=(lambda part: costs) if priced else None)
        for label in range(3):
            own = slice(8 * label, 8 * label + 8)
            features = told(tiny_clouds).features[own]
            order = select_facility(features, 8, torch.Generator(), costs=costs[own] if priced else None)
            alike = likeness(features.double())
            got, expected = torch.zeros(8, dtype=torch.float64), list[float]()
            for cloud in order.tolist():
                gain = float((alike[:, cloud] - got).clamp_min(0).sum())
                gain /= float(costs[own][cloud] ** POWER) if priced else 1
                expected.append(min([gain, *expected]))
                got = torch.maximum(got, alike[:, cloud])
            assert gains[label].tolist() == pytest.approx(expected)


def test_a_class_of_many_shapes_gets_more(tiny_clouds: PointClouds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three classes of eight clouds one has eight directions, the others one."""
    features = torch.eye(10)[[*range(8), *[8] * 8, *[9] * 8]]

    def said(part: object) -> Dynamics:
        return Dynamics(features, torch.zeros(24), torch.zeros(24))

    gains = class_gains(tiny_clouds, said)
    assert counts_by_gain(4, gains) == (8, 2, 2)
    monkeypatch.setattr(choose, "CANDIDATES", 4)
    found = class_gains(tiny_clouds, lambda part: Dynamics(torch.ones(len(part.labels), 1), *torch.zeros(2, 12)))
    assert [len(own) for own in found] == [4, 4, 4]

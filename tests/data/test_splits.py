"""The validation split: seeded, stratified, a partition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import validation_split


def numbered(counts):
    """Clouds whose first coordinate is their number."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    points = torch.arange(len(labels), dtype=torch.float32)[:, None, None].expand(-1, 4, 3)
    return PointClouds(points, labels, tuple(f"c{label}" for label in range(len(counts))), {"split": "train"})


def numbers(clouds):
    return clouds.points[:, 0, 0].long().tolist()


@given(
    st.lists(st.integers(2, 12), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32),
    st.data(),
)
def test_partition_with_every_class_on_both_sides(counts, fraction, seed, data):
    clouds = numbered(counts)
    train, validation = validation_split(clouds, fraction, seed)
    assert sorted(numbers(train) + numbers(validation)) == list(range(len(clouds)))
    assert numbers(train) == sorted(numbers(train))
    for side in (train, validation):
        assert torch.equal(side.labels, clouds.labels[side.points[:, 0, 0].long()])
        assert (side.class_counts >= 1).all()
    for count, held in zip(counts, validation.class_counts.tolist(), strict=True):
        assert held == min(max(round(fraction * count), 1), count - 1)


def test_seeded():
    clouds = numbered([20, 20])
    assert numbers(validation_split(clouds, 0.3, 7)[1]) == numbers(validation_split(clouds, 0.3, 7)[1])
    assert len({tuple(numbers(validation_split(clouds, 0.3, seed)[1])) for seed in range(5)}) == 5


def test_provenance_names_the_sides():
    train, validation = validation_split(numbered([4, 4]), 0.25, 3)
    assert (train.provenance["split"], validation.provenance["split"]) == ("train", "validation")
    assert validation.provenance["split_rule"] == "validation side of train, 0.25 held out, seed 3"


def test_a_class_of_one_cloud():
    with pytest.raises(InputError, match=r"class 'c1' has 1 clouds, expected at least two"):
        validation_split(numbered([3, 1]), 0.5, 0)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_fraction(fraction):
    with pytest.raises(InputError, match=r"fraction: .*, expected a number between 0 and 1"):
        validation_split(numbered([3, 3]), fraction, 0)

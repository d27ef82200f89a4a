"""How classes share a set: quotas of clouds and of bytes, from a long tail, and what an artefact says of them."""

from typing import Any

import pytest
import torch

import pcdistill as pcd
from pcdistill.artefact.citing import cite
from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.selection import class_gains, counts_by_gain, select, watch
from pcdistill.storage.budget import counts_within

SIZES = (8, 4, 2)
SMALL: dict[str, Any] = {"points": 16, "bits": 8, "storage": "points"}  # 48 bytes a cloud


@pytest.fixture
def tail(tiny_clouds: PointClouds) -> PointClouds:
    return tiny_clouds[[*range(8), *range(8, 12), *range(16, 18)]]


@pytest.mark.parametrize(
    ("quota", "clouds", "counts"),
    [
        ("root", 3, (4, 3, 2)),  # 1.5 times 2.83, 2 and 1.41, rounded down
        ("proportional", 3, (5, 2, 1)),  # 0.75 times 8, 4 and 2 would be 10
        ("proportional", 4, (7, 3, 1)),
    ],
)
def test_clouds_are_shared_by_the_sizes_of_classes(
    quota: str, clouds: int, counts: tuple[int, ...], tail: PointClouds
) -> None:
    made = pcd.select(tail, method="random", clouds_per_class=clouds, quota=quota, **SMALL)
    assert sum(counts) <= 3 * clouds
    assert tuple(made.clouds.class_counts.tolist()) == counts
    assert made.metadata.selection["quota"] == quota


def test_clouds_go_where_they_gain_most(tail: PointClouds) -> None:
    made = pcd.select(tail, method="facility", clouds_per_class=3, quota="gain", seed=1, **SMALL)
    gains = class_gains(tail, lambda part: watch(part, 1))
    counts = counts_within(9, SIZES, lambda level: counts_by_gain(level, gains))
    assert sum(counts) == 9
    assert tuple(made.clouds.class_counts.tolist()) == counts
    assert torch.equal(made.clouds.labels, select(tail, "facility", counts, seed=1).labels)
    assert "zhao2026pruner" in cite(made.metadata)
    other = pcd.select(tail, method="random", clouds_per_class=3, quota="gain", seed=1, **SMALL)
    assert tuple(other.clouds.class_counts.tolist()) == counts
    assert "zhao2026pruner" in cite(other.metadata)
    assert "zhao2026pruner" not in cite(pcd.select(tail, method="random", clouds_per_class=2, **SMALL).metadata)


@pytest.mark.parametrize("quota", ["even", "root", "proportional", "gain"])
def test_bytes_are_shared_and_filled(quota: str, tail: PointClouds) -> None:
    made = pcd.select(tail, method="facility", bytes=9 * 48 + 6, quota=quota, **SMALL)
    assert made.storage.nbytes <= 9 * 48 + 6
    assert len(made.clouds) >= 7
    first = tuple(made.clouds.class_counts.tolist())
    assert first == (3, 3, 2) if quota == "even" else first[0] >= first[1] >= first[2] or quota == "gain"


def test_distilling_starts_from_unequal_classes(tail: PointClouds) -> None:
    few: dict[str, Any] = {"objective": "dm", "members": 1, "steps": 1, **SMALL}
    made = pcd.distill(tail, init="facility", clouds_per_class=2, quota="proportional", seed=1, **few)
    assert tuple(made.clouds.class_counts.tolist()) == (3, 1, 1)
    assert made.metadata.selection["features"] == "pointnet-tiny, 3 trained ones, seed 1"


def test_what_is_left_out_is_said(tail: PointClouds) -> None:
    made = pcd.select(tail, method="window", clouds_per_class=1, skip=0.5, **SMALL)
    assert made.metadata.selection["skip"] == 0.5
    plain = pcd.select(tail, method="window", clouds_per_class=1, skip=0.0, **SMALL)
    assert not torch.equal(made.clouds.points, plain.clouds.points)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"method": "medoid", "skip": 0.5}, "^skip: with method medoid, expected ccs or window$"),
        ({"storage": "morphed", "quota": "root"}, "^quota: root in storage 'morphed', expected even$"),
        ({"clouds_per_class": 5, "quota": "root"}, r"^clouds per class: 5, expected at most 4\.66667$"),
        ({"clouds_per_class": 3}, r"class 'ring' has 2 clouds, expected at least 3$"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], message: str, tail: PointClouds) -> None:
    with pytest.raises(InputError, match=message):
        pcd.select(tail, **{"clouds_per_class": 1, **SMALL, **asked})

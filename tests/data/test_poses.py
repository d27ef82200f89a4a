"""Poses of the clouds of a class, told by their spreads: shapes whose poses are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pcdistill.data.check import check
from pcdistill.data.poses import spread, turned
from pcdistill.data.procedural.shapes import generate
from pcdistill.geometry import random_rotations, rotate


def test_spread_is_the_covariance_of_trace_one() -> None:
    points = np.random.default_rng(0).normal(size=(5000, 3)) * (1, 2, 3) + 10
    np.testing.assert_allclose(spread(points.astype(np.float32)), np.diag([1, 4, 9]) / 14, atol=0.02)
    assert not spread(np.ones((4, 3))).any()


@pytest.mark.parametrize("axis", [None, "z", "none"])
def test_rotations_of_known_kind_are_found(axis: str | None) -> None:
    clouds = generate("train", 8, 256, 0)
    points = clouds.points
    if axis != "none":
        points = rotate(points, random_rotations(len(points), torch.Generator().manual_seed(0), axis=axis))
    names = [clouds.class_names[label] for label in clouds.labels.tolist()]
    expected = {None: "so3", "z": "z", "none": "none"}[axis]
    assert turned([spread(one) for one in points.numpy()], names) == expected


def test_nothing_is_said_where_nothing_is_told() -> None:
    balls = np.random.default_rng(0).normal(size=(40, 2000, 3))
    assert turned([spread(one) for one in balls], ["ball"] * 40) == "none"
    assert turned([], []) == "none"
    assert turned([spread(balls[0] * (1, 2, 3)), spread(balls[1] * (3, 2, 1))], ["a", "a"]) == "none"  # too few


ADVICE = {"psb19_2048.h5": "so3", "sydney14_1024.h5": "z", "dales5_1024.h5": "z", "grasp5_1024.h5": None}


@pytest.mark.parametrize(("name", "advice"), ADVICE.items())
def test_real_sets(data_root: Path, name: str, advice: str | None) -> None:
    if not (data_root / name).is_file():
        pytest.skip(f"{name} is missing")
    said = [fact for fact in check(str(data_root / name)).facts if "--rotate" in fact]
    assert [line.split()[-1] for line in said] == ([] if advice is None else [advice])

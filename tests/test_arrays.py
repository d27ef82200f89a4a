"""`PointClouds.from_arrays`: arrays and labels of any kind, in the frame of readers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.clouds import PointClouds
from pcdistill.clouds.arrays import generator, resized
from pcdistill.core.errors import InputError

RAW = np.random.default_rng(0).normal(size=(4, 20, 3)) * (1, 2, 5) + 300
made = PointClouds.from_arrays


def reference(cloud: np.ndarray) -> np.ndarray:
    centred = cloud - cloud.mean(0)
    return centred / np.linalg.norm(centred, axis=1).max()


@pytest.mark.parametrize(
    "points",
    [
        RAW,
        torch.from_numpy(RAW),
        list(RAW),
        [torch.from_numpy(cloud) for cloud in RAW],
        RAW.tolist(),
        np.concatenate([RAW, np.full((4, 20, 2), np.nan)], 2),  # columns that are dropped may be anything
        np.asfortranarray(RAW),
    ],
    ids=["array", "tensor", "arrays", "tensors", "lists", "columns", "strides"],
)
def test_any_kind_of_points_is_centred_and_scaled(points: Any) -> None:
    clouds = made(points, [2, 0, 1, 0], points_per_cloud=None)
    np.testing.assert_allclose(clouds.points, np.stack([reference(cloud) for cloud in RAW]), atol=1e-6)
    assert clouds.labels.tolist() == [2, 0, 1, 0]
    assert clouds.class_names == ("0", "1", "2")
    assert clouds.provenance["normalised"] is True
    assert clouds.provenance["up_axis"] == "z"
    assert clouds.provenance["name"] == "arrays"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32])
def test_types_of_numbers(dtype: torch.dtype) -> None:
    points = torch.randint(-9, 9, (2, 30, 3), generator=torch.Generator().manual_seed(0)).to(dtype)
    clouds = made(points.requires_grad_() if dtype.is_floating_point else points, [0, 1], points_per_cloud=None)
    assert clouds.points.dtype == torch.float32
    np.testing.assert_allclose(clouds.points[1], reference(points[1].detach().double().numpy()), atol=1e-6)


def test_as_they_are_without_normalising_but_with_z_up() -> None:
    clouds = made(RAW, [0] * 4, points_per_cloud=None, normalise=False, up_axis="y", name="toy")
    np.testing.assert_allclose(clouds.points, RAW @ [[1, 0, 0], [0, 0, 1], [0, -1, 0]], rtol=1e-6)
    facts = {"name": "toy", "normalised": False, "up_axis": "z", "stored_up_axis": "y"}
    assert facts.items() <= clouds.provenance.items()


def test_clouds_of_all_sizes_get_one() -> None:
    sizes = (7, 64, 500, 40)
    ragged = [np.random.default_rng(size).normal(size=(size, 3)) for size in sizes]
    clouds = made(ragged, list("abca"), points_per_cloud=64, normalise=False)
    assert clouds.points.shape == (4, 64, 3)
    for cloud, found in zip(ragged, clouds.points.numpy(), strict=True):
        origin = (found[:, None] == cloud.astype(np.float32)).all(2).argmax(1)
        assert (found == cloud.astype(np.float32)[origin]).all()
        counts = np.bincount(origin, minlength=len(cloud))
        assert counts.max() - counts.min() <= 1
        if len(cloud) <= 64:
            assert origin[: len(cloud)].tolist() == list(range(len(cloud)))
    assert made(ragged, [0] * 4).points_per_cloud == 1024
    assert made(ragged, [0] * 4, points_per_cloud=None).points_per_cloud == 1024  # they differ


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 60), count=st.integers(1, 200), seed=st.integers(0, 9))
def test_repeats_are_even_and_samples_without(size: int, count: int, seed: int) -> None:
    cloud = np.arange(3.0 * size).reshape(size, 3)
    rows = (cloud[resized(len(cloud), count, generator(0, seed))][:, 0] / 3).astype(int)
    counts = np.bincount(rows, minlength=size)
    assert len(rows) == count
    assert counts.max() - counts.min() <= 1


def test_the_seed_decides_cloud_by_cloud() -> None:
    kept = {"points_per_cloud": 8, "normalise": False}
    first = made(RAW, [0] * 4, **kept)
    assert first.fingerprint() == made(RAW, [0] * 4, **kept).fingerprint()
    assert first.fingerprint() != made(RAW, [0] * 4, seed=1, **kept).fingerprint()
    assert made(RAW[:2], [0] * 2, **kept).points.equal(first.points[:2])


@pytest.mark.parametrize(
    ("labels", "given", "names", "hard"),
    [
        (["b", "a", "b", "c"], None, ("a", "b", "c"), [1, 0, 1, 2]),
        (np.array(["b", "a", "b", "c"]), ["c", "b", "a"], ("c", "b", "a"), [1, 2, 1, 0]),
        (np.array(["b", "a", "b", "c"], dtype=object), None, ("a", "b", "c"), [1, 0, 1, 2]),
        (np.array([b"b", b"a", b"b", b"c"]), None, ("a", "b", "c"), [1, 0, 1, 2]),
        ([("x", 1), ("x", 2), ("x", 1), "y"], None, ("('x', 1)", "('x', 2)", "y"), [0, 1, 0, 2]),
        (torch.tensor([0, 2, 0, 2], dtype=torch.uint8), None, ("0", "1", "2"), [0, 2, 0, 2]),
        (torch.tensor([[0], [2], [0], [2]]), ["x", "y", "z"], ("x", "y", "z"), [0, 2, 0, 2]),
        (np.array([0.0, 1.0, 1.0, 0.0]), None, ("0", "1"), [0, 1, 1, 0]),
        ([True, False, True, True], None, ("0", "1"), [1, 0, 1, 1]),
        ([torch.tensor(1), np.int64(0), torch.tensor([1]), 0], None, ("0", "1"), [1, 0, 1, 0]),
        ([2**70, 1, 1, 1], None, ("1", str(2**70)), [1, 0, 0, 0]),
        (range(4), None, ("0", "1", "2", "3"), [0, 1, 2, 3]),
        (
            [[0.25, 0.75], (1, 0), torch.tensor([[0.0, 1.0]]), np.array([0.5, 0.5])],
            ["x", "y"],
            ("x", "y"),
            [1, 0, 1, 0],
        ),
        (np.eye(3)[[0, 2, 1, 1]], None, ("0", "1", "2"), [0, 2, 1, 1]),
    ],
)
def test_labels_of_any_kind(labels: Any, given: Any, names: Any, hard: Any) -> None:
    clouds = made(RAW, labels, given, 16)
    assert clouds.class_names == names
    assert clouds.hard_labels.tolist() == hard


def test_soft_labels_stay_soft() -> None:
    soft = torch.tensor([[0.2, 0.8]]).repeat(4, 1)
    assert made(RAW, soft, ["x", "y"], 16).labels.equal(soft)


FOUR = [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("points", "labels", "more", "message"),
    [
        (RAW[0], FOUR, {}, r"points of shape \(20, 3\), expected \(clouds, points, 3 or more\)"),
        (RAW[..., :2], FOUR, {}, r"cloud 0: shape \(20, 2\), expected \(points, 3 or more\)"),
        (RAW.transpose(0, 2, 1), FOUR, {}, r"cloud 0: shape \(3, 20\), expected .* transpose it"),
        ([*RAW[:3], RAW[3, :0]], FOUR, {}, r"cloud 3: shape \(0, 3\)"),
        ([*RAW[:3], [[0, 1, 2], [3]]], FOUR, {}, r"cloud 3: rows of unequal length"),
        ([*RAW[:3], np.array([["a", "b", "c"]])], FOUR, {}, r"cloud 3: values of type <U1, expected numbers"),
        ([*RAW[:3], RAW[3] * [[1, np.nan, 1]]], FOUR, {}, r"cloud 3: NaN or infinite coordinates"),
        ([*RAW[:3], np.ones((9, 3))], FOUR, {}, r"all points of cloud 3 coincide"),
        (RAW * 1e300, FOUR, {"normalise": False}, r"cloud 0 has NaN or infinite"),
        (RAW * 1j, FOUR, {}, r"cloud 0: values of type complex128"),
        ([], [], {}, r"0 clouds, expected at least one"),
        (None, FOUR, {}, r"points of type NoneType, expected an array, or a sequence of clouds"),
        (RAW, [0, 1, 0], {}, r"3 labels for 4 clouds, expected one a cloud"),
        (RAW, None, {}, r"labels None, expected one a cloud"),
        (torch.from_numpy(RAW).to_sparse(), FOUR, {}, r"points that are no array \(.*\), expected a dense tensor"),
        (RAW, {0: 1, 1: 1, 2: 1, 3: 1}, {}, r"labels \{.*\}, expected one a cloud"),
        (RAW, ["a", "b", {}, "a"], {}, r"label \{\} of cloud 2"),
        (RAW, FOUR, {"class_names": 3}, r"class names 3, expected a sequence of non-empty strings"),
        (RAW, list("abab"), {"class_names": ["a", 3]}, r"class names .*, expected a sequence of non-empty strings"),
        (RAW, "abab", {}, r"labels 'abab', expected one a cloud"),
        (RAW, [0, 1, np.nan, 0], {}, r"label nan of cloud 2, expected a number, a name, or probabilities"),
        (RAW, ["a", "b", None, "a"], {}, r"label None of cloud 2"),
        (RAW, ["a", "b", np.nan, "a"], {}, r"label nan of cloud 2"),
        (RAW, ["a", "b", "", "a"], {}, r"label '' of cloud 2"),
        (RAW, np.array([0, 1, 0.5, 0]), {}, r"label 0.5 of cloud 2"),
        (RAW, [0, 1, -1, 0], {}, r"label -1 of cloud 2, expected 0 to 9999, or class_names"),
        (RAW, [0, 2691156, 1, 0], {}, r"label 2691156 of cloud 1, expected 0 to 9999, or class_names"),
        (RAW, [0, 1, 2, 0], {"class_names": ["a", "b"]}, r"label 2 of cloud 2, expected 0 to 1 for 2 classes"),
        (RAW, ["cat", "dgo", "x", "x"], {"class_names": ["cat", "dog"]}, r"'dgo' \(did you mean 'dog'\?\) of cloud 1"),
        (RAW, [0, 1, [0.5, 0.5], 0], {}, r"label of cloud 2: 2 numbers, but one of cloud 0"),
        (RAW, np.zeros((4, 3)), {}, r"soft label 0 is not a distribution"),
        (RAW, np.zeros((4, 3, 2)), {}, r"labels of shape \(4, 3, 2\)"),
        (RAW, FOUR, {"points_per_cloud": 0}, r"points_per_cloud: 0, expected an integer, at least 1, or None"),
        (RAW, FOUR, {"up_axis": "w"}, r"up_axis: 'w', expected z, y or unspecified"),
        (RAW, FOUR, {"seed": -1}, r"seed: -1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_that_names_the_cloud(points: Any, labels: Any, more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        made(points, labels, **more)
    assert "\n" not in str(caught.value)

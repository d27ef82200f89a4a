"""`PointClouds`: what it accepts, what it refuses and how it is taken apart."""

import builtins
import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pcdistill.clouds import PointClouds, Weighted
from pcdistill.core.errors import InputError

NAMES = ("chair", "lamp", "table")


def points_of(clouds: int = 4, points: int = 5) -> Tensor:
    return torch.randn(clouds, points, 3, generator=torch.Generator().manual_seed(0))


def clouds_with(**changes: Any) -> PointClouds:
    fields: dict[str, Any] = {"points": points_of(), "labels": torch.tensor([0, 1, 2, 1]), "class_names": NAMES}
    return PointClouds(**{**fields, **changes})


def spoilt(value: float) -> Tensor:
    points = points_of()
    points[2, 3, 1] = value
    return points


SOFT = torch.tensor([[0.2, 0.3, 0.5]]).repeat(4, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.zeros(4, 3)}, r"points of shape \(4, 3\), expected \(clouds, points, 3\)"),
        ({"points": torch.zeros(4, 5, 6)}, r"points of shape \(4, 5, 6\), expected \(clouds, points, 3\)"),
        ({"points": torch.zeros(4, 5, 3, dtype=torch.int64)}, "points of type torch.int64, expected floating point"),
        ({"points": torch.zeros(4, 5, 3, dtype=torch.complex64)}, "points of type torch.complex64, expected floating"),
        ({"points": torch.zeros(0, 5, 3)}, "0 clouds of 5 points, expected at least one of each"),
        ({"points": torch.zeros(4, 0, 3)}, "4 clouds of 0 points, expected at least one of each"),
        ({"points": spoilt(torch.nan)}, "cloud 2 has NaN or infinite coordinates, expected finite ones"),
        ({"points": spoilt(-torch.inf)}, "cloud 2 has NaN or infinite coordinates"),
        ({"points": spoilt(1.0).double() * 1e300}, "cloud 0 has NaN or infinite coordinates"),  # beyond float32
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels of shape \(3,\), expected \(4,\) or \(4, 3\)"),
        ({"labels": torch.zeros(4, 2)}, r"labels of shape \(4, 2\), expected \(4,\) or \(4, 3\)"),
        ({"labels": torch.zeros(4)}, "labels of type torch.float32, expected integers"),
        ({"labels": torch.zeros(4, dtype=torch.bool)}, "labels of type torch.bool, expected integers"),
        ({"labels": torch.tensor([0, 1, 3, 1])}, "label 3 of cloud 2, expected 0 to 2 for 3 classes"),
        ({"labels": torch.tensor([0, -1, 2, 1])}, "label -1 of cloud 1, expected 0 to 2 for 3 classes"),
        ({"labels": SOFT * 2}, "soft label 0 is not a distribution, expected rows that sum to 1"),
        ({"labels": torch.cat([SOFT[:3], torch.tensor([[-0.5, 0.5, 1]])])}, "soft label 3 is not a distribution"),
        ({"labels": SOFT * torch.nan}, "soft label 0 is not a distribution"),
        ({"class_names": ("chair", "lamp", "lamp")}, "class names .*, expected at least one, all different"),
        ({"class_names": ()}, r"class names \[\], expected at least one, all different"),
        ({"class_names": "abc"}, "class names 'abc', expected a sequence of non-empty strings"),
        ({"class_names": ("chair", "", "table")}, "expected a sequence of non-empty strings"),
        ({"class_names": (0, 1, 2)}, "expected a sequence of non-empty strings"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^point clouds: .*{message}") as caught:
        clouds_with(**changes)
    assert "\n" not in str(caught.value)


def test_error_names_the_source() -> None:
    with pytest.raises(InputError, match=r"^train\.h5: cloud 2 has NaN"):
        clouds_with(points=spoilt(torch.nan), provenance={"source": "train.h5"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_points_become_float32_and_labels_int64(dtype: torch.dtype) -> None:
    clouds = clouds_with(points=points_of().to(dtype), labels=torch.tensor([0, 1, 2, 1], dtype=torch.uint8))
    assert clouds.points.dtype == torch.float32
    assert clouds.labels.dtype == torch.int64
    torch.testing.assert_close(clouds.points, points_of().to(dtype).float())


def test_takes_numpy_arrays_and_lists() -> None:
    clouds = clouds_with(points=points_of().numpy(), labels=[0, 1, 2, 1], class_names=list(NAMES))
    assert clouds.class_names == NAMES
    np.testing.assert_array_equal(clouds.points.numpy(), points_of().numpy())


@pytest.mark.parametrize("name", ["points", "labels", "class_names", "provenance"])
def test_fields_cannot_be_replaced(name: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(clouds_with(), name, None)


def test_provenance_cannot_be_changed_from_inside_or_outside() -> None:
    facts = {"name": "toy"}
    clouds = clouds_with(provenance=facts)
    facts["name"] = "other"
    assert clouds.provenance["name"] == "toy"
    with pytest.raises(TypeError, match="item assignment"):
        clouds.provenance["name"] = "other"  # type: ignore[index]


def test_hard_and_soft_labels() -> None:
    soft = clouds_with(labels=SOFT)
    assert soft.hard_labels.tolist() == [2, 2, 2, 2]
    assert soft.class_counts.tolist() == [0, 0, 4]
    assert clouds_with().hard_labels.tolist() == [0, 1, 2, 1]
    assert clouds_with().class_counts.tolist() == [1, 2, 1]


def test_sizes_and_repr() -> None:
    clouds = clouds_with(provenance={"name": "toy"})
    assert (len(clouds), clouds.points_per_cloud, clouds.num_classes) == (4, 5, 3)
    assert repr(clouds) == "PointClouds(toy: 4 clouds x 5 points, 3 classes)"


@pytest.mark.parametrize("index", [[2, 0], torch.tensor([2, 0]), slice(1, 3), torch.tensor([False, True, False, True])])
def test_indexing_takes_points_and_labels_together(index: Any) -> None:
    clouds = clouds_with(provenance={"name": "toy"})
    part = clouds[index]
    kept = torch.arange(4)[index]
    assert torch.equal(part.points, clouds.points[kept])
    assert torch.equal(part.labels, clouds.labels[kept])
    assert part.class_names == clouds.class_names
    assert part.provenance == clouds.provenance


def test_indexing_soft_labels_keeps_rows() -> None:
    labels = torch.eye(3)[[0, 1, 2, 1]]
    assert torch.equal(clouds_with(labels=labels)[[3, 2]].labels, labels[[3, 2]])


@pytest.mark.parametrize("number", [2, -2, np.int64(2), torch.tensor(2)])
def test_a_number_gives_points_and_label_as_torch_datasets_do(number: Any) -> None:
    points, label = clouds_with()[number]
    assert points.equal(points_of()[2])
    assert (label.shape, label.dtype, int(label)) == ((), torch.int64, 2)
    assert clouds_with(labels=SOFT)[number][1].equal(SOFT[2])


def test_iteration_ends() -> None:
    clouds = clouds_with()
    pairs = list(clouds)
    assert torch.stack([points for points, _ in pairs]).equal(clouds.points)
    assert [int(label) for _, label in pairs] == [0, 1, 2, 1]
    for number in (4, -5):
        with pytest.raises(IndexError):
            clouds[number]


def test_loaders_of_torch_take_it_as_it_is() -> None:
    clouds = clouds_with()
    for given in (clouds, clouds.to_torch()):
        (points, labels), (rest, _) = DataLoader(given, batch_size=3)  # type: ignore[arg-type]
        assert points.equal(clouds.points[:3])
        assert labels.equal(clouds.labels[:3])
        assert rest.equal(clouds.points[3:])


@pytest.mark.parametrize("twin", [lambda clouds: pickle.loads(pickle.dumps(clouds)), copy.deepcopy, copy.copy])
def test_pickle_and_copy_there_and_back(twin: Any) -> None:
    clouds = clouds_with(labels=SOFT, classes=torch.tensor([0, 1, 2, 1]), provenance={"name": "toy", "seed": 3})
    back = twin(clouds)
    assert back.fingerprint() == clouds.fingerprint()
    assert back.hard_labels.tolist() == [0, 1, 2, 1]
    assert back.provenance == {"name": "toy", "seed": 3}
    weighted = twin(Weighted(clouds, torch.tensor([1.0, 2.0, 3.0, 4.0])))
    assert weighted.provenance == clouds.provenance
    assert weighted.weights.tolist() == [1, 2, 3, 4]


def test_open3d() -> None:
    pytest.importorskip("open3d", reason="open3d is an extra")
    clouds = clouds_with()
    made = clouds.to_open3d()
    assert len(made) == 4
    np.testing.assert_array_equal(np.asarray(made[3].points), clouds.points[3].double().numpy())


def test_without_open3d(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("open3d"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"to_open3d: open3d is not installed, expected .*pcdistill\[open3d\]"):
        clouds_with().to_open3d()


def test_indexing_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="0 clouds of 5 points"):
        clouds_with()[torch.zeros(4, dtype=torch.bool)]


def test_batch_and_with_points() -> None:
    clouds = clouds_with()
    assert torch.equal(clouds.batch(torch.tensor([1, 3])), clouds.points[[1, 3]])
    other = clouds.with_points(points_of(points=9))
    assert other.points_per_cloud == 9
    assert torch.equal(other.labels, clouds.labels)


def test_points_keep_their_gradient() -> None:
    points = points_of().requires_grad_()
    clouds_with(points=points)[[1]].points.sum().backward()
    assert points.grad is not None
    assert points.grad.flatten(1).any(1).tolist() == [False, True, False, False]


def test_fingerprint_depends_on_content_only() -> None:
    known = clouds_with().fingerprint()
    assert len(known) == 64
    assert clouds_with(provenance={"name": "toy"}).fingerprint() == known
    transposed = points_of().transpose(1, 2).contiguous().transpose(1, 2)  # same values, other strides
    assert clouds_with(points=transposed).fingerprint() == known
    moved = points_of()
    moved[3, 4, 2] = torch.nextafter(moved[3, 4, 2], torch.tensor(9.0))
    changed = [
        clouds_with(points=moved),
        clouds_with(points=points_of().flip(0)),
        clouds_with(points=points_of().reshape(2, 10, 3), labels=[0, 1]),
        clouds_with(labels=[0, 1, 2, 2]),
        clouds_with(labels=torch.eye(3)[[0, 1, 2, 1]]),
        clouds_with(class_names=("chair", "lamp", "sofa")),
        clouds_with(class_names=(*NAMES, "sofa")),
    ]
    assert len({known, *(clouds.fingerprint() for clouds in changed)}) == 1 + len(changed)

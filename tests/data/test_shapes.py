"""The procedural data set: reproducible, independent of how much is asked for, and upright."""

import time

import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from tests.conftest import of_class


@pytest.fixture(scope="module")
def train() -> PointClouds:
    return shapes.generate("train", 20, 512)


def of(clouds: PointClouds, name: str) -> Tensor:
    return of_class(clouds, clouds.class_names.index(name)).points


def test_counts_labels_and_provenance(train: PointClouds) -> None:
    assert train.points.shape == (200, 512, 3)
    assert train.points.dtype == torch.float32
    assert train.class_names == shapes.CLASS_NAMES
    assert train.labels.tolist() == [label for label in range(10) for _ in range(20)]
    assert dict(train.provenance) == {
        "name": "shapes", "split": "train", "source": "shapes (procedural)", "licence": "CC0-1.0",
        "up_axis": "z", "seed": 0,
    }  # fmt: skip


def test_default_counts() -> None:
    assert shapes.generate("train", points=2).class_counts.tolist() == [shapes.TRAIN_PER_CLASS] * 10
    assert shapes.generate("test", points=2).class_counts.tolist() == [shapes.TEST_PER_CLASS] * 10
    assert shapes.generate("train", 1).points_per_cloud == 1024


def test_same_seed_same_bits(train: PointClouds) -> None:
    assert shapes.generate("train", 20, 512, seed=0).fingerprint() == train.fingerprint()
    assert shapes.generate("train", 20, 512, seed=1).fingerprint() != train.fingerprint()


def test_the_data_set_is_the_published_one() -> None:
    """First points of seed 0: accuracies in the tables hold for these clouds only."""
    first = [
        (0.0462, -0.3567, 0.0268), (-0.4362, 0.3504, 0.0530), (0.4721, -0.7258, 0.5003),
        (-0.0650, 0.2540, 0.4510), (0.1024, 0.0404, -0.3652), (-0.0197, -0.0645, -0.3669),
        (-0.6384, -0.2344, -0.2651), (-0.0490, 0.1682, 0.4624), (0.5799, 0.6055, -0.5450),
        (0.5325, -0.1868, 0.1739),
    ]  # fmt: skip
    clouds = shapes.generate("train", 1, 4)
    torch.testing.assert_close(clouds.points[:, 0], torch.tensor(first), rtol=0, atol=1e-4)


def test_a_cloud_does_not_depend_on_how_many_are_asked_for(train: PointClouds) -> None:
    few = shapes.generate("train", 3, 512)
    for name in shapes.CLASS_NAMES:
        torch.testing.assert_close(of(few, name), of(train, name)[:3], rtol=0, atol=0)


def test_no_cloud_occurs_twice(train: PointClouds) -> None:
    """Within a split, across the splits, and across seeds."""
    sets = [train, shapes.generate("test", 20, 512), shapes.generate("train", 20, 512, seed=1)]
    flat = torch.cat([clouds.points for clouds in sets]).flatten(1)
    assert len(torch.unique(flat, dim=0)) == 600


def test_another_number_of_points_samples_the_same_objects(train: PointClouds) -> None:
    """Nearest-neighbour distances: every object is closest to itself sampled anew."""
    more = shapes.generate("train", 8, 700)
    for name in shapes.CLASS_NAMES:
        a, b = of(train, name)[:8, :256], of(more, name)
        apart = torch.cdist(a[:, None], b[None])
        chamfer = apart.amin(2).mean(-1) + apart.amin(3).mean(-1)
        assert chamfer.argmin(1).tolist() == list(range(8))


def test_centred_in_the_unit_sphere(train: PointClouds) -> None:
    assert train.points.mean(1).abs().max() < 1e-6
    torch.testing.assert_close(train.points.norm(dim=2).amax(1), torch.ones(200))


def test_a_single_point_lies_at_the_origin() -> None:
    assert torch.equal(shapes.generate("test", 1, 1).points, torch.zeros(10, 1, 3))


def test_no_cloud_is_flat(train: PointClouds) -> None:
    assert train.points.std(1).min() > 0.01


def test_z_is_up(train: PointClouds) -> None:
    """Traits that gravity gives: necks are thin, legs are thinner than tops, backs rise at the rear."""
    bottles = of(train, "bottle")
    radius, height = bottles[..., :2].norm(dim=2), bottles[..., 2]
    low, high = height.amin(1, keepdim=True), height.amax(1, keepdim=True)
    share = (height - low) / (high - low)
    neck = torch.stack([r[s > 0.85].mean() for r, s in zip(radius, share, strict=True)])
    body = torch.stack([r[s < 0.5].mean() for r, s in zip(radius, share, strict=True)])
    assert (neck < body).all()

    tables = of(train, "table")[..., 2]
    middle = (tables.amin(1) + tables.amax(1)) / 2
    assert (tables.median(1).values > middle).float().mean() >= 0.7

    mattress = of(train, "bed")[..., 2]
    assert ((mattress.amin(1) + mattress.amax(1)) / 2 > mattress.median(1).values).float().mean() >= 0.7


def test_most_objects_face_minus_y(train: PointClouds) -> None:
    """The turn about z is slight for nine in ten, so the raised back of a seat lies towards +y."""
    for name in ("chair", "sofa"):
        xyz = of(train, name)
        rear, height = xyz[..., 1], xyz[..., 2]
        assert ((rear * height).mean(1) > 0).float().mean() >= 0.7


def test_poses_and_proportions_vary(train: PointClouds) -> None:
    for name in shapes.CLASS_NAMES:
        extent = of(train, name).amax(1) - of(train, name).amin(1)
        assert (extent.std(0) / extent.mean(0) > 0.05).all()


def test_poses_keep_z_up() -> None:
    """The image of the z axis stays within about 20 degrees of z; the turn reaches every quarter."""
    poses = np.stack([shapes.pose(np.random.default_rng(seed)) for seed in range(500)])
    up = poses[:, :, 2] / np.linalg.norm(poses[:, :, 2], axis=1, keepdims=True)
    assert up[:, 2].min() > np.cos(np.radians(20))
    assert (np.linalg.det(poses) > 0).all()
    turn = np.degrees(np.arctan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert 0.8 < (np.abs(turn) < 40).mean() < 0.98
    assert turn.min() < -90
    assert turn.max() > 90


def test_pose_turns_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = shapes.rotation(2, 1.0) @ shapes.rotation(0, 0.3)
    monkeypatch.setattr(shapes, "pose", lambda rng: np.eye(3))
    upright, _ = shapes.cloud(shapes.chair, 64, (0, 0))
    monkeypatch.setattr(shapes, "pose", lambda rng: turn)
    np.testing.assert_allclose(shapes.cloud(shapes.chair, 64, (0, 0))[0], upright @ turn.T, atol=1e-9)


@pytest.mark.parametrize(("axis", "sent"), [(0, (0, 0, 1)), (1, (0, 1, 0)), (2, (-1, 0, 0))])
def test_rotation_is_right_handed(axis: int, sent: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(shapes.rotation(axis, np.pi / 2) @ (0, 1, 0), sent, atol=1e-12)


def test_the_whole_set_takes_seconds() -> None:
    start = time.process_time()
    shapes.generate("train")
    shapes.generate("test")
    assert time.process_time() - start < 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tset",), r"^shapes: split 'tset' \(did you mean 'test'\?\), expected one of train, test$"),
        (("train", 0), r"^shapes: clouds_per_class 0, expected at least 1$"),
        (("train", 1, 0), r"^shapes: points 0, expected at least 1$"),
        (("train", 1, 8, -1), r"^shapes: seed -1, expected at least 0$"),
    ],
)
def test_bad_requests(arguments: tuple[str, int, int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        shapes.generate(*arguments)

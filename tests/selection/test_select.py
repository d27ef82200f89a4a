"""`select` on labelled sets."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.geometry import farthest_point_sample, gather_points
from pcdistill.selection import Dynamics, Watch, raw_descriptor, select, selectors, usual_features
from pcdistill.selection.kcenter import select_kcenter

DRAWN = {"random", "ccs"}  # by the seed
SCORED = {"el2n", "aum", "window", "ccs"}  # by what networks say of clouds, not by features
uses_features = [method for method in selectors if method not in DRAWN | SCORED]


def origin(result: PointClouds, source: PointClouds) -> Tensor:
    """Which cloud of the source each chosen one is."""
    same = (result.points[:, None] == source.points[None]).flatten(2).all(dim=2)
    assert bool((same.sum(dim=1) == 1).all())
    return same.long().argmax(dim=1)


@pytest.mark.parametrize("method", list(selectors))
@pytest.mark.parametrize("per_class", [1, 3, 8])
def test_every_method_takes_as_many_of_every_class(
    method: str, per_class: int, tiny_clouds: PointClouds, told: Watch
) -> None:
    shuffled = tiny_clouds[torch.randperm(24, generator=torch.Generator().manual_seed(0))]
    result = select(shuffled, method, per_class, watched=told)
    assert result.labels.tolist() == [0] * per_class + [1] * per_class + [2] * per_class
    index = origin(result, shuffled)
    assert len(set(index.tolist())) == 3 * per_class
    assert torch.equal(shuffled.labels[index], result.labels)
    assert select(shuffled, method, per_class, watched=told).fingerprint() == result.fingerprint()


@pytest.mark.parametrize("method", list(selectors))
def test_the_choice_in_a_class_does_not_hang_on_the_others(method: str, tiny_clouds: PointClouds, told: Watch) -> None:
    whole = select(tiny_clouds, method, 2, seed=3, watched=told)
    fewer = select(tiny_clouds[[*range(3), *range(8, 24)]], method, 2, seed=3, watched=told)
    assert torch.equal(whole.points[2:], fewer.points[2:])


@pytest.mark.parametrize("method", uses_features)
def test_given_features_decide(method: str, tiny_clouds: PointClouds) -> None:
    features = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    result = select(tiny_clouds, method, 2, features=features, features_name="noise")
    for label in range(3):
        of_class = slice(8 * label, 8 * label + 8)
        expected = selectors[method](features[of_class], 2, torch.Generator()) + 8 * label
        assert torch.equal(origin(result, tiny_clouds)[2 * label : 2 * label + 2], expected)
    assert result.provenance["selection_features"] == "noise"


@pytest.mark.parametrize("method", uses_features)
def test_without_features_those_that_the_method_likes_decide(
    method: str, tiny_clouds: PointClouds, told: Watch
) -> None:
    trained = usual_features(selectors[method]) == "trained"
    features = told(tiny_clouds).features if trained else raw_descriptor(tiny_clouds)
    given = select(tiny_clouds, method, 3, features=features)
    usual = select(tiny_clouds, method, 3, watched=told)
    assert torch.equal(usual.points, given.points)
    name = "pointnet-tiny, 3 trained ones, seed 0" if trained else "raw"
    assert usual.provenance["selection_features"] == name


@pytest.mark.parametrize(("method", "score"), [("el2n", "el2n"), ("window", "el2n"), ("aum", "aum"), ("ccs", "aum")])
def test_scores_of_the_class_decide(method: str, score: str, tiny_clouds: PointClouds) -> None:
    scores = torch.rand(2, 24, generator=torch.Generator().manual_seed(1))
    said = Dynamics(torch.zeros(24, 1), *scores)
    result = origin(select(tiny_clouds, method, 2, watched=lambda part: said, skip=None, seed=3), tiny_clouds)
    for label in range(3):
        own = {score: getattr(said, score)[8 * label : 8 * label + 8]}
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([3, label]).generate_state(1, np.uint64)[0])
        )
        expected = selectors[method](torch.zeros(8, 1), 2, generator, **own) + 8 * label
        assert torch.equal(result[2 * label : 2 * label + 2], expected)


def test_random_choice_depends_on_the_seed_alone(tiny_clouds: PointClouds) -> None:
    first = select(tiny_clouds, "random", 3, seed=0)
    noise = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    assert torch.equal(select(tiny_clouds, "random", 3, seed=0, features=noise).points, first.points)
    assert not torch.equal(select(tiny_clouds, "random", 3, seed=1).points, first.points)


def test_random_choice_differs_between_classes(tiny_clouds: PointClouds) -> None:
    index = origin(select(tiny_clouds, "random", 8), tiny_clouds).view(3, 8) % 8
    assert len({tuple(row) for row in index.tolist()}) == 3


@pytest.mark.parametrize("method", uses_features)
def test_the_seed_leaves_deterministic_choices_alone(method: str, tiny_clouds: PointClouds, told: Watch) -> None:
    first, second = (select(tiny_clouds, method, 3, seed=seed, watched=told) for seed in (0, 1))
    assert torch.equal(first.points, second.points)


def test_down_sampling_keeps_coordinates_as_they_are(tiny_clouds: PointClouds) -> None:
    whole, thin = select(tiny_clouds, "herding", 2), select(tiny_clouds, "herding", 2, points=16)
    assert thin.points.shape == (6, 16, 3)
    assert torch.equal(thin.points, gather_points(whole.points, farthest_point_sample(whole.points, 16)))
    assert torch.equal(thin.labels, whole.labels)


def test_provenance_tells_how_the_clouds_were_chosen(tiny_clouds: PointClouds) -> None:
    provenance = dict(select(tiny_clouds, "medoid", 2, seed=5).provenance)
    assert provenance == {
        **tiny_clouds.provenance,
        "selection": "medoid",
        "selection_seed": 5,
        "selection_features": "raw",
    }


def test_soft_labels_count_by_their_most_probable_class_and_stay(tiny_clouds: PointClouds) -> None:
    soft = 0.1 + 0.7 * torch.nn.functional.one_hot(tiny_clouds.labels, 3).float()
    result = select(replace(tiny_clouds, labels=soft), "herding", 2)
    assert torch.equal(result.points, select(tiny_clouds, "herding", 2).points)
    assert torch.equal(result.labels, soft[origin(result, tiny_clouds)])


def test_a_class_with_too_few_clouds_is_named(tiny_clouds: PointClouds) -> None:
    with pytest.raises(InputError, match="tiny: class 'ring' has 3 clouds, expected at least 4"):
        select(tiny_clouds[:19], "random", 4)
    with pytest.raises(InputError, match="class 'ring' has 0 clouds, expected at least 1"):
        select(tiny_clouds[:16], "herding", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "herdign"}, r"selection: 'herdign' \(did you mean 'herding'\?\), expected one of"),
        ({"per_class": 0}, "0 clouds per class asked for, expected at least 1"),
        ({"points": 0}, "0 points per cloud asked for, expected 1 to 64"),
        ({"points": 65}, "65 points per cloud asked for, expected 1 to 64"),
        ({"features": torch.zeros(23, 2)}, "features of 23 clouds, expected of all 24"),
        ({"features": torch.zeros(24)}, "features of shape"),
        ({"features": torch.full((24, 2), torch.inf)}, "NaN or infinite"),
        ({"seed": -1}, "seed: -1, expected 0 or more"),
    ],
)
def test_bad_requests_are_refused_in_one_line(
    arguments: dict[str, object], message: str, tiny_clouds: PointClouds
) -> None:
    request = {"method": "kcenter", "per_class": 2, **arguments}
    with pytest.raises(InputError, match=message):
        select(tiny_clouds, **request)  # type: ignore[arg-type]


def test_real_clouds(data_root: Path) -> None:
    path = data_root / "modelnet10_2048.h5"
    if not path.is_file():
        pytest.skip(f"no ModelNet10: {path} is missing")
    with h5py.File(path) as file:
        names = tuple(str(name) for name in file.attrs["class_names"])
        points, labels = file["test/points"][:, :512], file["test/labels"][:]
    clouds = PointClouds(torch.from_numpy(points), torch.from_numpy(labels), names)
    features = raw_descriptor(clouds)

    def reach(method: str) -> float:
        """Mean distance of a cloud to the nearest chosen one of its class."""
        total = 0.0
        chosen = raw_descriptor(select(clouds, method, 8, features=features))
        for label in range(10):
            gaps = torch.cdist(features[clouds.labels == label], chosen[8 * label : 8 * label + 8])
            total += float(gaps.amin(dim=1).sum())
        return total / len(clouds)

    reaches = {method: reach(method) for method in ("random", "herding", "kcenter", "medoid")}
    assert reaches["medoid"] == min(reaches.values())
    assert reaches["medoid"] < 0.9 * reaches["random"]
    first = select(clouds, "kcenter", 1, points=128)
    assert first.class_counts.tolist() == [1] * 10
    members = (clouds.labels == 0).nonzero()[:, 0]
    expected = members[select_kcenter(features[members], 1, torch.Generator())]
    assert torch.equal(
        first.points[:1],
        gather_points(clouds.points[expected], farthest_point_sample(clouds.points[expected], 128)),
    )

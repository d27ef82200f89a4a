"""Parts of clouds: what is refused, and that whatever chooses, turns or expands points takes them along."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.artefact.expansion import Expansion, expand
from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data import from_dataset, last_split, validation_split
from pcdistill.evaluation.conditions import CLEAN, Condition, shown
from pcdistill.geometry import corrupt, thinned
from pcdistill.selection import select
from pcdistill.training.recipe import protocol

NAMES = ("chair", "lamp")
PARTS = PartNames(("leg", "seat", "shade"), ((0, 1), (0, 2)))
LEVELS = torch.tensor([-0.6, 0.0, 0.6])  # z of the points of each part: what a point is can be read off it


def clouds_of(count: int = 4, points: int = 12, **changes: Any) -> PointClouds:
    """Clouds whose points lie at the height of their part."""
    generator = torch.Generator().manual_seed(count + points)
    labels = torch.arange(count) % 2
    own = torch.tensor([list(PARTS.of_class[label]) for label in labels.tolist()])
    parts = own.gather(1, torch.randint(2, (count, points), generator=generator))
    flat = torch.rand(count, points, 2, generator=generator) - 0.5
    xyz = torch.cat([flat, LEVELS[parts][..., None]], 2)
    fields: dict[str, Any] = {"parts": parts, "part_names": PARTS, "provenance": {"up_axis": "z"}}
    return PointClouds(**{"points": xyz, "labels": labels, "class_names": NAMES, **fields, **changes})


def at_their_height(clouds: PointClouds, within: float = 1e-6) -> bool:
    assert clouds.parts is not None
    return bool(((clouds.points[..., 2] - LEVELS[clouds.parts]).abs() <= within).all())


FOUR = clouds_of()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": FOUR.parts[:, :5]}, r"parts of shape \(4, 5\), expected \(4, 12\), one for each point"),
        ({"parts": FOUR.parts.float()}, "parts of type torch.float32, expected integers"),
        ({"parts": FOUR.parts + 3}, r"part \d of point 0 of cloud 0, expected 0 to 2 for 3 parts"),
        ({"parts": FOUR.parts * 0 - 1}, "part -1 of point 0 of cloud 0"),
        ({"parts": FOUR.parts * 0 + 2}, "part 'shade' in cloud 0 of class 0, expected parts of that class: leg, seat"),
        ({"parts": None}, "names of parts, but no parts, expected both or neither"),
        ({"part_names": None}, "parts without names, expected both or neither"),
        ({"part_names": PartNames.shared("ab", 3)}, "parts of 3 classes, expected of all 2"),
        ({"labels": torch.full((4, 2), 0.5)}, "soft labels of clouds with parts, expected one class a cloud"),
    ],
)
def test_bad_parts_are_refused_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        clouds_of(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "of_class", "message"),
    [
        ((), ((),), "expected at least one, all different and not empty"),
        (("a", "a"), ((0, 1),), "all different"),
        (("a", "b"), ((0,),), "part 'b' of no class"),
        (("a", "b"), ((1, 0),), r"parts \[1, 0\] of class 0, expected some of 0 to 1, ascending"),
        (("a",), ((0,), ()), r"parts \[\] of class 1"),
        (("a",), ((0, 1),), r"parts \[0, 1\] of class 0"),
    ],
)
def test_names_and_classes_have_to_fit(names: Any, of_class: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PartNames(names, of_class)


def test_facts_are_read_without_trust() -> None:
    assert PartNames.of_facts(PARTS.facts(), 2, "file") == PARTS
    for wrong in (None, [], {"names": ["a"]}, {**PARTS.facts(), "more": 1}, {"names": "ab", "of_class": [[0], [1]]},
                  {"names": ["a"], "of_class": [[0.0], [0]]}, {"names": [1], "of_class": [[0], [0]]}):  # fmt: skip
        with pytest.raises(InputError, match=r"^file: "):
            PartNames.of_facts(wrong, 2, "file")
    with pytest.raises(InputError, match="those of 3 classes"):
        PartNames.of_facts(PARTS.facts(), 3, "file")


def test_items_sets_and_copies_keep_parts() -> None:
    points, label, parts = FOUR[2]
    assert torch.equal(points, FOUR.points[2])
    assert int(label) == 0
    assert torch.equal(parts, FOUR.parts[2])
    assert [len(item) for item in FOUR] == [3] * 4
    assert len(FOUR.to_torch().tensors) == 3
    for some in (FOUR[1:3], FOUR[torch.tensor([1, 2])], pickle.loads(pickle.dumps(FOUR))[1:3]):
        assert at_their_height(some)
        assert some.part_names == PARTS
    assert FOUR.without_parts().parts is None
    assert "3 parts" in repr(FOUR)


def test_fingerprints_tell_parts_and_leave_sets_without_as_they_were() -> None:
    bare = FOUR.without_parts()
    again = PointClouds(FOUR.points, FOUR.labels, NAMES)
    assert bare.fingerprint() == again.fingerprint() != FOUR.fingerprint()
    other = clouds_of(part_names=PartNames(("leg", "seat", "screen"), PARTS.of_class))
    assert other.fingerprint() != FOUR.fingerprint()


def test_classes_in_another_order_take_their_parts() -> None:
    turned = FOUR.with_classes(("lamp", "chair"))
    assert turned.part_names == PartNames(PARTS.names, ((0, 2), (0, 1)))
    assert at_their_height(turned)
    with pytest.raises(InputError, match="clouds with parts among further classes"):
        FOUR.with_classes(("lamp", "chair", "mug"))


@given(count=st.integers(1, 30), seed=st.integers(0, 9))
def test_sampled_and_repeated_points_keep_their_parts(count: int, seed: int) -> None:
    rng, both = np.random.default_rng(seed), PartNames.shared(("low", "high"), 2)
    parts = [rng.integers(0, 2, size) for size in (5, 17, 12)]
    clouds = [np.column_stack([rng.random((len(own), 2)), own]) for own in parts]
    made = PointClouds.from_arrays(
        clouds, [0, 1, 0], points_per_cloud=count, normalise=False, seed=seed, parts=parts, part_names=both
    )
    assert made.parts is not None
    assert torch.equal(made.parts, made.points[..., 2].long())


def test_lists_of_parts_are_checked_cloud_by_cloud() -> None:
    points, labels = [np.eye(4, 3), np.eye(6, 3)], [0, 1]
    for parts, message in (
        ([[0] * 4, [1] * 5], r"cloud 1: parts int64 \(5,\), expected integers \(6,\)"),
        ([[0] * 4, None], "cloud 1: no parts, while others have some"),
        ([[0] * 4], "parts of 1 clouds, expected of all 2"),
        ([[0] * 4, [3] * 6], "part 3, expected 0 to 1 for 2 parts"),
        ([[0] * 4, [0] * 6], "part 'b' of no class"),
    ):
        with pytest.raises(InputError, match=message):
            PointClouds.from_arrays(points, labels, parts=parts, part_names=["a", "b"])


def test_thinning_and_choosing_take_parts_along() -> None:
    clouds = clouds_of(10, 40)
    assert at_their_height(thinned(clouds, 7))
    chosen = select(clouds, "medoid", 2, points=9)
    assert chosen.parts is not None
    assert chosen.parts.shape == (4, 9)
    assert at_their_height(chosen)
    for part in (*last_split(clouds, 0.3), *validation_split(clouds, 0.3, 0)):
        assert at_their_height(part)


def test_conditions_turn_and_cut_clouds_with_their_parts() -> None:
    clouds = clouds_of(6, 40)
    eight = protocol("tuned", test_points=32).model_copy(update={"thin": True})
    turned = shown(clouds, Condition("z", rotation="z"), eight, 8)
    assert turned.points_per_cloud == 8
    assert at_their_height(turned)
    assert at_their_height(shown(clouds, CLEAN, eight, None))
    with pytest.raises(InputError, match="corruption gaussian: clouds with parts"):
        corrupt(clouds, "gaussian", 1, 0)


def test_expansion_makes_clouds_with_parts() -> None:
    clouds = clouds_of(6, 16)
    made = expand(clouds, Expansion(interpolate=1))
    assert made.parts is not None
    assert made.parts.shape == made.points.shape[:2]
    assert torch.equal(made.parts[:1, :16], clouds.parts[:1])
    # What lies between points of one part is of that part; in all a label is that of the nearer height.
    nearest = (made.points[..., 2:] - LEVELS).abs().argmin(2)
    assert (nearest == made.parts).float().mean() > 0.8
    with pytest.raises(InputError, match="mixup of clouds with parts"):
        expand(clouds, Expansion(mixup=1))


def test_data_sets_of_triples_and_mappings() -> None:
    triples = list(FOUR)
    for items in (triples, [{"points": p, "label": y, "parts": s} for p, y, s in triples],
                  torch.utils.data.DataLoader(FOUR, 2)):  # fmt: skip
        made = from_dataset(items, NAMES, None, False, part_names=PARTS)
        assert torch.equal(made.parts, FOUR.parts)
        assert made.part_names == PARTS
    with pytest.raises(InputError, match="item 1: no parts, while those before have some"):
        from_dataset([triples[0], triples[1][:2]], part_names=PARTS)
    with pytest.raises(InputError, match="item 1: parts, while others have none"):
        from_dataset([triples[0][:2], triples[1]], part_names=PARTS)

"""Labels of points, coded: they come back whole, take fewer bits than frequencies say, and no stream does harm."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.procedural import shapes
from pcdistill.storage import Budget, storages
from pcdistill.storage.grids import cells_of
from pcdistill.storage.part_coding import AROUND, FAR, Places, decode_parts, encode_parts
from pcdistill.storage.part_labels import PartStorage, cell_parts

NAMES = PartNames(tuple("abcdef"), ((0, 1, 2), (3,), (1, 4, 5)))
KEEPING = [name for name in storages if storages[name].keeps_parts]


@settings(max_examples=15)
@given(seed=st.integers(0, 2**16), side=st.integers(2, 20), clouds=st.integers(1, 12), most=st.integers(1, 30))
def test_any_labels_come_back(seed: int, side: int, clouds: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    classes = np.sort(rng.integers(0, 3, clouds))
    owner = np.repeat(np.arange(clouds), rng.integers(0, most + 1, clouds))
    places = Places(owner, rng.integers(0, side, (len(owner), 3)), side)  # several in a cell, and clouds without any
    parts = np.array([rng.choice(NAMES.of_class[classes[cloud]]) for cloud in owner], np.int64)
    stream = encode_parts(parts, places, classes, NAMES)
    assert stream.dtype == np.uint8
    assert len(stream) % 4 == 0
    np.testing.assert_array_equal(decode_parts(stream, places, classes, NAMES), parts)


def test_neighbours_and_earlier_clouds_save_bits() -> None:
    """Against the entropy of the labels of a class, were they drawn one by one."""
    clouds = shapes.generate("train", 6, 200, parts=True)
    assert clouds.parts is not None
    names, classes = shapes.PART_NAMES, clouds.labels.numpy()
    places = Places(np.repeat(np.arange(60), 200), cells_of(clouds.points, 8).flatten(0, 1).numpy(), 8)
    parts = clouds.parts.flatten().numpy()
    size = 8 * len(encode_parts(parts, places, classes, names)) / len(parts)
    entropy = 0.0
    for label in range(10):
        shares = np.bincount(clouds.parts[clouds.labels == label].flatten()) / (6 * 200)
        entropy -= sum(share * np.log2(share) for share in shares if share) / 10
    assert size < 0.6 * entropy


def test_a_class_of_one_part_takes_no_bits() -> None:
    places = Places(np.zeros(300, np.int64), np.random.default_rng(0).integers(0, 9, (300, 3)), 9)
    assert encode_parts(np.full(300, 3), places, np.array([1]), NAMES).tobytes() == bytes(4)  # but its least length


def test_waves_know_only_what_was_coded_before() -> None:
    """No two cells of a wave are face to face, or side by side along an edge: what is coded is never asked for."""
    cells = np.argwhere(np.ones((6, 6, 6)))
    wave = dict(
        zip(map(tuple, cells.tolist()), (4 * x + 2 * (y % 2) + z % 2 for x, y, z in cells.tolist()), strict=True)
    )
    for cell, number in wave.items():
        for offset in (*AROUND, *FAR):
            near = tuple(np.add(cell, offset).tolist())
            if near in wave and wave[near] == number:
                assert offset in FAR  # which are two cells away


def test_damaged_streams_are_one_line() -> None:
    rng = np.random.default_rng(1)
    places = Places(np.zeros(4000, np.int64), rng.integers(0, 9, (4000, 3)), 9)
    with pytest.raises(InputError, match="parts: 4 bytes for labels of 4000 points, expected whole words, at least 8"):
        decode_parts(np.zeros(4, np.uint8), places, np.array([0]), NAMES)
    with pytest.raises(InputError, match="9 bytes for labels"):
        decode_parts(np.zeros(9, np.uint8), places, np.array([0]), NAMES)
    found = decode_parts(rng.integers(0, 256, 8).astype(np.uint8), places, np.array([0]), NAMES)
    assert set(found.tolist()) <= {0, 1, 2}


@pytest.fixture(scope="module")
def real() -> PointClouds:
    return shapes.generate("train", 3, 48, parts=True)


@pytest.mark.parametrize("name", KEEPING)
def test_storages_keep_parts_of_points_that_move(name: str, real: PointClouds) -> None:
    budget = Budget(3, 48, 3 if name == "voxels" else 6, side=8 if name == "voxels" else 0)
    storage = storages[name].from_clouds(real, budget)
    assert isinstance(storage, PartStorage)
    first = storage.decode()
    with torch.no_grad():
        read = storage.decode()
        assert read.part_names == real.part_names
        # A point is a part of what the nearest real point of its cloud is, mostly.
        nearest = torch.cdist(read.points, real.points).argmin(2)
        assert (real.parts.gather(1, nearest) == read.parts).float().mean() > 0.7
    (first.points.square().sum() + 0.0).backward()
    with torch.no_grad():
        storage.learned()["points"].add_(torch.tensor([0.1, 0, 0]))
    moved = storage.decode()
    assert torch.equal(moved.parts, first.parts)  # of what is learned, whose order is kept
    again = storages[name].from_arrays(storage.arrays(), storage.layout(), real.class_names, real.part_names)
    with torch.no_grad():
        here, there = storage.decode(), again.decode()
    assert torch.equal(here.points, there.points)
    assert torch.equal(here.parts, there.parts)
    some = torch.arange(0, 30, 3)
    with torch.no_grad():
        assert torch.equal(storage.kept(some).decode().parts, here.parts[some])
    assert {key: value.tobytes() for key, value in again.arrays().items()} == {
        key: value.tobytes() for key, value in storage.arrays().items()
    }
    bare = storages[name].from_clouds(real.without_parts(), budget)
    assert bare.nbytes < storages[name].from_clouds(real, budget).nbytes
    assert "parts" not in bare.layout()


@pytest.mark.parametrize("name", [name for name in storages if name not in KEEPING])
def test_other_storages_refuse_parts(name: str, real: PointClouds) -> None:
    with pytest.raises(InputError, match=rf"storage {name}: clouds with parts, expected one that keeps them: coded, p"):
        storages[name].from_clouds(real, Budget(3, 48, 8))


def test_layouts_and_streams_that_do_not_fit_are_refused(real: PointClouds) -> None:
    storage = storages["points"].from_clouds(real, Budget(3, 48, 8))
    arrays, layout, names = storage.arrays(), storage.layout(), real.class_names
    for changed, given_names, message in (
        (arrays, None, "layout 'parts': 26, expected None as in the metadata"),
        (arrays | {"parts": np.zeros(4, np.int64)}, real.part_names, "parts: int64 of shape"),
        ({"codes": arrays["codes"]}, real.part_names, "parts: missing"),
        (arrays, PartNames.shared("ab", 10), "layout 'parts': 26, expected 2 as in the metadata"),
    ):
        with pytest.raises(InputError, match=message):
            storages["points"].from_arrays(changed, layout, names, given_names)


def test_cells_are_what_most_of_their_points_are() -> None:
    points = torch.tensor([[-0.5, -0.5, -0.5], [-0.4, -0.5, -0.5], [-0.3, -0.5, -0.5], [0.5, 0.5, 0.5]])
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 1]])  # the second has no point
    assert cell_parts(points, torch.tensor([2, 1, 1, 0]), cells, 2, 3).tolist() == [1, 1, 0]
    assert cell_parts(points[1:3], torch.tensor([2, 1]), cells[:1], 2, 3).tolist() == [1]  # of equals the lower

"""The coder of voxels: lossless, better than what it is compared with, the same everywhere, and safe to read."""

import hashlib
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.storage import mixing, occupancy
from pcdistill.storage.coding import encode_sets
from pcdistill.storage.grids import Offer, offered
from pcdistill.storage.occupancy import VOXELS_PER_BYTE, decode_grids, encode_grids, pyramid, settled

Grids = np.ndarray
EACH = 24  # clouds of a class of the procedural shapes


def shells(classes: np.ndarray, side: int, seed: int = 0) -> Grids:
    """Spheres and boxes, of a size for every class."""
    random = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 3, indexing="ij"), -1)
    grids = np.zeros((len(classes), side, side, side), np.int8)
    for grid, label in zip(grids, classes, strict=True):
        radius = side * (0.2 + 0.05 * (label % 4)) * random.uniform(0.9, 1.1)
        away = np.abs(places - random.uniform(-0.5, 0.5, 3))
        distance = away.max(-1) if label % 2 else np.sqrt((away**2).sum(-1))
        grid[np.abs(distance - radius) <= 0.5] = 1
    return grids


def noise(clouds: int, side: int, share: float, seed: int = 0) -> Grids:
    return (np.random.default_rng(seed).random((clouds, side, side, side)) < share).astype(np.int8)


@pytest.fixture(scope="module")
def shapes() -> tuple[np.ndarray, np.ndarray]:
    """Dense clouds of the procedural shapes, and their classes."""
    real = load("shapes", "train")
    labels = real.hard_labels.numpy()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(len(real.class_names))])
    return real.points.numpy()[chosen], labels[chosen]


def voxels(points: np.ndarray, side: int) -> Grids:
    cells = np.floor((points + 1) * (side / 2)).astype(int).clip(0, side - 1)
    grids = np.zeros((len(points), side, side, side), np.int8)
    grids[np.arange(len(points))[:, None], cells[..., 0], cells[..., 1], cells[..., 2]] = 1
    return grids


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 20),
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.integers(0, 2**32 - 1),
)
def test_grids_come_back(side: int, classes: list[int], share: float, seed: int) -> None:
    """Sparse, dense, empty and full ones, of one cloud and of many, of classes of any size."""
    labels = np.sort(classes)
    grids = noise(len(labels), side, share, seed)
    stream = encode_grids(grids, labels)
    assert (stream.dtype, stream.ndim, len(stream) % 4) == (np.uint8, 1, 0)
    assert len(stream) * VOXELS_PER_BYTE >= grids.size
    again = decode_grids(stream, labels, side)[:]
    assert (again.dtype, again.shape) == (np.int8, grids.shape)
    assert (again == grids).all()


@pytest.mark.parametrize("side", [4, 12, 13, 24, 25, 64])
def test_grids_of_all_sides_come_back(side: int) -> None:
    """On both sides of where a level is added."""
    labels = np.array([0, 1])
    grids = shells(labels, side)
    assert grids.any((1, 2, 3)).all()
    assert (decode_grids(encode_grids(grids, labels), labels, side)[:] == grids).all()


def test_classes_of_unequal_size_come_back() -> None:
    labels = np.repeat([0, 1, 2], [1, 40, 5])
    grids = shells(labels, 8)
    assert (decode_grids(encode_grids(grids, labels), labels, 8)[:] == grids).all()


def test_cells_in_parts_are_cells_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by `ROWS`, which is no part of the format."""
    labels = np.repeat([0, 1], 20)
    grids = shells(labels, 14)
    whole = encode_grids(grids, labels).tobytes()
    monkeypatch.setattr(occupancy, "ROWS", 7)
    assert encode_grids(grids, labels).tobytes() == whole


def test_a_level_is_occupied_where_one_of_eight_is() -> None:
    grids = noise(3, 13, 0.05)
    coarse, fine = pyramid(grids)
    assert fine is grids
    assert coarse.shape == (3, 7, 7, 7)
    for x, y, z in itertools.product(range(7), repeat=3):
        eight = grids[:, 2 * x : 2 * x + 2, 2 * y : 2 * y + 2, 2 * z : 2 * z + 2]
        assert (coarse[:, x, y, z] == eight.any((1, 2, 3))).all()
    assert [len(level[0]) for level in pyramid(noise(1, 64, 0.1))] == [8, 16, 32, 64]


@pytest.mark.parametrize(("side", "most"), [(10, 1.2), (16, 1.5)])
def test_shapes_take_few_bits(side: int, most: float, shapes: tuple[np.ndarray, np.ndarray]) -> None:
    """Of voxels: fewer than the coder of sets takes for their centres, and than a density of each cell."""
    points, labels = shapes
    grids = voxels(points, side)
    size = len(encode_grids(grids, labels))
    assert 8 * size / grids.sum() < most
    sets = sum(
        len(encode_sets(np.argwhere(grid)[None], np.zeros(1, np.int64), (side - 1).bit_length())) for grid in grids[:20]
    )
    assert size / len(grids) < 0.5 * sets / 20  # each cloud its own stream, as sets hold equally many points
    share = grids.reshape(len(grids), -1).mean(0).clip(1e-6, 1 - 1e-6)
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)).sum() * len(grids)
    assert 8 * size < 0.7 * entropy


def test_noise_takes_its_entropy() -> None:
    """Nothing can be learned of it, and what is lost by trying is little."""
    grids = noise(200, 8, 0.2)
    entropy = grids.size * -(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8))
    assert entropy * 0.98 < 8 * len(encode_grids(grids, np.zeros(200, np.int64))) < entropy * 1.06


def test_clouds_that_are_alike_take_less() -> None:
    labels = np.zeros(60, np.int64)
    grids = shells(labels, 10)
    first, all_of_them = (len(encode_grids(grids[:n], labels[:n])) for n in (10, 60))
    assert (all_of_them - first) / 50 < 0.7 * first / 10


def test_what_is_settled_takes_fewer_bits_and_stays_near(shapes: tuple[np.ndarray, np.ndarray]) -> None:
    """Only cells whose price is met change; where nothing may, nothing does."""
    points, labels = shapes
    whole = offered(torch.from_numpy(points), 10)

    def offer(block: np.ndarray) -> Offer:
        return Offer(whole.grids[block], whole.prices[block])

    found, bits = settled(offer, labels, 10)
    changed = found[:] != whole.grids
    assert 0 < changed.mean() < 0.05
    assert np.isfinite(whole.prices[changed]).all()
    assert len(encode_grids(found, labels)) < 0.9 * len(encode_grids(whole.grids, labels))
    assert found.counts().min() > 0
    assert bits.sum() / 8 == pytest.approx(len(encode_grids(found, labels)), rel=0.01)
    dear, _ = settled(lambda block: Offer(whole.grids[block], np.full_like(whole.prices[block], np.inf)), labels, 10)
    assert (dear[:] == whole.grids).all()


GOLDEN = {
    (4, (3,)): "0d0076575e584feb",
    (10, (5, 1, 9)): "8019517542a1673e",
    (13, (1,)): "f0f8700066f0a0e3",
    (16, (40, 2)): "d2d9d00714802980",
    (25, (2, 3)): "aa1a6e7514758a48",
}


@pytest.mark.parametrize(("side", "counts"), GOLDEN)
def test_a_stream_of_voxels_is_the_same_on_every_machine(side: int, counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    places = np.arange(len(labels) * side**3, dtype=np.uint64)
    mixed = (places * np.uint64(2654435761) >> np.uint64(7)) % np.uint64(16)
    grids = shells(labels, side) | (mixed == 0).reshape(-1, side, side, side).astype(np.int8)
    assert hashlib.sha256(encode_grids(grids, labels).tobytes()).hexdigest()[:16] == GOLDEN[side, counts]


def test_sums_in_another_order_write_the_same_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another library for products of matrices may add them."""
    labels = np.repeat([0, 1, 2], 30)
    grids = shells(labels, 14)
    stream = encode_grids(grids, labels).tobytes()
    calls = []

    def backwards(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        calls.append(max(np.abs(first).max(initial=0), np.abs(second).max(initial=0)))
        assert (first == np.rint(first)).all()
        assert (second == np.rint(second)).all()
        assert (np.abs(first) @ np.abs(second) < 2**53).all()
        order = np.random.default_rng(len(calls)).permutation(len(second))
        return np.einsum("ij,j...->i...", first[:, order], second[order], optimize=False)

    monkeypatch.setattr(mixing, "_product", backwards)
    assert encode_grids(grids, labels).tobytes() == stream
    assert calls


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (6, r"^voxels: 6 bytes for 2 grids of 16 cells a side, expected whole words, at least 4 bytes$"),
        (0, r"^voxels: 0 bytes for 2 grids of 16 cells a side, expected whole words, at least 4 bytes$"),
    ],
)
def test_streams_of_no_words(size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_grids(np.zeros(size, np.uint8), np.array([0, 1]), 16)


def test_the_length_of_a_stream_bounds_what_is_allocated() -> None:
    with pytest.raises(InputError, match=r"at least 128000000 bytes$"):
        decode_grids(np.zeros(1 << 10, np.uint8), np.zeros(10**6, np.int64), 64)


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=4, max_size=80), st.integers(4, 14))
def test_random_streams_are_refused(content: bytes, side: int) -> None:
    stream = np.frombuffer(content[: len(content) // 4 * 4], np.uint8)
    labels = np.array([0, 0, 1])
    try:
        grids = decode_grids(stream, labels, side)
    except InputError:
        return
    assert encode_grids(grids, labels).tobytes() == stream.tobytes()


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_damaged_streams_are_refused(data: st.DataObject) -> None:
    labels = np.repeat([0, 1], 4)
    stream = encode_grids(shells(labels, 9), labels).copy()
    place, change = data.draw(st.integers(0, len(stream) - 1)), data.draw(st.integers(1, 255))
    stream[place] ^= change
    try:
        grids = decode_grids(stream, labels, 9)
    except InputError:
        return
    assert encode_grids(grids, labels).tobytes() == stream.tobytes()


@pytest.mark.parametrize("change", ["longer", "shorter", "zeros"])
def test_only_what_the_encoder_writes_is_read(change: str) -> None:
    labels = np.repeat([0, 1], 4)
    stream = encode_grids(shells(labels, 9), labels)
    other = {"longer": np.append(stream, np.zeros(4, np.uint8)), "shorter": stream[:-4], "zeros": stream * 0}[change]
    with pytest.raises(InputError, match=r"^voxels: a damaged stream, expected one that an encoder wrote$"):
        decode_grids(other, labels, 9)

"""The coder of point sets: lossless, near the information limit, the same everywhere, and safe to read."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import betabinom

from pcdistill.core.errors import InputError
from pcdistill.storage import coding
from pcdistill.storage.coding import POINTS_PER_BYTE, URN, canonical_order, decode_sets, encode_sets

Codes = np.ndarray


def uniform(clouds: int, points: int, bits: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 2**bits, (clouds, points, 3))


def surfaces(clouds: int, points: int, bits: int, seed: int = 0) -> Codes:
    """Points on spheres of different sizes: not uniform, and alike."""
    random = np.random.default_rng(seed)
    directions = random.normal(size=(clouds, points, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    radii = random.uniform(0.5, 0.6, (clouds, 1, 1))
    return np.round((directions * radii + 1) / 2 * (2**bits - 1)).astype(np.int64)


def as_sets(codes: Codes) -> list[list[tuple[int, ...]]]:
    return [sorted(map(tuple, cloud.tolist())) for cloud in codes]


def limit(points: int, bits: int) -> float:
    """Bits that a multiset of uniform points takes, coincidences neglected."""
    return 3 * bits * points - math.lgamma(points + 1) / math.log(2)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(1, 40),
    st.lists(st.integers(0, 3), min_size=1, max_size=12),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_sets_come_back(bits: int, points: int, classes: list[int], seed: int, crowded: bool) -> None:
    codes = uniform(len(classes), points, bits, seed)
    if crowded:  # many equal points
        codes //= 2 ** (bits - 1)
    labels = np.sort(classes)
    stream = encode_sets(codes, labels, bits)
    assert (stream.dtype, stream.ndim, len(stream) % 4) == (np.uint8, 1, 0)
    again = decode_sets(stream, labels, points, bits)
    assert again.shape == codes.shape
    assert as_sets(again) == as_sets(codes)
    order = canonical_order(codes, bits)
    assert (np.take_along_axis(codes, order[..., None], 1) == again).all()


def test_the_order_of_points_is_not_kept() -> None:
    codes = surfaces(6, 50, 7)
    shuffled = np.random.default_rng(1).permuted(codes.swapaxes(0, 1), axis=0).swapaxes(0, 1)
    for cloud in range(6):
        shuffled[cloud] = codes[cloud][np.random.default_rng(cloud).permutation(50)]
    labels = np.repeat([0, 1], 3)
    assert encode_sets(codes, labels, 7).tobytes() == encode_sets(shuffled, labels, 7).tobytes()


def test_uniform_sets_take_the_information_limit() -> None:
    """The model has nothing to learn, so that all it can do is to lose little."""
    codes = uniform(64, 128, 8)
    bits = 8 * len(encode_sets(codes, np.zeros(64, np.int64), 8)) / 64
    assert limit(128, 8) * 0.99 < bits < limit(128, 8) * 1.04


def test_sets_that_are_alike_take_less() -> None:
    codes = surfaces(64, 128, 8)
    labels = np.zeros(64, np.int64)
    together = len(encode_sets(codes, labels, 8))
    assert together < 0.75 * 64 * 128 * 3  # of raw codes
    assert 8 * together < 0.95 * 64 * limit(128, 8)
    assert together < sum(len(encode_sets(cloud[None], labels[:1], 8)) for cloud in codes)


def test_lengths_are_those_of_the_model() -> None:
    """Cross-entropy by `scipy`, one box after the other, with the densities kept in plain dictionaries."""
    codes, labels, bits = surfaces(7, 20, 5), np.array([0, 0, 0, 0, 1, 1, 1]), 5
    streamed = 8 * len(encode_sets(codes, labels, bits))
    assert expected_bits(codes, labels, bits) == pytest.approx(streamed, abs=64)


def expected_bits(codes: Codes, labels: Codes, bits: int) -> float:
    paths = [[path(point, bits) for point in cloud] for cloud in codes.tolist()]
    seen: dict[tuple[int | None, str], int] = {}
    total = 0.0
    for block in ([0, 4], [1, 2, 5, 6], [3]):  # one of every class, then two, then the rest
        new: list[tuple[int, str]] = []
        for cloud in block:
            for box in {one[:depth] for one in paths[cloud] for depth in range(3 * bits)}:
                inside = [one for one in paths[cloud] if one.startswith(box)]
                upper = sum(one.startswith(box + "1") for one in inside)
                total -= math.log2(betabinom.pmf(upper, len(inside), *urn(seen, int(labels[cloud]), box)))
            new += [(cloud, one[: depth + 1]) for one in paths[cloud] for depth in range(min(3 * bits, 12))]
        for cloud, box in new:
            for owner in (None, int(labels[cloud])):
                seen[owner, box] = seen.get((owner, box), 0) + 1
    return total


def urn(seen: dict[tuple[int | None, str], int], owner: int, box: str) -> tuple[float, float]:
    if len(box) >= 12:
        return URN / 2, URN / 2
    lower, upper = (seen.get((None, box + half), 0) for half in "01")
    share = (upper + 2) / (lower + upper + 4)
    lower, upper = (seen.get((owner, box + half), 0) for half in "01")
    share = (upper + 8 * share) / (lower + upper + 8)
    return URN * share, URN * (1 - share)


def path(point: list[int], bits: int) -> str:
    x, y, z = (format(value, f"0{bits}b") for value in point)
    return "".join(bit for place in range(bits) for bit in (z[place], x[place], y[place]))


@pytest.mark.parametrize("count", [1, 2, 7, 128, 2048])
@pytest.mark.parametrize("share", [1e-4, 0.3, 0.5, 0.9999])
def test_weights_are_beta_binomial(count: int, share: float) -> None:
    weights = coding._weights(np.array([count]), np.array([share]))[0]
    assert np.isfinite(weights).all()
    expected = betabinom.pmf(np.arange(count + 1), count, URN * share, URN * (1 - share))
    np.testing.assert_allclose(weights / weights.sum(), expected, rtol=1e-8, atol=1e-300)


def test_weights_of_fewer_points_than_others_have() -> None:
    weights = coding._weights(np.array([2, 5]), np.array([0.5, 0.5]))
    assert weights.shape == (2, 6)
    assert (weights[0, 3:] == 0).all()
    assert (weights[0, :3] > 0).all()


LARGE_GOLDEN = "b90ebe98bbe37cf5e4815b8f1fc391ac272b3b59d8832e534fa5f19c1cc1b9d3"
GOLDEN = (
    "7e882268d50aa60840c125e8b8a08ba5ada4f85f258f2835"
    "34578229da316a69bbf6c3df643e9a30a8faf894345442f36a4b6bf1b4deb5e40000c08b"
)


def test_a_stream_is_the_same_on_every_machine() -> None:
    """Written once; whoever changes the model has to give the storage a new name."""
    codes = (np.arange(2 * 3 * 5 * 3) * 7919 % 64).reshape(6, 5, 3)
    stream = encode_sets(codes, np.array([0, 0, 0, 1, 1, 1]), 6)
    assert stream.tobytes().hex() == GOLDEN
    many = (np.arange(40 * 800 * 3) ** 2 * 7919 // 31 % 512 // 2).reshape(40, 800, 3)
    many[:, :400] = 7  # so that tables are wide, and coded in parts
    stream = encode_sets(many, np.arange(40) // 20, 8)
    assert hashlib.sha256(stream.tobytes()).hexdigest() == LARGE_GOLDEN  # in parts: wider than one table


@pytest.mark.parametrize("points", [1, 33])
@pytest.mark.parametrize("bits", [2, 5, 12])
def test_no_bytes_do_harm(points: int, bits: int) -> None:
    """Cut, changed and random streams: codes of the right shape and range, or one error."""
    random = np.random.default_rng(points + bits)
    codes, labels = surfaces(9, points, bits), np.repeat([0, 1, 2], 3)
    good = encode_sets(codes, labels, bits)
    refused = 0
    for trial in range(150):
        if trial % 3 == 0:
            stream = random.integers(0, 256, 4 * random.integers(0, 60), dtype=np.uint8)
        else:
            stream = good[: 4 * random.integers(len(good) // 4 + 1)] if trial % 3 == 1 else good.copy()
            stream = stream.copy()
            if len(stream):
                stream[random.integers(len(stream), size=3)] ^= random.integers(1, 256, 3, dtype=np.uint8)
        try:
            found = decode_sets(stream, labels, points, bits)
        except InputError:
            refused += 1
            continue
        assert found.shape == codes.shape
        assert found.min() >= 0
        assert found.max() < 2**bits
    assert 0 < refused < 150


def test_a_stream_bounds_what_a_reader_allocates() -> None:
    """A cloud of equal points takes next to nothing, but not less than its bound."""
    codes, labels = np.zeros((4, 1000, 3), np.int64), np.zeros(4, np.int64)
    stream = encode_sets(codes, labels, 4)
    assert len(stream) == -(-4000 // (4 * POINTS_PER_BYTE)) * 4
    assert (decode_sets(stream, labels, 1000, 4) == 0).all()
    with pytest.raises(InputError, match=r"^codes: 64 bytes for 10 clouds of 10000000 points, expected whole words"):
        decode_sets(stream, np.zeros(10, np.int64), 10**7, 4)
    with pytest.raises(InputError, match="whole words"):
        decode_sets(stream[:-1], labels, 1000, 4)


def test_what_takes_long_to_read_is_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few places with very many points among many with one make every table wide."""
    random = np.random.default_rng(0)
    crowded = np.repeat(random.integers(0, 256, (2, 3)), 500, 0)
    codes = np.concatenate([random.integers(0, 256, (100, 3)), crowded])[None]
    classes = np.zeros(1, np.int64)
    short = encode_sets(codes, classes, 8)
    monkeypatch.setattr(coding, "FREE_ENTRIES", 1000)
    monkeypatch.setattr(coding, "ENTRIES_PER_BYTE", 500)
    long = encode_sets(codes, classes, 8)
    assert len(long) > 2 * len(short)
    assert not long[len(short) :].any()
    assert as_sets(decode_sets(long, classes, 1100, 8)) == as_sets(codes)
    for stream in (short, long[:-4]):
        with pytest.raises(InputError, match=r"codes: \d+ entries of tables, expected at most \d+ for its bytes"):
            decode_sets(stream, classes, 1100, 8)

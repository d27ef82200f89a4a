"""Fixed-point coordinates and bit packing."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pcdistill.core.errors import InputError
from pcdistill.storage.quantise import decode, encode, pack, round_through, unpack

fixed = st.integers(2, 12)
inside = arrays(np.float32, st.integers(1, 60), elements=st.floats(-1, 1, width=32))


@given(fixed)
def test_every_code_survives_decoding(bits: int) -> None:
    codes = torch.arange(2**bits)
    values = decode(codes, bits)
    assert torch.equal(encode(values, bits), codes)
    assert values[[0, -1]].tolist() == [-1, 1]
    expected = np.linspace(-1, 1, 2**bits)
    np.testing.assert_allclose(values.numpy(), expected, rtol=0, atol=2.4e-7)


@given(fixed, inside)
def test_the_error_is_half_a_step_at_most(bits: int, values: np.ndarray) -> None:
    points = torch.from_numpy(values)
    error = (decode(encode(points, bits), bits).double() - points.double()).abs().max()
    assert error <= 1 / (2**bits - 1) + 2e-7


def test_outside_goes_to_the_nearest_end() -> None:
    assert encode(torch.tensor([-1.5, 1.5, 1e30, -torch.inf]), 5).tolist() == [0, 31, 31, 0]


@given(fixed, st.integers(1, 4), st.integers(1, 40), st.randoms(use_true_random=False))
def test_packing_is_reversible_and_dense(bits: int, clouds: int, coordinates: int, random) -> None:
    codes = np.array([[random.randrange(2**bits) for _ in range(coordinates)] for _ in range(clouds)])
    packed = pack(codes, bits)
    assert packed.dtype == np.uint8
    for cloud, row in zip(codes, packed, strict=True):  # the same in text, digit after digit
        digits = "".join(f"{code:0{bits}b}" for code in cloud)
        digits += "0" * (-len(digits) % 8)
        assert row.tobytes() == int(digits, 2).to_bytes(len(digits) // 8, "big")
    assert np.array_equal(unpack(packed, bits, coordinates), codes)


def test_packing_of_six_bits_by_hand() -> None:
    assert pack(np.array([[0b000001, 0b100000, 0b111111]]), 6).tolist() == [[0b00000110, 0b00001111, 0b11000000]]


@pytest.mark.parametrize(
    ("packed", "found"),
    [
        (np.zeros((2, 4), np.int8), "int8 of shape"),
        (np.zeros((2, 3), np.uint8), r"uint8 of shape \(2, 3\)"),
        (np.zeros(4, np.uint8), r"uint8 of shape \(4,\)"),
    ],
)
def test_unpack_refuses(packed: np.ndarray, found: str) -> None:
    with pytest.raises(InputError, match=rf"^codes: {found}.*, expected uint8 of shape \(clouds, 4\)$"):
        unpack(packed, 5, 6)


@given(st.sampled_from([*range(2, 13), 16, 32]), inside)
def test_rounding_passes_the_gradient_on(bits: int, values: np.ndarray) -> None:
    """Backward is the identity by construction.

    `gradcheck` cannot say so: the derivative of rounding itself is zero almost everywhere, and the
    straight-through estimator differs from it on purpose.
    """
    points = torch.from_numpy(values).requires_grad_()
    weights = torch.linspace(-3, 3, len(values))
    (gradient,) = torch.autograd.grad((round_through(points, bits) * weights).sum(), points)
    assert torch.equal(gradient, weights)


@pytest.mark.parametrize("bits", [*range(2, 13), 16, 32])
def test_rounding_gives_what_is_read_back(bits: int) -> None:
    """To the bit, from 1e-8 to far outside the cube, with gradient and without."""
    random = torch.Generator().manual_seed(bits)
    points = (2 * torch.rand(20_000, generator=random) - 1) * 10 ** (1 - 9 * torch.rand(20_000, generator=random))
    values = points.numpy().copy()
    if bits == 32:
        expected = values
    elif bits == 16:
        expected = values.astype(np.float16).astype(np.float32)
    else:
        expected = decode(encode(points, bits), bits).numpy()
    points.requires_grad_()
    assert np.array_equal(round_through(points, bits).detach().numpy(), expected)
    with torch.no_grad():
        assert round_through(points, bits).numpy().tobytes() == expected.tobytes()

"""Fixed-point coordinates: rounding that gradients pass through, and bit packing."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcdistill.core.errors import InputError


def encode(values: Tensor, bits: int) -> Tensor:
    """Codes 0 .. 2^bits - 1 (int64) of coordinates; those outside [-1, 1] go to the nearest end."""
    top = 2**bits - 1
    scaled: Tensor = (values.detach().clamp(-1, 1) + 1) * (top / 2)
    return scaled.round().to(torch.int64)


def decode(codes: Tensor, bits: int) -> Tensor:
    """Coordinates in [-1, 1], float32, of codes: the ends are exact, the steps equal."""
    scaled: Tensor = codes.to(torch.float32) * (2 / (2**bits - 1))
    return scaled - 1


def round_through(values: Tensor, bits: int) -> Tensor:
    """Coordinates exactly as they will be read back, with the gradient of the identity.

    The straight-through estimator (Bengio, Leonard & Courville 2013). 32 bits leave float32 as it is and
    16 round to float16.
    """
    exact = values.detach()
    if bits == 32:
        stored = exact.clone()
    elif bits == 16:
        stored = exact.half().to(values.dtype)
    else:
        stored = decode(encode(exact, bits), bits).to(values.dtype)
    # The difference is exactly zero and carries the gradient.
    return stored + (values - exact) if values.requires_grad and torch.is_grad_enabled() else stored


def pack(codes: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`(clouds, coordinates)` codes as `(clouds, ceil(coordinates * bits / 8))` bytes, highest bit first."""
    if bits == 8:
        return codes.astype(np.uint8)
    places = np.arange(bits - 1, -1, -1)
    digits = (codes[..., None].astype(np.uint16) >> places.astype(np.uint16)) & 1
    return np.packbits(digits.astype(np.uint8).reshape(len(codes), -1), axis=1)


def unpack(packed: np.ndarray[Any, Any], bits: int, coordinates: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The inverse of `pack`.

    Raises:
        InputError: the bytes are not of the type or number that `coordinates` codes take.
    """
    width = -(-coordinates * bits // 8)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != width:
        raise InputError("codes", f"{packed.dtype} of shape {packed.shape}", f"uint8 of shape (clouds, {width})")
    if bits == 8:
        return packed.astype(np.int64)
    digits = np.unpackbits(packed, axis=1, count=coordinates * bits).reshape(len(packed), coordinates, bits)
    codes = np.zeros((len(packed), coordinates), np.int64)
    for place in range(bits):
        codes = codes << 1 | digits[..., place]
    return codes

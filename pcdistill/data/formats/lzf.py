"""LZF, the compression of `binary_compressed` PCD files; the format as LibLZF (Marc Lehmann) documents it."""

MOST = 88  # bytes that one byte can become: three of them repeat at most 264


def decompress(packed: bytes, size: int) -> bytes:
    """`packed` as the `size` bytes it stands for.

    A control byte below 32 announces that many bytes, and one more, as they are. Any other repeats what was written
    before: its upper three bits (7: and the next byte) and 2 are the length, the rest and the next byte the distance.

    Raises:
        ValueError: if `packed` is no LZF of exactly `size` bytes. No more than that is made.
    """
    out = bytearray()
    at = 0
    while at < len(packed):
        control = packed[at]
        at += 1
        if control < 32:
            piece = packed[at : at + control + 1]
            if len(piece) <= control:
                raise ValueError("packed data that is cut")
            out += piece
            at += control + 1
        else:
            length = control >> 5
            if length == 7:
                length += packed[at] if at < len(packed) else 0
                at += 1
            if at >= len(packed):
                raise ValueError("packed data that is cut")
            distance = ((control & 31) << 8 | packed[at]) + 1
            at, length = at + 1, length + 2
            if distance > len(out):
                raise ValueError("packed data that repeats what was not there")
            start = len(out) - distance
            piece = bytes(out[start : start + length])
            out += (piece * -(-length // len(piece)))[:length]
        if len(out) > size:
            break
    if len(out) != size:
        raise ValueError(f"packed data of {'more' if len(out) > size else 'less'} than {size} bytes")
    return bytes(out)

"""PCD: three storages, headers old and odd, LZF, and what is refused without work or memory."""

import contextlib
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.data.formats.lzf import decompress

POINTS = np.array([(0, 1, 2), (3, 4, 5.5), (-6, 7, 8), (9, 10, 1)], dtype=np.float64)
HEAD = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 4\nHEIGHT 1\nPOINTS 4\nDATA ascii\n"
ROWS = "".join(f"{x} {y} {z}\n" for x, y, z in POINTS)
RAW = POINTS.astype("<f4").tobytes()


def packed(raw):
    """LZF that copies only, as `binary_compressed` keeps it."""
    body = b"".join(bytes([len(raw[at : at + 32]) - 1]) + raw[at : at + 32] for at in range(0, len(raw), 32))
    return struct.pack("<II", len(body), len(raw)) + body


def binary(rows, storage="binary", head=HEAD):
    return head.replace("ascii", storage).encode() + rows


WIDE = np.zeros(4, [("rgb", "<u4"), ("y", "<f8"), ("pad", "u1", 3), ("z", "<i2"), ("x", "<f4")])
WIDE["x"], WIDE["y"], WIDE["z"] = POINTS.T.round()
WIDE_HEAD = (
    "# .PCD v0.7\nFIELDS rgb y _ z x\nSIZE 4 8 1 2 4\nTYPE U F U I F\nCOUNT 1 1 3 1 1\nWIDTH 2\nHEIGHT 2\nDATA ascii\n"
)


@pytest.mark.parametrize(
    "content",
    [
        HEAD + ROWS,
        (HEAD + ROWS).replace("\n", "\r\n"),
        "# café\n\n" + HEAD + ROWS,
        ("# caf\xe9\n" + HEAD + ROWS).encode("latin-1"),
        "\ufeff" + HEAD + ROWS + "\n\n",
        HEAD.replace("POINTS 4\n", "") + ROWS,
        HEAD.replace("WIDTH 4\nHEIGHT 1\n", "") + ROWS,
        HEAD.replace("FIELDS", "COLUMNS").replace("0.7", ".5") + ROWS,
        HEAD.replace("x y z", "X Y Z") + ROWS,
        "FIELDS x y z\nPOINTS 4\nDATA ascii\n" + ROWS,
        binary(RAW),
        binary(RAW + b"\n"),
        binary(RAW, head=HEAD.replace("\n", "\r\n")),
        binary(packed(POINTS.astype("<f4").T.tobytes()), "binary_compressed"),
    ],
)
def test_variants(read, content):
    np.testing.assert_array_equal(read("a.pcd", content), POINTS)


@pytest.mark.parametrize("storage", ["ascii", "binary", "binary_compressed"])
def test_fields_of_all_types_in_any_order(read, storage):
    rows = {
        "ascii": "".join(f"7 {y} 0 0 0 {z} {x}\n" for x, y, z in POINTS.round()).encode(),
        "binary": WIDE.tobytes(),
        "binary_compressed": packed(b"".join(WIDE[name].tobytes() for name in WIDE.dtype.names)),
    }
    np.testing.assert_array_equal(read("a.pcd", binary(rows[storage], storage, WIDE_HEAD)), POINTS.round())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "a.pcd line 1: 'hello', expected one of VERSION, FIELDS"),
        ("FIELDS x y z\nSIZE 4 4 4\n", "a.pcd: the header has no DATA line"),
        ("POINTS 1\nDATA ascii\n1 2 3\n", "a.pcd: the header has no FIELDS line"),
        ("FIELDS x y z\nPOINTS 1\nDATA binary\n", "a.pcd: the header has no SIZE, TYPE line"),
        ("FIELDS x y\nPOINTS 1\nDATA ascii\n1 2\n", "a.pcd line 1: fields 'x y', expected x, y and z"),
        ("FIELDS x y z\nDATA ascii\n1 2 3\n", "a.pcd: the header has no POINTS line, expected one, or WIDTH"),
        (HEAD.replace("ascii", "zip"), "a.pcd line 9: data stored as 'zip', expected one of ascii, binary"),
        (HEAD.replace("POINTS 4", "POINTS four"), "a.pcd line 8: 'four', expected POINTS and a whole number"),
        (HEAD.replace("POINTS 4", "POINTS 5"), "a.pcd line 8: POINTS 5, expected WIDTH x HEIGHT, 4"),
        (HEAD.replace("SIZE 4 4 4", "SIZE 4 4"), "a.pcd line 3: SIZE '4 4', expected 3 numbers"),
        (HEAD.replace("TYPE F F F", "TYPE F Q F"), "a.pcd line 4: TYPE 'F Q F' of SIZE 4 4 4, expected F of 4 or 8"),
        (HEAD + ROWS[:-13], "a.pcd: 3 points, expected the 4 that its header declares"),
        (HEAD + ROWS + "1 2 3\n", "a.pcd: 5 points, expected the 4 that its header declares"),
        (HEAD + ROWS.replace("4.0 ", ""), "a.pcd line 11: 2 numbers, expected 3 as the fields say"),
        (HEAD + ROWS.replace("4.0", "four"), "a.pcd line 11: '3.0 four 5.5', expected numbers x y z"),
        (binary(RAW[:-1]), "a.pcd: 3 points, expected the 4"),
        (binary(RAW + RAW), "a.pcd: 48 bytes after its points, expected 4 points"),
        (binary(RAW, head=HEAD.replace("COUNT 1 1 1", "COUNT 1 1 9999999999999")), "a.pcd: 0 points, expected the 4"),
        (binary(b"", "binary_compressed"), "a.pcd: ends after the header"),
        (binary(packed(RAW)[:-1], "binary_compressed"), "a.pcd: 49 packed bytes, expected the 50 that it declares"),
        (binary(packed(RAW + RAW), "binary_compressed"), "a.pcd: 99 packed bytes that declare 96, expected 48 of 4"),
        (
            binary(struct.pack("<II", 0, 48), "binary_compressed"),
            "a.pcd: 0 packed bytes that declare 48, expected 48 of 4 points",
        ),
        (
            binary(struct.pack("<II", 2, 48) + b"\5\0", "binary_compressed"),
            "a.pcd: packed data that is cut, expected a whole file",
        ),
        (
            binary(struct.pack("<II", 2, 48) + b"\x20\0", "binary_compressed"),
            "a.pcd: packed data that repeats what was not there",
        ),
        (
            binary(struct.pack("<II", 3, 48) + b"\0\0\0", "binary_compressed"),
            "a.pcd: packed data that is cut",
        ),
    ],
)
def test_what_is_wrong_is_named(refusal, content, message):
    assert refusal("a.pcd", content).startswith(message)


def test_a_header_without_end_takes_no_long_time(refusal):
    content = b"\n" * 300_000 + b"x" * 3_000_000
    start = time.perf_counter()
    assert refusal("a.pcd", content).startswith("a.pcd line 300001: 'xxxx")
    assert refusal("a.pcd", b"#\n" * 300_000) == (
        "a.pcd: the header has no DATA line, expected DATA and one of ascii, binary, binary_compressed"
    )
    assert time.perf_counter() - start < 3  # cut anew at every line it took minutes


def compress(raw):
    """A plain LZF coder: the nearest earlier place of the next three bytes is repeated as far as it goes."""
    out, at, literal = bytearray(), 0, bytearray()

    def flush():
        for start in range(0, len(literal), 32):
            out.append(len(literal[start : start + 32]) - 1)
            out.extend(literal[start : start + 32])
        literal.clear()

    while at < len(raw):
        found = raw.rfind(raw[at : at + 3], max(at - 8192, 0), at + 2) if at + 3 <= len(raw) else -1
        if found < 0:
            literal.append(raw[at])
            at += 1
            continue
        length = 3
        while length < 264 and at + length < len(raw) and raw[found + length] == raw[at + length]:
            length += 1
        flush()
        distance, code = at - found - 1, length - 2
        out.append(min(code, 7) << 5 | distance >> 8)
        if code >= 7:
            out.append(code - 7)
        out.append(distance & 255)
        at += length
    flush()
    return bytes(out)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 400)), max_size=8))
def test_lzf_of_repeated_pieces(pieces):
    raw = b"".join(piece * times for piece, times in pieces)
    small = compress(raw)
    assert decompress(small, len(raw)) == raw
    for size in (len(raw) - 1, len(raw) + 1):
        with pytest.raises(ValueError, match=r"packed data of (more|less) than"):
            decompress(small, size)


@given(st.binary(max_size=60))
def test_lzf_of_anything_is_no_more_than_was_asked_for(anything):
    with contextlib.suppress(ValueError):
        assert len(decompress(anything, 100)) == 100

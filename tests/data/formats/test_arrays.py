"""NPY and NPZ: plain, structured, by name; pickles are not run and headers not believed."""

import io
import zipfile

import numpy as np
import pytest

POINTS = np.array([(0, 1, 2), (3, 4, 5), (-6, 7, 8), (9, 10, 1)], dtype=np.float64)


def npy(values):
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def header(shape, descr="'<f4'"):
    """A .npy that ends after its header."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(text).to_bytes(2, "little") + text


def structured(*names, kind="<f4"):
    table = np.zeros(4, [(names[2], "<i2"), ("ring", "u1"), (names[0], kind), (names[1], kind)])
    for name, column in zip(names, POINTS.T, strict=True):
        table[name] = column
    return table


@pytest.mark.parametrize(
    "values",
    [
        POINTS,
        POINTS.astype("f2"),
        POINTS.astype(">f4"),
        POINTS.astype("i1"),
        np.asfortranarray(POINTS),
        np.hstack([POINTS, POINTS]),
        structured("x", "y", "z"),
        structured("X", "Y", "Z", kind=">f8"),
        structured("x", "y", "z").reshape(2, 2),
        np.array([(point, 1) for point in POINTS.tolist()], [("xyz", "<f4", 3), ("i", "<f4")]),
    ],
)
def test_arrays(read, values):
    np.testing.assert_array_equal(read("a.npy", npy(values)), POINTS)
    np.testing.assert_array_equal(read("a.npz", npz(points=values, colour=POINTS * 0)), POINTS)
    np.testing.assert_array_equal(read("a.npz", npz(whatever=values)), POINTS)


def test_an_array_that_python_2_wrote_is_read_without_a_warning(read):
    """Its integers end in L."""
    np.testing.assert_array_equal(read("a.npy", header("(4L, 3L)") + POINTS.astype("<f4").tobytes()), POINTS)


@pytest.mark.parametrize("name", ["points", "pos", "xyz", "coord", "Points", "XYZ"])
def test_arrays_by_name(read, name):
    np.testing.assert_array_equal(read("a.npz", npz(color=POINTS * 0, **{name: POINTS}, zzz=POINTS)), POINTS)


def test_axes_by_name(read):
    x, y, z = POINTS.T
    np.testing.assert_array_equal(read("a.npz", npz(z=z, y=y, x=x, time=x)), POINTS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(POINTS[None]), "a.npy: an array of shape (1, 4, 3), expected (points, 3 or more)"),
        (npy(np.zeros((3, 1000))), "a.npy: an array of shape (3, 1000), expected (points, 3 or more)"),
        (npy(POINTS[:, :2]), "a.npy: an array of shape (4, 2)"),
        (npy(POINTS[0, 0]), "a.npy: an array of shape ()"),
        (
            npy(POINTS.astype(object)),
            "a.npy: Python objects (a pickle, which is not run), expected an array of numbers",
        ),
        (npy({"points": POINTS}), "a.npy: Python objects (a pickle, which is not run)"),
        (npy(np.array([["a", "b", "c"]])), "a.npy: values of type <U1, expected numbers"),
        (npy(POINTS.astype(complex)), "a.npy: values of type complex128, expected numbers"),
        (npy(structured("x", "y", "h")), "a.npy: fields h, ring, x, y, expected x, y and z"),
        (npy(POINTS)[:-1], "a.npy: 95 bytes of numbers, expected 96 of an array of shape (4, 3)"),
        (header((10**12, 3)), "a.npy: 120 bytes, expected 12000000000000 of an array of shape (1000000000000, 3)"),
        (header((-1, 3)), "a.npy: 120 bytes, expected -12 of an array of shape (-1, 3)"),
        (header("[", ""), "a.npy: a damaged header of an array"),
        ("not an array", "a.npy: no array of NumPy, expected one that np.save wrote"),
    ],
)
def test_what_is_wrong_is_named(refusal, content, message):
    assert refusal("a.npy", content).startswith(message)


def test_archives_that_are_refused(refusal):
    assert refusal("a.npz", npz(arr_0=POINTS, arr_1=POINTS)).startswith("a.npz: arrays arr_0, arr_1, expected one of")
    assert refusal("a.npz", npz(points=POINTS.astype(object))).startswith("a.npz points: Python objects")
    assert refusal("a.npz", npz()).startswith("a.npz: arrays of no name, expected one of points, pos")
    assert refusal("a.npz", "text").startswith("a.npz: a damaged archive (")
    assert refusal("a.npz", npz(points=POINTS)[:-30]).startswith("a.npz: a damaged archive (")
    assert refusal("a.npz", npz(x=POINTS, y=POINTS, z=POINTS)).startswith("a.npz: arrays x, y, z")


@pytest.mark.parametrize("shape", [(30_000_000,), (10_000_000, 3)])
def test_a_bomb_is_not_unpacked(refusal, shape):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("points.npy", header(shape) + bytes(24_000_000))
    message = refusal("a.npz", buffer.getvalue())
    assert "bytes that unpack to 24000" in message
    assert message.endswith("expected at most 100 times as many")

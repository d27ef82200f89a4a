"""LAS and LAZ by laspy where it is installed, and a line that says how to get it where it is not."""

import struct
import sys

import numpy as np
import pytest

POINTS = np.array([(694386.212, 5155487.512, 381.036), (694386.5, 5155488, 382), (694387, 5155489.25, 383)])


def test_without_laspy_the_command_is_named(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "laspy", None)
    assert refusal("a.las", b"LASF") == "a.las: LAS and LAZ need laspy, expected pip install 'pcdistill[las]'"


@pytest.fixture
def written(tmp_path):
    """Writes the points by laspy, in steps of a millimetre."""
    laspy = pytest.importorskip("laspy", reason="laspy is an extra")

    def write(name):
        cloud = laspy.create(point_format=3, file_version="1.2")
        cloud.header.scales, cloud.header.offsets = np.full(3, 0.001), POINTS[0]
        cloud.x, cloud.y, cloud.z = POINTS.T
        cloud.write(tmp_path / name)
        return (tmp_path / name).read_bytes()

    return write


@pytest.mark.parametrize("name", ["a.las", "a.laz", "A.LAS"])
def test_points_in_their_units(read, written, name):
    np.testing.assert_allclose(read(name, written(name.lower())), POINTS, atol=5e-4)


def test_files_that_were_cut(refusal, written):
    for name in ("a.las", "a.laz"):
        content = written(name)
        assert refusal(name, content[:-20]).startswith(f"{name}: ")
        assert refusal(name, content[:50]).startswith(f"{name}: no LAS (it does not begin with LASF")
    assert refusal("a.las", "text").startswith("a.las: no LAS (it does not begin with LASF")


@pytest.mark.parametrize("at", [96, 100, 105, 107])  # where points begin, records, bytes a point and points
@pytest.mark.parametrize("name", ["a.las", "a.laz"])
def test_a_header_of_too_much_takes_no_memory(refusal, written, name, at):
    content = bytearray(written(name))
    size = 4 if at in (96, 100, 107) else 2
    content[at : at + size] = b"\xff" * size
    assert refusal(name, bytes(content)).startswith(f"{name}: ")


def test_a_table_of_too_many_chunks_takes_no_memory(refusal, written):
    content = bytearray(written("a.laz"))
    (start,) = struct.unpack_from("<I", content, 96)
    (table,) = struct.unpack_from("<q", content, start)
    content[table + 4 : table + 8] = b"\xff\xff\xff\x7f"
    assert refusal("a.laz", bytes(content)) == "a.laz: a damaged LAZ, expected a whole file"


def test_coordinates_beyond_all_numbers_are_infinite_without_a_warning(read, written):
    content = bytearray(written("a.las"))
    struct.pack_into("<d", content, 131, 1e308)  # the scale of x
    assert np.isinf(read("a.las", bytes(content))[:, 0]).any()

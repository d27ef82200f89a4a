"""STL: text or binary told by size, and files of more or fewer facets than they say."""

import struct

import numpy as np
import pytest

CORNERS = np.arange(18, dtype=np.float64).reshape(2, 3, 3)


def binary(head=b"", count=2, extra=b""):
    facets = b"".join(struct.pack("<12fH", 0, 0, 0, *facet.ravel(), 0) for facet in CORNERS)
    return head.ljust(80)[:80] + struct.pack("<I", count) + facets + extra


def text(name="x"):
    facets = ""
    for facet in CORNERS:
        vertices = "".join(f"   vertex {x} {y} {z}\n" for x, y, z in facet)
        facets += f" facet normal 0 0 0\n  outer loop\n{vertices}  endloop\n endfacet\n"
    return f"solid {name}\n{facets}endsolid {name}\n"


@pytest.mark.parametrize(
    "content",
    [
        binary(),
        binary(b"solid exported by SolidWorks"),
        binary(b"solid facet"),
        binary(extra=b"\n"),
        text(),
        text().upper(),
        text().replace("\n", "\r\n"),
        text("pièce").encode("latin-1"),
        "\n" + text(),
        text("").replace("endsolid \n", "endsolid"),
    ],
)
def test_variants(read, content):
    mesh = read("a.stl", content)
    np.testing.assert_array_equal(mesh.vertices[mesh.faces], CORNERS)


def test_several_solids(read):
    assert read("a.stl", text("a") + text("b")).faces.shape == (4, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (binary(count=3), "a.stl: room for 2 facets, expected the 3 that its header declares"),
        (binary(count=2**32 - 1), "a.stl: room for 2 facets, expected the 4294967295"),
        (binary(b"solid", count=1), "a.stl: room for 2 facets, expected the 1 that its header declares"),
        (binary()[:-1], "a.stl: room for 1 facets, expected the 2"),
        (b"\0\1", "a.stl: 2 bytes without 'solid' in front, expected an STL, text or binary"),
        (text().partition("endsolid")[0], "a.stl: ends in 'endfacet', expected a last line 'endsolid'"),
        (text()[:60], "a.stl: ends in 'vertex', expected a last line"),
        (text().replace("   vertex 0.0 1.0 2.0\n", ""), "a.stl line 7: a facet of 2 vertices, expected three"),
        (text().replace("0.0 1.0 2.0", "0.0 1.0"), "a.stl line 4: '0.0 1.0', expected x y z"),
        (text().replace("0.0 1.0 2.0", "0.0 one 2"), "a.stl line 4: '0.0 one 2', expected numbers"),
        ("solid x\nhello world\n", "a.stl line 2: 'hello world', expected a line of an STL"),
    ],
)
def test_what_is_wrong_is_named(refusal, content, message):
    assert refusal("a.stl", content).startswith(message)

"""PLY: every storage and type, strips, headers of odd writers, and files that were cut."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pcdistill.data.formats import Mesh, parse

POINTS = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (2, 2, 5)], dtype=np.float64)
AXES = "property float x\nproperty float y\nproperty float z\n"
FACES = "property list uchar int vertex_indices\n"
ROWS = "".join(f"{x} {y} {z}\n" for x, y, z in POINTS)
ORDERS = {"<": "binary_little_endian", ">": "binary_big_endian"}


def header(elements, storage="ascii"):
    return f"ply\nformat {storage} 1.0\ncomment made\nobj_info x\n{elements}end_header\n"


def text(elements="", rows="", vertices=ROWS, axes=AXES):
    return header(f"element vertex 5\n{axes}{elements}") + vertices + rows


def binary(elements="", rows=b"", order="<", kind="f4", name="float"):
    declared = f"element vertex 5\n{AXES.replace('float', name)}{elements}"
    return header(declared, ORDERS[order]).encode() + POINTS.astype(order + kind).tobytes() + rows


def faces(order, *polygons):
    return b"".join(struct.pack(f"{order}B{len(each)}i", len(each), *each) for each in polygons)


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text().replace("\n", "\r\n"),
        text().replace("\n", "\r"),
        "\ufeff" + text(),
        text(axes=AXES.replace(" x", " X").replace(" y", " Y").replace(" z", " Z")),
        text("element face 0\n" + FACES),
        text("element edge 2\nproperty int vertex1\nproperty int vertex2\n", "0 1\n1 2\n"),
        text("element range_grid 2\n" + FACES, "1 0\n0\n"),
        text(axes="property uchar red\n" + AXES, vertices="".join(f"7 {row}\n" for row in ROWS.splitlines())),
        binary(),
        binary(order=">"),
        binary(kind="f8", name="double"),
        binary(kind="f8", name="float64", order=">"),
        binary(kind="i2", name="short", order=">"),
        binary(kind="u1", name="uint8"),
        binary("element face 0\n" + FACES),
        binary().replace(b"\n", b"\r\n", 9),
        binary("element camera 1\nproperty list uchar float k\nproperty int w\n", struct.pack("<B2fi", 2, 1, 1, 1)),
        binary("element empty 9999999999\n", b"\0\n"),
    ],
)
def test_clouds(read, content):
    cloud = read("a.ply", content)
    assert not isinstance(cloud, Mesh)
    np.testing.assert_array_equal(cloud, POINTS)


QUAD = [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (text("element face 2\n" + FACES, "3 0 1 2\n3 0 2 3\n"), QUAD),
        (text("element face 1\n" + FACES.replace("ices", "ex"), "4 0 1 2 3\n"), QUAD),
        (text("element face 1\nproperty uchar red\n" + FACES + "property float q\n", "255 4 0 1 2 3 .5\n"), QUAD),
        (text("element tristrips 1\n" + FACES, "8 0 1 2 3 -1 1 2 4\n"), [[0, 1, 2], [1, 2, 3], [1, 2, 4]]),
        (binary("element face 1\n" + FACES, faces("<", (0, 1, 2, 3))), QUAD),
        (binary("element face 2\n" + FACES, faces(">", (0, 1, 2), (0, 2, 3)), ">"), QUAD),
        (binary("element face 2\n" + FACES, faces("<", (0, 1, 2, 3), (1, 2, 4))), [*QUAD, [1, 2, 4]]),
        (binary("element face 3\n" + FACES, faces("<", (0, 1), (), (1, 2, 4))), [[1, 2, 4]]),
        (
            binary("element tristrips 1\n" + FACES.replace("uchar", "int"), struct.pack("<i5i", 5, 0, 1, 2, 3, -1)),
            [[0, 1, 2], [1, 2, 3]],
        ),
        (
            binary(
                "element face 1\n" + FACES + "property list uchar float texcoord\n",
                faces("<", (0, 1, 2)) + struct.pack("<B2f", 2, 0, 0),
            ),
            [[0, 1, 2]],
        ),
    ],
)
def test_meshes(read, content, expected):
    mesh = read("a.ply", content)
    np.testing.assert_array_equal(mesh.vertices, POINTS)
    assert mesh.faces.tolist() == expected


def test_faces_may_stand_before_vertices(read):
    elements = f"element face 1\n{FACES}element vertex 5\n{AXES}"
    assert read("a.ply", header(elements) + "3 0 1 4\n" + ROWS).faces.tolist() == [[0, 1, 4]]


polygon = st.lists(st.integers(0, 4), min_size=3, max_size=6)


@settings(max_examples=50)
@given(st.lists(polygon, min_size=1, max_size=6), st.sampled_from("<>"))
def test_text_and_bytes_are_the_same(tmp_path_factory, polygons, order):
    path = tmp_path_factory.mktemp("ply") / "a.ply"
    declared = f"element face {len(polygons)}\n{FACES}"
    meshes = []
    for content in (
        text(declared, "".join(f"{len(each)} {' '.join(map(str, each))}\n" for each in polygons)).encode(),
        binary(declared, faces(order, *polygons), order),
    ):
        path.write_bytes(content)
        meshes.append(parse(path))
    np.testing.assert_array_equal(meshes[0].faces, meshes[1].faces)
    np.testing.assert_array_equal(meshes[0].vertices, meshes[1].vertices)


EDGES = text("element edge 1\nproperty int a\nproperty int b\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello\n", "a.ply line 1: 'hello', expected ply"),
        ("ply\nformat ascii 1.0\nelement vertex 3\n", "a.ply line 4: an end of the file in the header"),
        ("ply\nelement vertex 0\nend_header\n", "a.ply: a header without format"),
        (header(""), "a.ply: no element vertex in the header"),
        (text().replace("end_header", "end header"), "a.ply line 9: 'end header', expected a line of a PLY header"),
        (text().replace("float y", "floaty y"), "a.ply line 7: 'property floaty y', expected a line of"),
        (text().replace("vertex 5", "vertex five"), "a.ply line 5: 'element vertex five', expected"),
        (text().replace("ascii", "binary"), "a.ply line 2: 'format binary 1.0', expected a line of"),
        (text(axes=AXES.replace(" z", " depth")), "a.ply: vertices of 'x y depth', expected x, y and z"),
        (text(vertices=ROWS[:-12]), "a.ply: ends after 4 of 5 rows of element vertex, expected a whole file"),
        (text(rows="0 0 0\n"), "a.ply line 15: '0 0 0', expected an end after the rows that are declared"),
        (text(vertices=ROWS.replace("1.0 1.0 0.0", "1.0 1.0")), "a.ply line 12: 2 numbers for a vertex, expected 3"),
        (text(vertices=ROWS.replace("5", "five")), "a.ply line 14: '2.0 2.0 five.0', expected numbers"),
        (text("element face 2\n" + FACES, "3 0 1 2\n"), "a.ply: ends after 1 of 2 rows of element face"),
        (text("element face 1\n" + FACES, "3 0 1 5\n"), "a.ply line 17: a face of vertex 5, expected 0 to 4"),
        (text("element face 1\n" + FACES, "3 0 1\n"), "a.ply line 17: 3 numbers for a face, expected 4"),
        (text("element face 1\n" + FACES, "-1\n"), "a.ply line 17: a list of length -1, expected 0 or more"),
        (text("element face 1\n" + FACES, "3 0 1 x\n"), "a.ply line 17: '0 1 x', expected numbers of vertices"),
        (text("element face 1\nproperty int a\n", "1\n"), "a.ply: element face of 'a', expected a list vertex_indices"),
        (text("element trifans 1\n" + FACES, "3 0 1 2\n"), "a.ply: a surface of element 'trifans', expected face"),
        (EDGES, "a.ply: ends after 0 of 1 rows of element edge"),
        (binary()[:-1], "a.ply: ends after 4 of 5 rows of element vertex, expected a whole file"),
        (binary() + b"more", "a.ply: 4 bytes after the rows that its header declares"),
        (binary().replace(b"vertex 5", b"vertex 999999999999"), "a.ply: ends after 5 of 999999999999 rows"),
        (binary("element face 1\n" + FACES, faces("<", (0, 1, 5))), "a.ply: a face of vertex 5, expected 0 to 4"),
        (binary("element face 2\n" + FACES, faces("<", (0, 1, 5), ())), "a.ply: a face of vertex 5, expected 0 to 4"),
        (
            binary("element face 1\n" + FACES, faces("<", (0, 1, 2))[:-1]),
            "a.ply: ends after 0 of 1 rows of element face",
        ),
        (binary("element face 1\n" + FACES), "a.ply: ends after 0 of 1 rows of element face"),
        (
            binary("element face 1\n" + FACES.replace("uchar", "int"), struct.pack("<i", -1)),
            "a.ply: a list of length -1 in face 0",
        ),
        (
            binary("element face 1\n" + FACES.replace("uchar", "uint"), struct.pack("<I", 2**32 - 1)),
            "a.ply: ends after 0 of 1 rows of element face",
        ),
    ],
)
def test_what_is_wrong_is_named(refusal, content, message):
    assert refusal("a.ply", content).startswith(message)

"""OBJ: indices of all kinds, clouds, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.data.formats import Mesh, parse

VERTICES = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"


@pytest.mark.parametrize(
    "text",
    [
        VERTICES + "f 1 2 3\nf 1 3 4\n",
        VERTICES + "f 1 2 3 4\n",
        VERTICES + "f -4 -3 -2 -1\n",
        VERTICES + "vt 0 0\nvn 0 0 1\nf 1/1/1 2//1 3/1 4\n",
        VERTICES + "f 1 2 \\\n3 \\\n 4\n",
        "mtllib gone.mtl\no a\n" + VERTICES + "g one\nusemtl red\ns 1\nf 1 2 3\ng two\nl 1 2\np 1\nf 1 3 4\n",
        "f 1 2 3 4\n" + VERTICES.replace("\n", " 0.5 0.5 0.5\n"),
        ("# a\n" + VERTICES + "f 1 2 3 4 # quad\n").replace("\n", "\r\n"),
    ],
)
def test_a_square(read, text):
    mesh = read("a.obj", text)
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@given(st.lists(st.lists(st.tuples(*[st.integers(-99, 99)] * 3), min_size=3, max_size=6), min_size=1, max_size=5))
def test_relative_indices_count_from_where_they_stand(tmp_path_factory, polygons):
    """Absolute and relative indices of the same polygons, vertices right before each, are the same mesh."""
    ways = {"absolute": "", "relative": ""}
    count = 0
    for polygon in polygons:
        vertices = "".join(f"v {x} {y} {z}\n" for x, y, z in polygon)
        size = len(polygon)
        ways["absolute"] += vertices + f"f {' '.join(str(count + at + 1) for at in range(size))}\n"
        ways["relative"] += vertices + f"f {' '.join(str(at - size) for at in range(size))}\n"
        count += size
    path = tmp_path_factory.mktemp("obj") / "a.obj"
    meshes = []
    for text in ways.values():
        path.write_text(text)
        meshes.append(parse(path))
    np.testing.assert_array_equal(meshes[0].vertices, meshes[1].vertices)
    np.testing.assert_array_equal(meshes[0].faces, meshes[1].faces)
    assert len(meshes[0].faces) == sum(len(polygon) - 2 for polygon in polygons)


def test_vertices_alone_are_a_cloud(read):
    cloud = read("a.obj", VERTICES)
    assert not isinstance(cloud, Mesh)
    assert cloud.shape == (4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VERTICES + "f 1 2 5\n", "a.obj line 5: a face of vertex 5, expected 1 to 4"),
        (VERTICES + "f 1 2 0\n", "a.obj line 5: a face '1 2 0', expected whole numbers but 0"),
        (VERTICES + "f 1 2 x/1\n", "a.obj line 5: a face '1 2 x/1', expected whole numbers but 0"),
        (VERTICES + "f -1 -2 -5\n", "a.obj line 5: a face of vertex -5, expected one of the 4 so far"),
        (VERTICES + "f\n", "a.obj line 5: a face without vertices"),
        (VERTICES + "v 1 2\n", "a.obj line 5: '1 2', expected x y z"),
        (VERTICES + "v 1 2 a\n", "a.obj line 5: '1 2 a', expected numbers x y z"),
        (VERTICES + "cstype bspline\n", "a.obj line 5: a free-form surface (cstype), expected faces of polygons"),
        ("hello\n", "a.obj: no vertices, expected lines 'v x y z'"),
        (b"\0\1\2\xff", "a.obj: no vertices, expected lines 'v x y z'"),
    ],
)
def test_what_is_wrong_is_named(refusal, text, message):
    assert refusal("a.obj", text).startswith(message)

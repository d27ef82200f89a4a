"""GLB: scenes as trimesh writes them, parts in several places, clouds, and what is not read."""

import json
import struct

import numpy as np
import pytest
import trimesh

from pcdistill.data.formats import Mesh, parse


def glb(scene):
    return scene.export(file_type="glb")


def box_scene(cube):
    """Two boxes of one mesh, the second moved by 100 along x."""
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.Trimesh(*cube, process=False), node_name="a", geom_name="box")
    move = trimesh.transformations.translation_matrix((100, 0, 0))
    scene.graph.update(frame_to="b", frame_from="world", matrix=move, geometry="box")
    return scene


def edited(content, change):
    """`content` with its description of the scene changed."""
    (length,) = struct.unpack_from("<I", content, 12)
    scene = json.loads(content[20 : 20 + length])
    change(scene)
    text = json.dumps(scene).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    sizes = struct.pack("<III", 2, 20 + len(text) + len(rest), len(text))
    return b"glTF" + sizes + content[16:20] + text + rest


def test_a_scene_is_one_surface(read, cube):
    mesh = read("a.glb", glb(box_scene(cube)))
    assert isinstance(mesh, Mesh)
    corners = mesh.vertices[mesh.faces]
    assert corners.shape == (24, 3, 3)
    np.testing.assert_allclose(corners.min(axis=(0, 1)), (9, 18, 27))
    np.testing.assert_allclose(corners.max(axis=(0, 1)), (111, 22, 33))


def test_strips_count_as_triangles(read, cube):
    strip = edited(glb(box_scene(cube)), lambda scene: scene["meshes"][0]["primitives"][0].update(mode=5))
    assert read("a.glb", strip).faces.shape[1] == 3


def test_points_alone_are_a_cloud(read, random_points):
    points = random_points(1, 40)[0]
    cloud = read("a.glb", glb(trimesh.Scene([trimesh.PointCloud(points)])))
    assert not isinstance(cloud, Mesh)
    np.testing.assert_allclose(cloud, points, rtol=1e-6)


CHANGES = {
    "many numbers": (lambda scene: scene["accessors"][0].update(count=10**12), "1000000000000 numbers in"),
    "no view": (lambda scene: [scene["accessors"][0].pop("bufferView"), scene["accessors"][0].update(count=10**9)], ""),
    "fans": (lambda scene: scene["meshes"][0]["primitives"][0].update(mode=6), "triangle fans, expected triangles"),
    "other file": (lambda scene: scene["buffers"][0].update(uri="../x.bin"), "numbers in other files"),
    "packed": (
        lambda scene: scene.update(extensionsRequired=["KHR_draco_mesh_compression"]),
        "packed by KHR_draco_mesh_compression, expected a GLB that is not",
    ),
    "circle": (lambda scene: scene["nodes"][0].update(children=[0]), "a node that stands in several places"),
    "no scene": (lambda scene: scene.update(nodes=3), "a damaged description of its scene"),
    "lines": (
        lambda scene: [part.update(mode=1) for mesh in scene["meshes"] for part in mesh["primitives"]],
        "a scene without triangles and points",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_read_is_named(refusal, cube, name):
    change, message = CHANGES[name]
    assert refusal("a.glb", edited(glb(box_scene(cube)), change)).startswith(f"a.glb: {message}")


def test_damaged_files(refusal, cube):
    whole = glb(box_scene(cube))
    assert refusal("a.glb", "text").startswith("a.glb: no GLB (it does not begin with glTF), expected binary glTF 2")
    assert refusal("a.glb", whole[:12]) == "a.glb: 12 bytes, expected at least 20 of binary glTF 2"
    assert refusal("a.glb", whole[:-8]) == f"a.glb: {len(whole) - 8} bytes, expected the {len(whole)} that it declares"
    assert refusal("a.glb", whole[:4] + b"\1" + whole[5:]).startswith("a.glb: glTF of version 1")
    assert refusal("a.glb", whole[:20] + b"?" + whole[21:]).startswith("a.glb: a damaged description of its scene")


def test_no_other_file_is_opened(read, cube, tmp_path):
    content = edited(glb(box_scene(cube)), lambda scene: scene.update(images=[{"uri": "secret.png"}]))
    (tmp_path / "secret.png").write_bytes(b"not an image")
    assert isinstance(read("a.glb", content), Mesh)


def test_read_as_its_own_export(tmp_path, cube):
    trimesh.Trimesh(*cube, process=False).export(tmp_path / "a.glb")
    assert parse(tmp_path / "a.glb").faces.shape == (12, 3)

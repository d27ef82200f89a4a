"""The same files read by Open3D, which shares no code with these readers, and by trimesh."""

import numpy as np
import pytest
import trimesh

from pcdistill.data.formats import parse

open3d = pytest.importorskip("open3d", reason="open3d is an extra")
io = open3d.io


@pytest.fixture
def mesh():
    """A bumpy sphere of 162 vertices."""
    sphere = trimesh.creation.icosphere(2)
    sphere.vertices *= 1 + 0.1 * np.random.default_rng(0).random((len(sphere.vertices), 1))
    return sphere


@pytest.mark.parametrize(
    ("name", "ascii_"),
    [("a.off", True), ("a.obj", True), ("a.ply", True), ("a.ply", False), ("a.stl", False), ("a.glb", False)],
)
def test_meshes_that_open3d_wrote(tmp_path, mesh, name, ascii_):
    written = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(mesh.vertices), open3d.utility.Vector3iVector(mesh.faces)
    )
    written.compute_vertex_normals()
    assert io.write_triangle_mesh(str(tmp_path / name), written, write_ascii=ascii_)
    found = parse(tmp_path / name)
    corners = mesh.vertices[mesh.faces]
    np.testing.assert_allclose(found.vertices[found.faces], corners, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.ply", {"write_ascii": True}),
        ("a.ply", {}),
        ("a.pcd", {"write_ascii": True}),
        ("a.pcd", {}),
        ("a.pcd", {"compressed": True}),
        ("a.xyz", {}),
        ("a.pts", {}),
    ],
)
def test_clouds_that_open3d_wrote(tmp_path, random_points, name, settings):
    # Rounded, so that there is something to pack; with colours, which come behind the points.
    points = random_points(1, 3000)[0].astype(np.float64).round(1)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
    cloud.colors = open3d.utility.Vector3dVector(np.full(points.shape, 0.5))
    assert io.write_point_cloud(str(tmp_path / name), cloud, **settings)
    np.testing.assert_allclose(parse(tmp_path / name), points, atol=1e-5)


@pytest.mark.parametrize("name", ["a.off", "a.obj"])
def test_what_open3d_reads_alike(tmp_path, name):
    rows = ["0 0 0", "1 0 0", "1 1 0", "0 1 0", "5 5 5"]
    text = {
        "a.off": "NOFF\n5 2 0\n" + "".join(f"{row} 0 0 1\n" for row in rows) + "3 0 1 2\n4 0 1 2 3\n",
        "a.obj": "".join(f"v {row}\n" for row in rows[:4]) + "f -4 -3 -2\nv 5 5 5\nf -1 -2 -3\nf 1 2 3\nf 1 3 4\n",
    }[name]
    (tmp_path / name).write_text(text)
    found, other = parse(tmp_path / name), io.read_triangle_mesh(str(tmp_path / name))
    ours = found.vertices[found.faces]
    theirs = np.asarray(other.vertices)[np.asarray(other.triangles)]
    assert area(ours) == pytest.approx(area(theirs))
    np.testing.assert_allclose(ours.min(axis=(0, 1)), theirs.min(axis=(0, 1)))
    np.testing.assert_allclose(ours.max(axis=(0, 1)), theirs.max(axis=(0, 1)))


def area(corners):
    sides = corners[:, 1:] - corners[:, :1]
    return np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1).sum() / 2

import numpy as np
import pytest

from pcdistill.viewing.open3d.spheres import sphere, sphere_mesh


@pytest.mark.parametrize("triangles", [1, 20, 100, 10_000])
def test_a_closed_sphere_is_watertight_and_faces_outwards(triangles: int) -> None:
    vertices, faces = sphere(triangles)
    np.testing.assert_allclose(np.linalg.norm(vertices, axis=1), 1, atol=1e-6)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    volume = np.einsum("ij,ij->", a, np.cross(b, c)) / 6
    assert 0.3 * 4.19 < volume < 4.19
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a + b + c) > -1e-6).all()


def test_an_open_sphere_covers_the_whole_disc_an_eye_in_front_sees() -> None:
    vertices, faces = sphere(200, open_behind=True)
    flat = vertices[faces][..., :2]
    first, second = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    area = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    # What faces the eye fills the unit disc; the rest looks away.
    assert area[area > 0].sum() == pytest.approx(np.pi, rel=0.05)
    assert len(faces) <= 200


def test_a_mesh_of_spheres_has_one_at_each_centre() -> None:
    vertices, faces = sphere(30)
    centres = np.array([[0, 0, 0], [5, 0, 0], [0, 7, 0]], dtype=np.float32)
    mesh, triangles = sphere_mesh(centres, 0.5, vertices, faces)
    parts = mesh.reshape(3, -1, 3)
    np.testing.assert_allclose(np.linalg.norm(parts - centres[:, None], axis=2), 0.5, atol=1e-5)
    owner = triangles // len(vertices)
    assert (owner == owner[:, :1]).all()
    assert np.bincount(owner[:, 0]).tolist() == [len(faces)] * 3

"""Single files: OFF with ModelNet's faults, other meshes, clouds, and what is refused."""

import io
import struct

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from pcdistill.core.errors import InputError
from pcdistill.data.objects import Mesh, parse, read_object, sample_surface

PYRAMID = np.array([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)], dtype=float)
FACES = np.array([(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)])


@pytest.mark.parametrize("suffix", ["obj", "stl", "ply"])
def test_other_mesh_formats_give_the_surface(tmp_path, cube, suffix):
    path = tmp_path / f"box.{suffix}"
    trimesh.Trimesh(*cube, process=False).export(path)
    mesh = parse(path)
    assert isinstance(mesh, Mesh)
    corners = mesh.vertices[mesh.faces]
    np.testing.assert_allclose(corners.min(axis=(0, 1)), (9, 18, 27))
    np.testing.assert_allclose(corners.max(axis=(0, 1)), (11, 22, 33))
    on_box = np.abs(read_object(path, 200, 0, "box"))
    assert on_box.shape == (200, 3)


def test_ascii_stl(tmp_path, cube):
    path = tmp_path / "box.stl"
    trimesh.Trimesh(*cube, process=False).export(path, file_type="stl_ascii")
    assert len(parse(path).faces) == 12


def test_samples_lie_on_the_surface_uniform_by_area():
    # A large and a small rectangle: 24 parts of area to 1, in planes z = 0 and z = 1.
    vertices = [(0, 0, 0), (6, 0, 0), (6, 4, 0), (0, 4, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)]
    faces = [(0, 1, 2), (0, 2, 3), (4, 5, 6), (4, 6, 7)]
    mesh = Mesh(np.array(vertices, dtype=float), np.array(faces))
    sampled = sample_surface(mesh, 20_000, np.random.default_rng(0), "mesh") * 3 + (3, 2, 0.5)
    large = np.abs(sampled[:, 2]) < 1e-9
    assert np.allclose(sampled[~large, 2], 1)
    assert abs(large.mean() - 24 / 25) < 4 * np.sqrt(24 / 25**2 / 20_000)
    counts, *_ = np.histogram2d(sampled[large, 0], sampled[large, 1], bins=(6, 4), range=((0, 6), (0, 4)))
    expected = large.sum() / 24
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-squared, 23 degrees of freedom: p = 4e-5


@given(st.floats(1e-9, 1e12), st.floats(-3, 3))
def test_scale_and_place_of_a_mesh_do_not_matter(scale, shift):
    place = np.array([shift, -shift, 2 * shift])
    plain = sample_surface(Mesh(PYRAMID, FACES), 64, np.random.default_rng(1), "mesh")
    moved = sample_surface(Mesh((PYRAMID + place) * scale, FACES), 64, np.random.default_rng(1), "mesh")
    np.testing.assert_allclose(moved, plain, atol=1e-9)


def test_coordinates_of_1e11(tmp_path, cube, off_text):
    vertices, faces = cube
    (tmp_path / "plain.off").write_text(off_text(vertices, faces))
    (tmp_path / "huge.off").write_text(off_text(vertices * 1e11, faces))
    plain, huge = (read_object(tmp_path / f"{name}.off", 100, 0, "same") for name in ("plain", "huge"))
    np.testing.assert_allclose(huge, plain, atol=1e-6)
    assert np.linalg.norm(huge, axis=1).max() == pytest.approx(1)


def test_vertices_of_no_face_do_not_matter():
    stray = np.vstack([PYRAMID, [[1e6, 1e6, 1e6]]])
    plain, other = (
        sample_surface(Mesh(vertices, FACES), 32, np.random.default_rng(0), "mesh") for vertices in (PYRAMID, stray)
    )
    np.testing.assert_array_equal(plain, other)


def test_seed_and_name_make_the_sample(tmp_path, cube, off_text):
    (tmp_path / "a.off").write_text(off_text(*cube))
    first = read_object(tmp_path / "a.off", 50, 0, "a")
    np.testing.assert_array_equal(first, read_object(tmp_path / "a.off", 50, 0, "a"))
    assert not np.array_equal(first, read_object(tmp_path / "a.off", 50, 1, "a"))
    assert not np.array_equal(first, read_object(tmp_path / "a.off", 50, 0, "b"))
    assert read_object(tmp_path / "a.off", None, 0, "a").shape == (1024, 3)


def pcd(storage: str, rows: np.ndarray) -> bytes:
    header = "# .PCD v0.7\nVERSION 0.7\nFIELDS rgb x y z\nSIZE 4 4 4 8\nTYPE U F F F\nCOUNT 1 1 1 1\n"
    header += f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(rows)}\nDATA {storage}\n"
    if storage == "ascii":
        return header.encode() + "\n".join(f"7 {x} {y} {z}" for x, y, z in rows.tolist()).encode()
    return header.encode() + b"".join(struct.pack("<Iffd", 7, *row) for row in rows.tolist())


def cloud_files(folder, rows):
    """The same cloud in every cloud format."""
    buffer = io.BytesIO()
    trimesh.PointCloud(rows).export(buffer, file_type="ply")
    (folder / "c.ply").write_bytes(buffer.getvalue())
    (folder / "c.pcd").write_bytes(pcd("binary", rows))
    np.savetxt(folder / "c.xyz", np.hstack([rows, rows]), header="x y z nx ny nz")
    np.savetxt(folder / "comma.xyz", rows, delimiter=",")
    np.save(folder / "c.npy", np.hstack([rows, np.ones((len(rows), 1))]))
    np.savez(folder / "c.npz", colour=rows * 0, pos=rows)
    np.savez(folder / "only.npz", whatever=rows)
    return sorted(path for path in folder.iterdir())


def test_clouds_of_every_format(tmp_path, random_points, reference):
    rows = random_points(1, 20)[0].astype(np.float64)
    files = cloud_files(tmp_path, rows)
    assert len(files) == 7
    for file in files:
        np.testing.assert_allclose(read_object(file, None, 0, "c"), reference(rows[None])[0], atol=1e-5)
        subset = read_object(file, 8, 0, "c")
        assert subset.shape == (8, 3)
        assert len(np.unique(subset, axis=0)) == 8
        filled = read_object(file, 21, 0, "c")
        assert filled.shape == (21, 3)
        assert len(np.unique(filled, axis=0)) == 20


TEXTS = {
    "nothing.off": ("OFF\n0 0 0\n", r"a mesh without faces"),
    "degenerate.off": (
        "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n2 0 1\n",
        r"a mesh without faces, expected at least one triangle",
    ),
    "flat.off": ("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n", r"a mesh of zero area"),
    "point.off": ("OFF\n3 1 0\n1 2 3\n1 2 3\n1 2 3\n3 0 1 2\n", r"a mesh of zero area"),
    "nan.off": ("OFF\n3 1 0\n0 0 0\n1 nan 0\n0 1 0\n3 0 1 2\n", r"vertices with NaN or infinite"),
    "empty.off": ("", r"an empty file"),
    "nan.xyz": ("0 0 0\n0 nan 0\n", r"1 of 2 points with NaN or infinite coordinates, point 1 first"),
    "same.xyz": ("1 2 3\n1 2 3\n", r"all points of cloud 0 coincide"),
    "pointer.ply": ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", r"a pointer of Git LFS"),
    "page.npz": ("<!DOCTYPE html><html>404</html>", r"a page of HTML"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_bad_files_are_one_line_that_names_the_file(tmp_path, name):
    text, message = TEXTS[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=rf"{name}: .*{message}|{name}: {message}") as caught:
        read_object(tmp_path / name, 16 if name.endswith(("off", "obj", "stl", "ply")) else None, 0, name)
    assert "\n" not in str(caught.value)


class Trap:
    """Leaves a mark when it is unpickled."""

    ran = False

    def __reduce__(self):
        return setattr, (Trap, "ran", True)


def test_pickles_in_disguise_are_not_run(tmp_path):
    boxed = np.array([Trap()], dtype=object)
    np.save(tmp_path / "trap.npy", boxed, allow_pickle=True)
    np.savez(tmp_path / "trap.npz", points=boxed)
    for name in ("trap.npy", "trap.npz"):
        with pytest.raises(InputError, match=rf"{name}.*: Python objects \(a pickle, which is not run\)"):
            parse(tmp_path / name)
    assert not Trap.ran


def test_nan_is_seen_whatever_part_is_drawn(tmp_path, random_points):
    cloud = random_points(1, 2000)[0]
    cloud[1000, 1] = np.inf
    np.save(tmp_path / "c.npy", cloud)
    for seed in range(3):
        with pytest.raises(InputError, match=r"c\.npy: 1 of 2000 points with NaN or infinite .*, point 1000 first"):
            read_object(tmp_path / "c.npy", 2, seed, "c")

"""Writers of the official layouts, made of tiny known clouds."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pcdistill.clouds import PointClouds

WriteH5 = Callable[..., Path]
Cube = tuple[np.ndarray, np.ndarray]


def random_points(clouds: int, points: int, seed: int = 0) -> np.ndarray:
    """`(clouds, points, 3)` float32, stretched along z, off centre."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(clouds, points, 3)) * (1, 2, 5) + 3).astype(np.float32)


def reference(points: np.ndarray) -> np.ndarray:
    """Unit-sphere normalisation, written a second time and cloud by cloud."""
    out = []
    for cloud in np.asarray(points, dtype=np.float64):
        centred = cloud - cloud.mean(axis=0)
        out.append(centred / np.linalg.norm(centred, axis=1).max())
    return np.stack(out)


def to_z_up(points: np.ndarray) -> np.ndarray:
    """A quarter turn about x: y goes to z, z to -y."""
    return points @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=points.dtype)


def off_text(vertices: np.ndarray, faces: np.ndarray, *, run_on: bool = False) -> str:
    """An OFF file; `run_on` gives the malformed first line that ModelNet has."""
    head = f"OFF{'' if run_on else chr(10)}{len(vertices)} {len(faces)} 0\n"
    rows = [" ".join(map(repr, map(float, vertex))) for vertex in vertices]
    return head + "\n".join(rows + ["3 " + " ".join(map(str, face)) for face in faces]) + "\n"


@pytest.fixture(name="random_points")
def _random_points() -> Callable[..., np.ndarray]:
    return random_points


@pytest.fixture(name="reference")
def _reference() -> Callable[[np.ndarray], np.ndarray]:
    return reference


@pytest.fixture(name="to_z_up")
def _to_z_up() -> Callable[[np.ndarray], np.ndarray]:
    return to_z_up


@pytest.fixture(name="off_text")
def _off_text() -> Callable[..., str]:
    return off_text


@pytest.fixture
def pair() -> tuple[PointClouds, PointClouds]:
    """Train and test clouds of three classes, 32 points."""

    def make(per_class: int, seed: int) -> PointClouds:
        points = torch.from_numpy(reference(random_points(3 * per_class, 32, seed)).astype(np.float32))
        labels = torch.arange(3).repeat(per_class)
        facts = {"name": "made", "source": "made.h5", "up_axis": "z", "normalised": True}
        return PointClouds(points, labels, ("a", "b", "c"), facts)

    return make(5, 1), make(2, 2)


@pytest.fixture
def write_h5(tmp_path: Path) -> WriteH5:
    """Writes a project HDF5 file by h5py alone; keywords replace or (None) leave out a part."""

    def write(name: str = "set.h5", **parts: object) -> Path:
        path = tmp_path / name
        labels = np.array([0, 1, 2, 0, 1, 2])
        with h5py.File(path, "w") as file:
            for number, split in enumerate(("train", "test")):
                values = {
                    f"{split}/points": random_points(6, 40, number).astype(np.float16),
                    f"{split}/labels": labels,
                    f"{split}/ids": np.array([f"{split}{at}" for at in range(6)], dtype="S"),
                }
                for key, value in {**values, **parts}.items():
                    if key.startswith(split) and value is not None:
                        file[key] = value
            attributes = {
                "class_names": ["a", "b", "c"],
                "up_axis": "z",
                "licence": "none",
                "split": "official",
            }
            for key, value in {**attributes, **parts}.items():
                if "/" not in key and value is not None:
                    file.attrs[key] = value
        return path

    return write


@pytest.fixture
def cube() -> Cube:
    """Vertices `(8, 3)` and triangles `(12, 3)` of a box of 2 x 4 x 6 around (10, 20, 30)."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [face for a, b, c, d in quads for face in ((a, b, c), (a, c, d))]
    return signs * (1, 2, 3) + (10, 20, 30), np.array(faces)


@pytest.fixture
def off_tree(tmp_path: Path, cube: Cube) -> Callable[..., Path]:
    """Writes `<class>/<split>/*.off` of boxes, each class stretched differently."""

    def write(name: str, classes: list[str], train: int = 2, test: int = 1) -> Path:
        vertices, faces = cube
        for label, known in enumerate(classes):
            for split, first, count in (("train", 1, train), ("test", 1 + train, test)):
                folder = tmp_path / name / known / split
                folder.mkdir(parents=True)
                for number in range(first, first + count):
                    text = off_text(vertices * (1, 1, 1 + label), faces, run_on=number % 2 == 0)
                    (folder / f"{known}_{number:04d}.off").write_text(text)
        return tmp_path / name

    return write

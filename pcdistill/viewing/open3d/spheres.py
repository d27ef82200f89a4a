"""Spheres as triangle meshes, for Open3D, whose own points are flat squares."""

import numpy as np
from numpy.typing import NDArray

from pcdistill.viewing.scene import Floats

Faces = NDArray[np.int32]


def sphere(triangles: int, open_behind: bool = False) -> tuple[Floats, Faces]:
    """Unit vertices `(V, 3)` and counter-clockwise faces `(F, 3)` of rings around z.

    Args:
        triangles: about how many to spend, within reason.
        open_behind: leave out what an eye on +z does not see.
    """
    rings = int(np.clip(np.sqrt(triangles / (6 if open_behind else 10)), 2, 7))
    around = 4 * rings if rings > 2 else 7
    # A little over a hemisphere: in perspective the eye sees slightly round the side.
    polar = np.linspace(0, np.deg2rad(100) if open_behind else np.pi, rings + 1)[1:]
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    flat = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    body = np.concatenate(
        [
            np.sin(polar)[:, None, None] * flat,
            np.broadcast_to(np.cos(polar)[:, None, None], (rings, around, 1)),
        ],
        axis=2,
    )
    vertices = np.concatenate([[[0.0, 0.0, 1.0]], body.reshape(-1, 3)]).astype(np.float32)

    here = np.arange(around)
    after = (here + 1) % around
    faces = [np.stack([np.zeros_like(here), 1 + here, 1 + after], axis=1)]
    for ring in range(rings - 1):
        upper, lower = 1 + ring * around, 1 + (ring + 1) * around
        faces.append(np.stack([upper + here, lower + here, lower + after], axis=1))
        faces.append(np.stack([upper + here, lower + after, upper + after], axis=1))
    return vertices, np.concatenate(faces).astype(np.int32)


def sphere_mesh(centres: Floats, radius: float, vertices: Floats, faces: Faces) -> tuple[Floats, Faces]:
    """One mesh of equal spheres at `centres` `(P, 3)`: vertices `(P*V, 3)` and faces `(P*F, 3)`."""
    placed = centres[:, None] + radius * vertices
    shifted = faces + (np.arange(len(centres), dtype=np.int32) * len(vertices))[:, None, None]
    return placed.reshape(-1, 3), shifted.reshape(-1, 3)

"""Pure functions on point clouds `(B, N, 3)`: frames, sampling, neighbours. No state, no files."""

from pcdistill.geometry.frames import normalise, random_rotations, rotate, rotation_matrix
from pcdistill.geometry.neighbours import chamfer, knn
from pcdistill.geometry.sampling import farthest_point_sample, gather_points

__all__ = [
    "chamfer",
    "farthest_point_sample",
    "gather_points",
    "knn",
    "normalise",
    "random_rotations",
    "rotate",
    "rotation_matrix",
]

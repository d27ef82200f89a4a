"""Pure functions on point clouds `(B, N, 3)`: frames, sampling, neighbours. No state, no files."""

from pcdistill.geometry.assignment import assign
from pcdistill.geometry.frames import canonical_pose, normalise, random_rotations, rotate, rotation_matrix
from pcdistill.geometry.neighbours import chamfer, knn, nearest_indices
from pcdistill.geometry.sampling import farthest_point_sample, gather_points

__all__ = [
    "assign",
    "canonical_pose",
    "chamfer",
    "farthest_point_sample",
    "gather_points",
    "knn",
    "nearest_indices",
    "normalise",
    "random_rotations",
    "rotate",
    "rotation_matrix",
]

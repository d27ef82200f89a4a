"""Pure functions on point clouds `(B, N, 3)`: frames, sampling, neighbours. No state, no files."""

from pcdistill.geometry.assignment import assign
from pcdistill.geometry.corruptions import MODELNET_C, POINTCLOUD_C, SEVERITIES, corrupt, corruptions
from pcdistill.geometry.frames import normalise, random_rotations, rotate, rotation_matrix
from pcdistill.geometry.neighbours import ball_query, chamfer, chamfer_matrix, knn, nearest_indices
from pcdistill.geometry.sampling import farthest_point_sample, farthest_points, gather_points, thinned
from pcdistill.geometry.views import in_sight

__all__ = [
    "MODELNET_C",
    "POINTCLOUD_C",
    "SEVERITIES",
    "assign",
    "ball_query",
    "chamfer",
    "chamfer_matrix",
    "corrupt",
    "corruptions",
    "farthest_point_sample",
    "farthest_points",
    "gather_points",
    "in_sight",
    "knn",
    "nearest_indices",
    "normalise",
    "random_rotations",
    "rotate",
    "rotation_matrix",
    "thinned",
]

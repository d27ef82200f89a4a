"""Write an object of the built-in shapes as a mesh, one that is neither in the training nor in the test set.

python scripts/write_mesh.py chair chair.ply 1    # the second of as many as one likes
"""

import sys
from pathlib import Path

import numpy as np
import trimesh

from pcdistill.data.procedural.shapes import FAMILIES, mesh

STREAM = 99  # of objects that no split has


def main() -> None:
    """Write the mesh of a family."""
    name, path, number = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    pieces = mesh(FAMILIES[name], (0, STREAM, list(FAMILIES).index(name), number))
    triangles = np.concatenate([solid for _, solid in pieces])
    made = trimesh.Trimesh(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3), process=False)
    made.export(path)


if __name__ == "__main__":
    main()

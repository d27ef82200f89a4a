"""LAS and LAZ clouds of laser scanners, by laspy, which is an extra."""

import logging
from pathlib import Path

import numpy as np

from pcdistill.core.errors import InputError
from pcdistill.data.formats.shape import Points

INSTALL = "pip install 'pcdistill[las]'"
CHUNK = 2**18  # points read at a time, so that a header that declares too many takes no memory


def read_las(path: Path) -> Points:
    """Points `(P, 3)` of the file, in its units.

    Raises:
        InputError: if there are fewer points than the file declares, it is damaged, or laspy is not there.
    """
    try:
        import laspy  # an extra, and slow to import
    except ModuleNotFoundError:
        raise InputError(path, "LAS and LAZ need laspy", INSTALL) from None
    parts = []
    log = logging.getLogger("laspy.lasreader")
    log.disabled = True  # it says once more what is raised
    try:
        with laspy.open(path) as file:
            declared = file.header.point_count
            for chunk in file.chunk_iterator(CHUNK):
                parts.append(np.stack([chunk.x, chunk.y, chunk.z], axis=1).astype(np.float64))
    except Exception as problem:  # laspy and its backends raise anything on a damaged file
        raise InputError(path, "a damaged LAS or LAZ", "a whole file") from problem
    finally:
        log.disabled = False
    cloud = np.concatenate(parts) if parts else np.zeros((0, 3))
    if len(cloud) != declared:
        raise InputError(path, f"{len(cloud)} points", f"the {declared} that its header declares")
    return cloud

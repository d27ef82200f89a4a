"""Files to `PointClouds`: named sets, readers for the layouts in use, the procedural default set."""

from pcdistill.data.catalog import CatalogRow, catalog, info, load, open_stream
from pcdistill.data.project import H5Clouds, write_hdf5
from pcdistill.data.pyg import from_pyg, to_pyg
from pcdistill.data.splits import last_split, validation_split

__all__ = [
    "CatalogRow",
    "H5Clouds",
    "catalog",
    "from_pyg",
    "info",
    "last_split",
    "load",
    "open_stream",
    "to_pyg",
    "validation_split",
    "write_hdf5",
]

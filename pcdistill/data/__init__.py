"""Files to `PointClouds`: named sets, readers for the layouts in use, the procedural default set."""

from pcdistill.data.catalog import CatalogRow, catalog, info, load, open_streamed
from pcdistill.data.gathering import any_number, remarks, skipped
from pcdistill.data.memory import from_dataset
from pcdistill.data.project import H5Clouds, write_hdf5
from pcdistill.data.pyg import from_pyg, to_pyg
from pcdistill.data.splits import last_split, validation_split
from pcdistill.data.stream import StreamedClouds

__all__ = [
    "CatalogRow",
    "H5Clouds",
    "StreamedClouds",
    "any_number",
    "catalog",
    "from_dataset",
    "from_pyg",
    "info",
    "last_split",
    "load",
    "open_streamed",
    "remarks",
    "skipped",
    "to_pyg",
    "validation_split",
    "write_hdf5",
]

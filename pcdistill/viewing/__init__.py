"""Pictures of point clouds: off-screen galleries and an interactive window."""

from pcdistill.viewing.pictures import gallery
from pcdistill.viewing.window import open_window

__all__ = ["gallery", "open_window"]

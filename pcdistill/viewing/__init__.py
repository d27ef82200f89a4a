"""Pictures of point clouds: off-screen galleries and an interactive window; and plots of results."""

from pcdistill.viewing.curves import Curve, Point, accuracy_bars, accuracy_plot
from pcdistill.viewing.pictures import gallery
from pcdistill.viewing.window import open_window

__all__ = ["Curve", "Point", "accuracy_bars", "accuracy_plot", "gallery", "open_window"]

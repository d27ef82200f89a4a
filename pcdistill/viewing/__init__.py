"""Pictures of point clouds: off-screen galleries and an interactive window; and plots of results."""

from pcdistill.viewing.curves import Curve, Point, accuracy_bars, accuracy_plot, curves_of, loss_plot
from pcdistill.viewing.heatmap import confusion_plot
from pcdistill.viewing.pictures import gallery
from pcdistill.viewing.window import open_window

__all__ = [
    "Curve",
    "Point",
    "accuracy_bars",
    "accuracy_plot",
    "confusion_plot",
    "curves_of",
    "gallery",
    "loss_plot",
    "open_window",
]

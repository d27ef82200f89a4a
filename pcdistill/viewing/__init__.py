"""Pictures of point clouds: galleries, a page for the browser, an interactive window; and plots of results."""

from pcdistill.viewing.curves import Curve, Point, accuracy_bars, accuracy_plot
from pcdistill.viewing.exhibit import COLOURINGS, Exhibit, Judge, Real, chosen, shades, upright
from pcdistill.viewing.live import Live
from pcdistill.viewing.page import Scores, page, write_page
from pcdistill.viewing.pictures import gallery
from pcdistill.viewing.window import open_window

__all__ = [
    "COLOURINGS",
    "Curve",
    "Exhibit",
    "Judge",
    "Live",
    "Point",
    "Real",
    "Scores",
    "accuracy_bars",
    "accuracy_plot",
    "chosen",
    "gallery",
    "open_window",
    "page",
    "shades",
    "upright",
    "write_page",
]

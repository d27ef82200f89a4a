"""Pictures of point clouds: galleries, a page for the browser, an interactive window; and plots of results."""

from pcdistill.viewing.animation import check_animation, evolution, turntable
from pcdistill.viewing.curves import Curve, Point, accuracy_bars, accuracy_plot, curves_of, loss_plot
from pcdistill.viewing.exhibit import COLOURINGS, Exhibit, Judge, Real, chosen, exhibit_of, shades, standing, upright
from pcdistill.viewing.heatmap import confusion_plot
from pcdistill.viewing.live import Live
from pcdistill.viewing.notebook import Embedded
from pcdistill.viewing.page import Scores, html_page, write_page
from pcdistill.viewing.pictures import gallery, picture
from pcdistill.viewing.window import open_window

__all__ = [
    "COLOURINGS",
    "Curve",
    "Embedded",
    "Exhibit",
    "Judge",
    "Live",
    "Point",
    "Real",
    "Scores",
    "accuracy_bars",
    "accuracy_plot",
    "check_animation",
    "chosen",
    "confusion_plot",
    "curves_of",
    "evolution",
    "exhibit_of",
    "gallery",
    "html_page",
    "loss_plot",
    "open_window",
    "picture",
    "shades",
    "standing",
    "turntable",
    "upright",
    "write_page",
]

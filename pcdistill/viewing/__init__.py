"""Pictures of point clouds: galleries, a page for the browser, an interactive window; and plots of results."""

from pcdistill.viewing.animation import check_animation, evolution, turntable
from pcdistill.viewing.browser.live import Live
from pcdistill.viewing.browser.notebook import Embedded
from pcdistill.viewing.browser.page import Scores, html_page, write_page
from pcdistill.viewing.exhibit import COLOURINGS, Exhibit, Judge, Real, chosen, shades, standing, upright
from pcdistill.viewing.open3d.window import open_window
from pcdistill.viewing.pictures import gallery, picture

__all__ = [
    "COLOURINGS",
    "Embedded",
    "Exhibit",
    "Judge",
    "Live",
    "Real",
    "Scores",
    "check_animation",
    "chosen",
    "evolution",
    "gallery",
    "html_page",
    "open_window",
    "picture",
    "shades",
    "standing",
    "turntable",
    "upright",
    "write_page",
]

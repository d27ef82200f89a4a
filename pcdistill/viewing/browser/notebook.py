"""The page for the browser inside a notebook's cell."""

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Embedded:
    """A page that Jupyter and VS Code show as the value of a cell: in a frame of its own, cut off from the notebook.

    Args:
        page: HTML, as `viewing.html_page` makes it.
        height: of the frame in pixels; it is as wide as the cell.
    """

    page: str
    height: int = 640

    def _repr_html_(self) -> str:
        # Scripts may run and pictures may be saved, but nothing of the notebook is in reach: no allow-same-origin.
        return (
            f'<iframe srcdoc="{html.escape(self.page)}" sandbox="allow-scripts allow-downloads" title="point clouds" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )

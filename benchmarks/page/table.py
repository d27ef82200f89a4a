"""Table of the size and speed of the page for the browser."""

import json
from pathlib import Path
from typing import Any

from pcdistill.evaluation import mean_std
from pcdistill.results.table import Table


def browser(found: dict[str, Any]) -> str:
    """Size and speed of the page for the browser."""
    if not found:
        return ""
    loads = mean_std(found["load_seconds"])
    names = {"132": "clouds of the usual size", "64": "smallest clouds", "one cloud": "one cloud alone"}
    header = ["in sight", "points drawn", "frames per second"]
    rows = [
        [name, f"{found['cells'][key]['points_in_sight']:,}", f"{found['cells'][key]['fps']:.0f}"]
        for key, name in names.items()
    ]
    return Table(header, rows).markdown() + (
        f"\n{found['classes']} classes, {found['clouds']:,} clouds x {found['points']} points, "
        f"{found['frames_of_a_cloud']} of each (snapshots and the nearest real one): {found['bytes'] / 1e6:.1f} MB, on "
        f"screen after {loads[0]:.1f} ± {loads[1]:.1f} s. Chromium {found['chromium'].partition('.')[0]} without a "
        f"screen or graphics card, {found['hardware']}.\n"
    )


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"page": browser(json.loads((folder / "records.json").read_text()))}

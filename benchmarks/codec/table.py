"""Table of bytes per point, by codec."""

import json
from pathlib import Path
from typing import Any

from pcdistill.results.table import Table


def codecs(found: dict[str, Any]) -> str:
    """Bytes per point of ours and of others."""
    names = [name for name in found["rows"][0]["bytes_per_point"] if not name.endswith("seconds")]
    rows = []
    for row in found["rows"]:
        sizes = row["bytes_per_point"]
        shape = f"{row['arm']}, {row['clouds_per_class']} x {row['points']} @ {row['bits']}"
        saved = f"{100 * (1 - sizes['ours'] / sizes['raw']):.0f} %"
        rows.append([shape, *(f"{sizes[name]:.2f}" for name in names), saved])
    return Table(["clouds per class x points @ bits", *names, "below raw"], rows).markdown()


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    return {"codecs": codecs(json.loads((folder / "records.json").read_text()))}

"""Tables of what occupied voxels take, by coder, and of how fast ours is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.wording import NAMES
from pcdistill.results.table import Table, number

Row = dict[str, Any]


def sizes(rows: list[Row], unit: Callable[[Row, float], float]) -> list[list[str]]:
    """A line for every coder: what each of `rows` takes, in a unit made of bytes per cloud; a dash for none."""
    names = dict.fromkeys(name for row in rows for name in row["bytes_per_cloud"])
    found = [(row, row["bytes_per_cloud"]) for row in rows]
    return [
        [name, *(number(unit(row, own[name]) if name in own else None, ",.2f") for row, own in found)] for name in names
    ]


def per_second(rows: list[Row], field: str) -> list[str]:
    """Clouds per second of the best repeat."""
    return [f"{row['clouds'] / min(row[field]):,.0f}" for row in rows]


def tables(folder: Path) -> dict[str, str]:
    """Of the records in this folder, by the name of the block that a table stands in."""
    facts = json.loads((folder / "records.json").read_text())
    rows: list[Row] = facts["rows"]
    header = ["", *(f"{NAMES[row['dataset']]}, {row['side']}³" for row in rows)]
    voxels = ["occupied voxels", *(f"{row['voxels_per_cloud']:,.1f}" for row in rows)]
    bits = sizes(rows, lambda row, size: 8 * size / row["voxels_per_cloud"])
    speed = [["clouds", *(f"{row['clouds']:,}" for row in rows)],
             ["encoded per second", *per_second(rows, "encode_seconds")],
             ["decoded per second", *per_second(rows, "decode_seconds")]]  # fmt: skip
    repeats, load = len(rows[0]["encode_seconds"]), facts["load_before"]
    note = (
        f"\nSeconds of the processor, best of {repeats}; OMP_NUM_THREADS={facts['threads']}. {facts['hardware']}, "
        f"a load of {load:.1f} from other work before the start; {facts['date']}.\n"
    )
    return {
        "voxel_bits": Table(header, bits).markdown(),
        "voxel_bytes": Table(header, [voxels, *sizes(rows, lambda row, size: size)]).markdown(),
        "voxel_speed": Table(header, speed).markdown() + note,
    }

"""Bytes of the coder of occupied voxels beside other ways to store the same grids, and how fast it is.

    OMP_NUM_THREADS=1 python -m benchmarks.voxels_codec.measure        # writes records.json

Grids are those of the first training clouds of every class. Takes the extra `codecs`; what is not installed is left
out.
"""

import datetime
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.voxels_codec.coders import CODERS, NEEDS, missing
from pcdistill.clouds import PointClouds
from pcdistill.core.environment import hardware, revision, versions
from pcdistill.core.files import atomic
from pcdistill.data import load
from pcdistill.storage.coding import Ints
from pcdistill.storage.grids import Cells, cells_of, occupied
from pcdistill.storage.occupancy import decode_grids, encode_grids

RECORDS = Path(__file__).with_name("records.json")
SIDES = {"modelnet10": (6, 8, 10, 16, 24), "modelnet40": (10, 16)}
CLOUDS = 100  # of every class, or all there are
REPEATS = 3


def first(real: PointClouds, clouds: int) -> PointClouds:
    """The first clouds of every class, class after class."""
    labels = real.hard_labels
    return real[torch.cat([(labels == label).nonzero().ravel()[:clouds] for label in labels.unique()])]


def measured(clouds: PointClouds, side: int) -> dict[str, Any]:
    """Bytes per cloud by coder, and seconds of the processor that ours takes."""
    grids, classes = occupied(cells_of(clouds.points, side), side), clouds.hard_labels.numpy()
    there = CODERS.keys() - missing()
    sizes = {name: code(grids, classes) / len(grids) for name, code in CODERS.items() if name in there}
    size, seconds = ours(grids, classes)
    return {
        "side": side, "clouds": len(grids), "classes": len(np.unique(classes)), "points": clouds.points.shape[1],
        "voxels_per_cloud": float(grids.sum(dtype=np.int64) / len(grids)),
        "bytes_per_cloud": {**sizes, "ours": size / len(grids)}, **seconds,
    }  # fmt: skip


def ours(grids: Cells, classes: Ints) -> tuple[int, dict[str, list[float]]]:
    """Bytes, and seconds of every repeat; checked to be without loss."""
    coding, reading = [], []
    for _ in range(REPEATS):
        start = time.process_time()
        stream = encode_grids(grids, classes)
        between = time.process_time()
        again = decode_grids(stream, classes, grids.shape[-1])
        coding.append(between - start)
        reading.append(time.process_time() - between)
        assert (again[:] == grids).all()
    return len(stream), {"encode_seconds": coding, "decode_seconds": reading}


def main() -> None:
    """Measure all sets at all sides."""
    for name, package in missing().items():
        print(f"{name}: left out, {package} is not installed (the extra codecs)")
    facts = {
        "benchmark": "voxels_codec", "command": "OMP_NUM_THREADS=1 python -m benchmarks.voxels_codec.measure",
        "commit": revision(), "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(), "threads": os.environ.get("OMP_NUM_THREADS"), "load_before": os.getloadavg()[0],
    }  # fmt: skip
    rows = []
    for dataset, sides in SIDES.items():
        clouds = first(load(dataset, "train"), CLOUDS)
        for side in sides:
            rows.append({"dataset": dataset, **measured(clouds, side)})
            sizes = {name: round(size, 2) for name, size in rows[-1]["bytes_per_cloud"].items()}
            print(dataset, side, sizes, flush=True)
    packages = sorted({*NEEDS.values(), "constriction"} - set(missing().values()))
    known = versions() | {name: version(name) for name in packages}
    with atomic(RECORDS) as temporary:
        temporary.write_text(json.dumps({**facts, "versions": known, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()

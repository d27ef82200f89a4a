"""`modelnet40_ply_hdf5_2048`: ModelNet40 as released with PointNet (Qi et al., CVPR 2017).

Several .h5 with `data` `(n, 2048, 3)` float32 and `label` `(n, 1)` integers; `train_files.txt` and
`test_files.txt` list them with a path prefix of the authors' machine (ignored); `shape_names.txt`
names the classes in label order. y is up, unless the
files' attribute `up_axis` says otherwise. The authors ordered the points farthest first
(github.com/charlesq34/pointnet, issue 42), so the first k cover the shape evenly: they are what the
released loader trains on and what `points` keeps, but they are no area-uniform sample.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.hdf5 import data_and_label
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Wanted, assemble, check_split, lines_of

NAME = "modelnet40_ply_hdf5_2048"


def recognises(path: Path) -> bool:
    return (path / "shape_names.txt").is_file() and (path / "train_files.txt").is_file()


def read(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split; nothing is random, no seed is used."""
    check_split(split)
    names = lines_of(path / "shape_names.txt")
    files = [path / PurePosixPath(line).name for line in lines_of(path / f"{split}_files.txt")]
    parts = [data_and_label(file, len(names), wanted) for file in files]
    widths = {part.shape[1] for part, _, _ in parts}
    axes = {up_axis or "y" for _, _, up_axis in parts}
    if len(widths) > 1:
        raise InputError(path, f"files of {sorted(widths)} points per cloud", "the same number in all")
    if len(axes) > 1 and wanted.up_axis is None:
        raise InputError(path, f"files whose up axes are {', '.join(sorted(axes))}", "the same in all")
    return assemble(
        np.concatenate([part for part, _, _ in parts]),
        np.concatenate([labels for _, labels, _ in parts]),
        names,
        place=path / f"{split}_files.txt",
        up_axis=wanted.up_axis or axes.pop(),
        provenance={
            "name": path.name,
            "split": split,
            "source": path.name,
            "layout": NAME,
            "points_kept": "first",
        },
        wanted=wanted,
    )


LAYOUT = Layout(NAME, recognises, read)

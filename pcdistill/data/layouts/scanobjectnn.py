"""ScanObjectNN .h5 (Uy et al., ICCV 2019): scanned objects, with and without their background.

Folders `main_split/` (with background) and `main_split_nobg/` (without), files
`training_objectdataset<variant>.h5` and `test_objectdataset<variant>.h5` with `data` `(n, 2048, 3)`
float32 and `label` `(n,)`. y is up (github.com/hkust-vgd/scanobjectnn, issue 33). A path names one
of the files, so the variant is always explicit; the other split is its sibling.
"""

from pathlib import Path

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.hdf5 import data_and_label
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Wanted, assemble, check_split, enough, generator_for

NAME = "ScanObjectNN HDF5"
CLASSES = (
    "bag",
    "bin",
    "box",
    "cabinet",
    "chair",
    "desk",
    "display",
    "door",
    "shelf",
    "table",
    "bed",
    "pillow",
    "sink",
    "sofa",
    "toilet",
)
PREFIXES = {"train": "training_objectdataset", "test": "test_objectdataset"}
# Variant: folder and what follows the prefix in the file name. PB_T50_RS is published with background.
VARIANTS = {
    "OBJ_ONLY": ("main_split_nobg", ""),
    "OBJ_BG": ("main_split", ""),
    "PB_T50_RS": ("main_split", "_augmentedrot_scale75"),
    "PB_T50_RS-bg": ("main_split", "_augmentedrot_scale75"),
    "PB_T50_RS-nobg": ("main_split_nobg", "_augmentedrot_scale75"),
}
PARENTS = (".", "h5_files", "ScanObjectNN", "ScanObjectNN/h5_files", "scanobjectnn", "scanobjectnn/h5_files")


def places(variant: str) -> tuple[str, ...]:
    """Where the training file of `variant` may lie below the data folder."""
    folder, suffix = VARIANTS[variant]
    return tuple(str(Path(parent, folder, f"{PREFIXES['train']}{suffix}.h5")) for parent in PARENTS)


def recognises(path: Path) -> bool:
    """A file with an official name, or the folder that holds such files."""
    named = path.suffix == ".h5" and path.name.startswith(tuple(PREFIXES.values()))
    return (path.is_file() and named) or any(path.glob("training_objectdataset*.h5"))


def read(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """The split of the variant that the file `path` (of either split) belongs to.

    Of more points than are wanted a seeded subset is kept, the same positions in every cloud: the stored order is
    that of the scan, so that the first ones need not cover the object.
    """
    check_split(split)
    if path.is_dir():
        raise InputError(path, "a folder of several ScanObjectNN variants", "the path of one training_*.h5 of them")
    other = "test" if split == "train" else "train"
    file = path.with_name(path.name.replace(PREFIXES[other], PREFIXES[split]))
    data, labels, up_axis = data_and_label(file, len(CLASSES), Wanted())
    count = enough(data.shape[1], wanted, f"{file} data")
    if count < data.shape[1]:
        data = data[:, generator_for("scanobjectnn", wanted.seed).permutation(data.shape[1])[:count]]
    source = f"{file.parent.name}/{file.name}"
    facts = {
        "name": "scanobjectnn",
        "split": split,
        "source": source,
        "layout": NAME,
        "points_kept": "seeded subset",
    }
    return assemble(
        data,
        labels,
        CLASSES,
        place=file,
        up_axis=wanted.up_axis or up_axis or "y",
        provenance={**facts, "seed": wanted.seed},
        wanted=wanted,
    )


LAYOUT = Layout(NAME, recognises, read)

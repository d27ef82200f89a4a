"""ShapeNet55: ShapeNetCore sampled to .npy as released with Point-BERT (Yu et al., CVPR 2022).

`shapenet_pc/<synset>-<model>.npy`, `(P, 3)` floats, and `ShapeNet-55/train.txt`, `test.txt` that list
them. The class is the WordNet synset. y is up, as in ShapeNetCore. `points` keeps a seeded random
subset of each cloud.
"""

from pathlib import Path

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.data.cache import cached
from pcdistill.data.gathering import read_objects
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import Counted, Wanted, assemble, check_split, lines_of

NAME = "ShapeNet55 .npy tree"
LISTS = "ShapeNet-55"
SYNSETS = {
    "02691156": "airplane",
    "02747177": "trash bin",
    "02773838": "bag",
    "02801938": "basket",
    "02808440": "bathtub",
    "02818832": "bed",
    "02828884": "bench",
    "02843684": "birdhouse",
    "02871439": "bookshelf",
    "02876657": "bottle",
    "02880940": "bowl",
    "02924116": "bus",
    "02933112": "cabinet",
    "02942699": "camera",
    "02946921": "can",
    "02954340": "cap",
    "02958343": "car",
    "02992529": "cellphone",
    "03001627": "chair",
    "03046257": "clock",
    "03085013": "keyboard",
    "03207941": "dishwasher",
    "03211117": "display",
    "03261776": "earphone",
    "03325088": "faucet",
    "03337140": "file cabinet",
    "03467517": "guitar",
    "03513137": "helmet",
    "03593526": "jar",
    "03624134": "knife",
    "03636649": "lamp",
    "03642806": "laptop",
    "03691459": "loudspeaker",
    "03710193": "mailbox",
    "03759954": "microphone",
    "03761084": "microwave",
    "03790512": "motorbike",
    "03797390": "mug",
    "03928116": "piano",
    "03938244": "pillow",
    "03948459": "pistol",
    "03991062": "flowerpot",
    "04004475": "printer",
    "04074963": "remote control",
    "04090263": "rifle",
    "04099429": "rocket",
    "04225987": "skateboard",
    "04256520": "sofa",
    "04330267": "stove",
    "04379243": "table",
    "04401088": "telephone",
    "04460130": "tower",
    "04468005": "train",
    "04530566": "watercraft",
    "04554684": "washer",
}


def recognises(path: Path) -> bool:
    return (path / LISTS / "train.txt").is_file() and (path / "shapenet_pc").is_dir()


def read(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split; classes are the synsets of both lists, sorted, an unknown one named by its number."""
    check_split(split)
    lists = {name: lines_of(path / LISTS / f"{name}.txt") for name in ("train", "test")}
    listing = path / LISTS / f"{split}.txt"
    synsets = sorted({_synset(entry, listing) for entries in lists.values() for entry in entries})
    labels = np.array([synsets.index(_synset(entry, listing)) for entry in lists[split]])
    files = [path / "shapenet_pc" / entry for entry in lists[split]]
    facts: dict[str, str | int] = {
        "name": "shapenet",
        "split": split,
        "source": path.name,
        "layout": NAME,
        "seed": wanted.seed,
    }
    facts |= {"points_kept": "all" if wanted.points is None else "seeded subset"}

    def convert() -> Counted:
        found = read_objects(files, path, wanted, f"reading ShapeNet {split}")
        names = [SYNSETS.get(synset, synset) for synset in synsets]
        up_axis, every = wanted.up_axis or "y", {**facts, **found.facts()}
        clouds = assemble(found.points, labels[found.kept], names, place=listing, up_axis=up_axis, provenance=every)
        return Counted(clouds, found.numbers)

    return cached([listing, *files], path, {**facts, **wanted.asked(), "classes": " ".join(synsets)}, convert).clouds


def _synset(entry: str, listing: Path) -> str:
    synset, dash, rest = entry.partition("-")
    if not (dash and synset.isdigit() and rest.endswith(".npy")) or "/" in entry:
        raise InputError(listing, f"entry '{entry}'", "<synset>-<model>.npy")
    return synset


LAYOUT = Layout(NAME, recognises, read)

"""Names of known sets, where they may lie, and loading them or any path in a recognised layout.

Catalog sets are looked for below `root`, else the folder that `PCDISTILL_DATA` names, else `data` in
the current folder. Each has a card in the repository's `datasets/`.
"""

import importlib
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import torch

from pcdistill.clouds import PointClouds, Provenance
from pcdistill.core.errors import InputError
from pcdistill.core.registry import nearest
from pcdistill.data import project
from pcdistill.data.hub import fetched, is_remote
from pcdistill.data.layouts import arrays_hdf5, modelnet_hdf5, modelnet_text, scanobjectnn, shapenet, shapenetpart, tree
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import AS_STORED, SPLITS, Counted, MissingSplit, Wanted, check_split
from pcdistill.data.project import H5Clouds
from pcdistill.data.sets import CATALOG as CATALOG
from pcdistill.data.sets import Entry
from pcdistill.data.stream import StreamedClouds

ENVIRONMENT = "PCDISTILL_DATA"
SHAPES = ("shapes", "shapes_parts")  # made in memory
SHAPES_POINTS = 1024  # of each procedural cloud when no number is asked for


@dataclass(frozen=True)
class CatalogRow:
    """One line of `pcdistill data list`; `found` is the path, "built in", or None if missing."""

    name: str
    classes: int
    train: int
    test: int
    licence: str
    found: str | None


LAYOUTS = (
    scanobjectnn.LAYOUT,
    arrays_hdf5.LAYOUT,
    project.LAYOUT,
    modelnet_hdf5.LAYOUT,
    modelnet_text.LAYOUT,
    modelnet_text.MODELNET10,
    shapenet.LAYOUT,
    shapenetpart.TEXT,
    shapenetpart.HDF5,
    tree.LAYOUT,
)


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    points: int | None = None,
    seed: int = 0,
    at_most: bool = False,
    up_axis: str | None = None,
    least_points: int = 1,
    skip_bad: bool = False,
) -> PointClouds:
    """A catalog set, or the set at a path, in memory.

    Args:
        name: a name of `catalog()`, or the path of a .h5 file or folder in a recognised layout. A name
            is a path if it exists or has a path separator or suffix. `pyg:ModelNet10` and `hf:USER/SET` are fetched by
            torch-geometric and from the Hugging Face hub, where these libraries are installed.
        split: "train" or "test".
        root: folder that holds catalog sets; default `PCDISTILL_DATA`, else `data` in the current folder.
        points: points per cloud; None keeps all stored ones, 1024 of meshes, of `shapes` and of folders whose clouds
            have unequal numbers. Where the stored order is that of a sample, the first ones are kept, else a
            seeded subset; the provenance says which (`points_kept`). In folders smaller clouds are filled up by
            repeats, and the provenance says how many (`filled`, `least_points`).
        seed: of mesh sampling, subsets, repeats, splits made here, and `shapes`.
        at_most: take what is stored where that is less than `points`.
        up_axis: of what is stored, "y" or "z", in place of what the file or its layout says.
        least_points: that a cloud has to have where it is stored; one of fewer is as bad as one that cannot be read.
        skip_bad: go on without clouds that are bad; the provenance says how many (`skipped`) and why
            (`skipped_clouds`, a line for each).

    Returns:
        Clouds float32, the mean of each cloud's points at the origin, the largest norm 1, z up where
        the up axis is known (`up_axis` in the provenance says "unspecified" where it is not).

    Raises:
        InputError: for an unknown name, a set that is not there (the message says where to get it),
            fewer stored points than asked for (not of folders), no such split, fewer than two classes,
            a class without train clouds, and any file that is not what its layout says; of bad clouds all are named
            at once.
    """
    return load_counted(name, split, Wanted(points, at_most, seed, up_axis, least_points, skip_bad), root).clouds


def load_counted(
    name: str | os.PathLike[str], split: str, wanted: Wanted, root: str | os.PathLike[str] | None = None
) -> Counted:
    """`load`, with the points that clouds of unequal numbers had."""
    check_split(split)
    wanted.check()
    if str(name) in SHAPES:
        return Counted(_shapes(str(name), split, wanted.points, wanted.seed))
    if is_remote(str(name)):
        fetch = fetched(str(name), split, wanted)
        if isinstance(fetch, Path):
            return load_counted(fetch, split, wanted, root)
        _check_classes(fetch, str(name), split, None)
        return Counted(fetch)
    path, layout, entry = locate(str(name), root)
    found = layout.counted(path, split, wanted) if layout.counted else Counted(layout.read(path, split, wanted))
    clouds = found.clouds if entry is None or entry.parts else found.clouds.without_parts()
    _check_classes(clouds, path, split, entry)
    facts = {**_named(clouds.provenance, name, entry), **(_parts_missed(clouds) if split == "train" else {})}
    return Counted(replace(clouds, provenance=facts), found.numbers)


def open_streamed(
    name: str | os.PathLike[str],
    split: str = "train",
    *,
    root: str | os.PathLike[str] | None = None,
    points: int | None = None,
    at_most: bool = False,
    up_axis: str | None = None,
    least_points: int = 1,
    skip_bad: bool = False,
) -> StreamedClouds:
    """A project HDF5 file, by path or catalog name, to be read batch by batch; close it, or use it in `with`.

    Arguments and errors as in `load`.

    Raises:
        InputError: also for `shapes` and for layouts that can only be loaded whole.
    """
    check_split(split)
    wanted = "a project HDF5 file (pcdistill data convert writes one)"
    if str(name) in SHAPES:
        raise InputError("stream", f"'{name}', which is made in memory", wanted)
    if is_remote(str(name)):
        raise InputError("stream", f"'{name}', which another library reads", wanted)
    path, layout, entry = locate(str(name), root)
    if layout is not project.LAYOUT:
        raise InputError("stream", f"'{path}' in the layout of {layout.name}, read whole", wanted)
    how = Wanted(points, at_most, up_axis=up_axis, least_points=least_points, skip_bad=skip_bad)
    stream = StreamedClouds(path, split, wanted=how)
    try:
        _check_classes(stream, path, split, entry)
        if entry is not None and not entry.parts:
            stream.leave_parts()
        if stream.part_names is not None:
            raise InputError(
                "stream", f"'{path}', whose points have parts", "a set without, or one that fits into memory"
            )
    except InputError:
        stream.close()
        raise
    stream.provenance = _named(stream.provenance, name, entry)
    return stream


def catalog(root: str | os.PathLike[str] | None = None) -> list[CatalogRow]:
    """Every catalog set with its official numbers, and where it lies below `root` (default as in `load`)."""
    rows = []
    for name, entry in CATALOG.items():
        place = _find(entry, data_root(root))
        found = "built in" if name in SHAPES else (str(place[0]) if place else None)
        rows.append(CatalogRow(name, entry.classes, entry.train, entry.test, entry.licence, found))
    return rows


def cited_for(name: str) -> tuple[str, ...] | None:
    """Keys in `references.bib` of the papers that a set of this name comes from; None where that is not known.

    A name that begins as that of a published set, such as `modelnet10_2048.h5`, is taken for one.
    """
    entry = _published(name)
    return None if entry is None else entry.cites


def licence_for(name: str) -> str | None:
    """What the owners of a set of this name allow; None where that is not known. Names are taken as in `cited_for`."""
    entry = _published(name)
    return None if entry is None else entry.licence


def _published(name: str) -> Entry | None:
    """The catalog set of this name, or the published one that it begins as: by whole names, else by their letters."""
    if name in CATALOG:
        return CATALOG[name]
    published = {known: entry for known, entry in CATALOG.items() if entry.cites}
    begun = [known for known in published if name.lower().startswith(known) and not name[len(known) :][:1].isalpha()]
    if begun:
        return published[max(begun, key=len)]
    # Letters alone are no permission: somebody's own set may begin with the same.
    closed = {_family(known): entry for known, entry in published.items() if not entry.licence.startswith("CC")}
    return closed.get(_family(name))


def _family(name: str) -> str:
    """The letters that a name begins with."""
    return "".join(itertools.takewhile(str.isalpha, name.lower()))


def info(
    name: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    wanted: Wanted = AS_STORED,
    tell: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """What a set holds, both splits read once: plain values for printing; train alone where there is no other.

    Keys: `name`, `classes` (names), `licence`, `url` and `card` (catalog sets: the card's file in the
    repository), `splits`: per split `clouds`, `points`, `per_class` (name -> clouds), `extents` (least
    and greatest x, y, z), `fingerprint`, `provenance`. Where points are parts of objects `parts` (class -> names).

    `wanted` says how to read them, `tell` is given all clouds that were read.

    Raises:
        InputError: as `load`.
    """
    entry = CATALOG.get(str(name))
    splits: dict[str, dict[str, object]] = {}
    names: list[str] = []
    read = list[PointClouds]()
    for split in SPLITS:
        try:
            clouds = load_counted(name, split, wanted, root).clouds
        except MissingSplit:
            if not read:
                raise
            continue
        read.append(clouds)
        names = list(clouds.class_names)
        flat = clouds.points.reshape(-1, 3)
        splits[split] = {
            "clouds": len(clouds),
            "points": clouds.points_per_cloud,
            "per_class": dict(zip(names, clouds.class_counts.tolist(), strict=True)),
            "extents": [flat.amin(dim=0).tolist(), flat.amax(dim=0).tolist()],
            "fingerprint": clouds.fingerprint(),
            "provenance": dict(clouds.provenance),
        }
    if tell is not None:
        tell(*read)
    facts: dict[str, Any] = {"name": str(name), "classes": names}
    if (parts := read[0].part_names) is not None:
        facts["parts"] = {of: [parts.names[one] for one in own] for of, own in zip(names, parts.of_class, strict=True)}
    if entry is not None:
        facts |= {"licence": entry.licence, "url": entry.url, "card": f"datasets/{entry.card}"}
    return {**facts, "splits": splits}


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Where catalog sets are looked for: `root`, `PCDISTILL_DATA`, or `data` in the current folder."""
    return Path(root if root is not None else os.environ.get(ENVIRONMENT) or "data")


def locate(name: str, root: str | os.PathLike[str] | None) -> tuple[Path, Layout, Entry | None]:
    """The path, layout and (for catalog names) entry that `name` means, or InputError."""
    if name in CATALOG:
        entry, folder = CATALOG[name], data_root(root)
        place = _find(entry, folder)
        if place is None:
            wanted = ", ".join(relative for relative, _ in entry.places[:4])
            found = f"not found in '{folder}' as {wanted} (get it from {entry.url}; its licence: {entry.licence})"
            raise InputError(name, found, f"it below --root or the folder that {ENVIRONMENT} names")
        return (*place, entry)
    if name == "scanobjectnn":
        variants = ", ".join(f"scanobjectnn:{variant}" for variant in scanobjectnn.VARIANTS)
        raise InputError("data set", "'scanobjectnn' without a variant", f"one of {variants}")
    path = Path(name)
    if not path.exists():
        if os.sep in name or path.suffix:
            raise InputError(name, "no such file or folder", "a data set's path, or a name of the catalog")
        raise InputError("data set", nearest(name, CATALOG), f"a path, or one of {', '.join(CATALOG)}")
    if not (path.is_file() or path.is_dir()):  # opening a pipe would wait for good
        raise InputError(path, "a pipe or a device", "a file or a folder")
    for layout in LAYOUTS:
        if layout.recognises(path):
            return path, layout, None
    _refuse(path)


def _refuse(path: Path) -> NoReturn:
    """Say what is at a path that is no set, and what a set is."""
    if path.is_dir():
        there = ", ".join(sorted(entry.name for entry in path.iterdir())[:5])
        found = f"no recognised layout (in it: {there or 'nothing'})"
        raise InputError(path, found, "a folder per class, class_001 names, or a released benchmark's folder")
    if modelnet_hdf5.recognises(path.parent):
        raise InputError(path, "no recognised layout, but a part of one", f"its folder, {path.parent}")
    if (inside := arrays_hdf5.described(path)) != "":
        found = f"no recognised layout (in it: {inside})"
        raise InputError(path, found, "'data' and 'label', or what pcdistill data convert writes")
    raise InputError(path, "no recognised layout", "a .h5 set, a folder per class, or a released benchmark's folder")


def _find(entry: Entry, folder: Path) -> tuple[Path, Layout] | None:
    for relative, layout in entry.places:
        if (folder / relative).exists() and layout.recognises(folder / relative):
            return folder / relative, layout
    return None


def _named(facts: Provenance, name: str | os.PathLike[str], entry: Entry | None) -> Provenance:
    """Provenance under the catalog's name and licence; that of a path stays as it is."""
    return facts if entry is None else {**facts, "name": str(name), "licence": entry.licence}


def _parts_missed(clouds: PointClouds) -> dict[str, str]:
    """For the provenance: the parts that no point of a training set has, if there are some."""
    if clouds.parts is None or clouds.part_names is None:
        return {}
    counts = torch.bincount(clouds.parts.flatten(), minlength=len(clouds.part_names)).tolist()
    missed = [name for name, count in zip(clouds.part_names.names, counts, strict=True) if not count]
    return {"without_points": ", ".join(missed)} if missed else {}


def _shapes(name: str, split: str, points: int | None, seed: int) -> PointClouds:
    shapes = importlib.import_module("pcdistill.data.procedural.shapes")
    count = shapes.TRAIN_PER_CLASS if split == "train" else shapes.TEST_PER_CLASS
    size = SHAPES_POINTS if points is None else points
    made: PointClouds = shapes.generate(split, count, size, seed, parts=name == SHAPES[1])
    return made


def _check_classes(clouds: PointClouds | H5Clouds, path: object, split: str, entry: Entry | None) -> None:
    names = clouds.class_names
    if len(names) < 2:
        raise InputError(path, f"{len(names)} class", "at least two")
    if entry is not None and len(names) != entry.classes:
        raise InputError(path, f"{len(names)} classes", f"{entry.classes}")
    counts = torch.bincount(clouds.labels, minlength=len(names))
    if split == "train" and (counts == 0).any():
        raise InputError(f"{path} train", f"no cloud of class '{names[int(counts.argmin())]}'", "at least one of each")
    if (counts > 0).sum() < 2:
        raise InputError(f"{path} {split}", "clouds of 1 class", "of at least two")

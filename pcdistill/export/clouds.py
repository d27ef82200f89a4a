"""Clouds for other tools: NPZ, HDF5 in ModelNet's layout, and a folder of PLY, PCD or XYZ files, with colours.

Coordinates are written as they are, in float32: z up unless the provenance of the clouds names another axis; the
unit is the radius of an object, as this package's readers scale objects. Both are said in the file where its format
has a place for it (a comment in PLY and PCD, attributes in HDF5, fields in NPZ). HDF5 alone turns clouds, as ModelNet's
layout has y up. Nothing is a pickle. For torch-geometric, `data.to_pyg` gives objects in memory and no file.
"""

import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import h5py
import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from pcdistill.clouds import PartNames, PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic, atomic_folder, safe_name
from pcdistill.data.layouts.tree import PART_NAMES
from pcdistill.data.prepare import tracked
from pcdistill.viewing.exhibit import upright
from pcdistill.viewing.scene import height_colours

FileKind = Literal["ply", "pcd", "xyz"]
Points = NDArray[np.float32]
Colours = NDArray[np.uint8]
Parts = NDArray[np.int64]

UNIT = "radius of an object"
LONGEST = 200  # bytes of a folder's name: file systems take 255, and a file's name is its folder's and a number
SPLIT_NAMES = {"train", "test", "val", "validation"}  # splits to readers, where there are no other folders


class Written(NamedTuple):
    """What was written."""

    kind: str  # npz, h5, ply, pcd or xyz
    files: int
    clouds: int
    points: int  # of every cloud
    nbytes: int


def height_colouring(clouds: PointClouds) -> Colours:
    """sRGB `(N, P, 3)` uint8 of points by their height within their cloud, deep blue (lowest) to yellow.

    Raises:
        InputError: the provenance names an up axis other than x, y, z or "unspecified" (taken as z).
    """
    heights = upright(clouds.points.detach().cpu(), up_axis(clouds))[..., 2].numpy()
    return np.stack([np.rint(255 * height_colours(height)).astype(np.uint8) for height in heights])


def write_clouds(
    clouds: PointClouds, path: Path, colours: Colours | None = None, kind: FileKind | None = None
) -> Written:
    """Write a set, whole or not at all, in the format that `path` and `kind` name.

    `.npz`, without objects: `points` `(N, P, 3)` float32, `labels` `(N,)` int64, `class_names`, `up_axis` and `unit`
    (text); of sets that have them `soft_labels` `(N, C)` float32, `colours` `(N, P, 3)` uint8, and `parts` `(N, P)`
    with `part_names`.

    `.h5`, a file of ModelNet's layout (`data.modelnet_hdf5`): `data` `(N, P, 3)` float32, y up as in that layout
    (clouds whose up axis is unspecified are not turned), and `label` `(N, 1)` uint8, wider of more than 256 classes.
    Loaders pass over the others, `colour` `(N, P, 3)` uint8, `pid` `(N, P)` with the parts of points (as in
    ShapeNetPart's files) and `part_names`, and `shape_names` in the order of labels. The file can
    stand in for `ply_data_train0.h5` where its class names are those of `shape_names.txt`.

    A folder, with `kind`: `chair/chair_0001.ply`, a folder per class and a file per cloud. PLY is binary. PCD is
    binary, with colours packed in `rgb` as in the Point Cloud Library. XYZ is text: `x y z` in nine digits, which is
    all of float32, and `r g b` from 0 to 255. A class without clouds has no folder. Of sets with parts, points have a
    `label` (of XYZ a last column), and the folder a `part_names.txt`.

    `load` reads the folder as a set: the clouds of a class in their order, labels in the order of the folders' names,
    every cloud centred and scaled anew (one that is so already moves by rounding only), no colours. It splits the
    folder into train and test; of one that is written as `SET/train`, `load(SET)` gives every cloud.

    Args:
        clouds: of soft labels only NPZ keeps more than the hard ones.
        path: file that ends in .npz or .h5, or a folder that is empty or not there.
        colours: `(N, P, 3)` uint8, sRGB; None writes none.
        kind: of the files in the folder; None for a file.

    Raises:
        InputError: another suffix, colours of another shape, a folder with something in it, an up axis that is none,
            class names that cannot be written, or not as folders (`folder_names`).
        OSError: `path` cannot be written; nothing is left behind then.
    """
    shape = tuple(clouds.points.shape)
    if colours is not None and (colours.shape != shape or colours.dtype != np.uint8):
        raise InputError("colours", f"{colours.dtype} {colours.shape}", f"uint8 {shape}")
    check_target(path, kind)
    if kind is not None:
        files, nbytes = _write_folder(clouds, path, colours, kind)
        return Written(kind, files, len(clouds), clouds.points_per_cloud, nbytes)
    _check_names(clouds.class_names)
    content = _npz(clouds, colours) if path.suffix == ".npz" else _modelnet(clouds, colours)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return Written(path.suffix[1:], 1, len(clouds), clouds.points_per_cloud, len(content))


def check_target(path: Path, kind: FileKind | None) -> None:
    """Refuse a place that `write_clouds` refuses, before there are clouds.

    Raises:
        InputError: saying what is wrong with it.
    """
    if path.suffix and not path.is_dir():
        if path.suffix not in (".npz", ".h5"):
            expected = "a name that ends in .npz or .h5, or a folder and --format ply, pcd or xyz"
            raise InputError("output", str(path), expected)
        if kind is not None:
            raise InputError("format", f"{kind} of {path}", "a folder as output, which holds a file per cloud")
    elif kind is None:
        expected = "--format ply, pcd or xyz (or an output that ends in .npz or .h5)"
        raise InputError("output", f"{path}, a folder, and no --format", expected)
    elif path.exists() and not (path.is_dir() and not any(path.iterdir())):
        reason = "a folder with something in it" if path.is_dir() else "a file"
        raise InputError(path, reason, "a folder that is empty or not there")
    elif path.resolve() == Path.cwd():  # whose place another one would take
        raise InputError(path, "the current folder", "another one")


def up_axis(clouds: PointClouds) -> str:
    """What the provenance calls up (z by default), which may come from a file that is not trusted.

    Raises:
        InputError: not x, y, z or "unspecified".
    """
    up = str(clouds.provenance.get("up_axis", "z"))
    if up not in ("x", "y", "z", "unspecified"):
        raise InputError("up_axis", f"{up!r:.80}", "x, y, z or unspecified")
    return up


def folder_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """Class names, which may come from a file that is not trusted, as names of folders on any system.

    See `files.safe_name`.

    Raises:
        InputError: a name of which nothing is left, or too much; two that are the same where case does not count; none
            but `train`, `test` and the like, which would be read as splits.
    """
    folders: list[str] = []
    taken: dict[str, str] = {}
    for name in class_names:
        safe = safe_name(name)
        if not 0 < len(safe.encode()) <= LONGEST:
            reason = f"{name!r:.80}, which is no name for a folder"
            raise InputError("class names", reason, f"1 to {LONGEST} bytes of letters and digits, or .npz or .h5")
        same = unicodedata.normalize("NFC", safe.casefold())
        if same in taken:
            reason = f"{taken[same]!r:.80} and {name!r:.80} have one folder, '{safe:.80}'"
            raise InputError("class names", reason, "names that differ as folders, or .npz or .h5")
        taken[same] = name
        folders.append(safe)
    if taken.keys() <= SPLIT_NAMES:
        raise InputError("class names", f"only {', '.join(folders)}", "others, as these are read as splits")
    return tuple(folders)


def _check_names(class_names: Sequence[str]) -> None:
    """HDF5 has no text with NUL, NumPy drops them at the end, and neither has halves of characters."""
    for name in class_names:
        if "\0" in name or any("\ud800" <= letter <= "\udfff" for letter in name):
            raise InputError("class names", f"{name!r:.80}", "text without NUL and surrogates")


def _points(clouds: PointClouds) -> Points:
    points: Points = clouds.points.detach().cpu().numpy()
    return points


def _npz(clouds: PointClouds, colours: Colours | None) -> bytes:
    arrays = {
        "points": _points(clouds),
        "labels": clouds.hard_labels.cpu().numpy(),
        "class_names": np.array(clouds.class_names),
        "up_axis": np.array(up_axis(clouds)),
        "unit": np.array(UNIT),
    }
    if clouds.labels.ndim == 2:
        arrays["soft_labels"] = clouds.labels.detach().cpu().numpy()
    if colours is not None:
        arrays["colours"] = colours
    if clouds.parts is not None and clouds.part_names is not None:
        arrays |= {"parts": clouds.parts.cpu().numpy(), "part_names": np.array(clouds.part_names.names)}
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def _modelnet(clouds: PointClouds, colours: Colours | None) -> bytes:
    up, points = up_axis(clouds), _points(clouds)
    if up != "unspecified":
        upward = upright(torch.from_numpy(points), up).numpy()
        points, up = np.stack([upward[..., 0], upward[..., 2], -upward[..., 1]], axis=-1), "y"
    kind = np.min_scalar_type(clouds.num_classes - 1)
    packed = {"compression": "gzip", "shuffle": True}
    stream = io.BytesIO()  # the HDF5 library may crash the process when the disk is full
    with h5py.File(stream, "w") as file:
        file.create_dataset("data", data=points, **packed)
        file.create_dataset("label", data=clouds.hard_labels.cpu().numpy().astype(kind)[:, None])
        file.create_dataset("shape_names", data=list(clouds.class_names), dtype=h5py.string_dtype())
        if colours is not None:
            file.create_dataset("colour", data=colours, **packed)
        if clouds.parts is not None and clouds.part_names is not None:
            stored = clouds.parts.cpu().numpy().astype(np.min_scalar_type(len(clouds.part_names) - 1))
            file.create_dataset("pid", data=stored)
            file.create_dataset("part_names", data=list(clouds.part_names.names), dtype=h5py.string_dtype())
        file.attrs["up_axis"], file.attrs["unit"] = up, UNIT
    return stream.getvalue()


def _write_folder(clouds: PointClouds, path: Path, colours: Colours | None, kind: FileKind) -> tuple[int, int]:
    """Number and bytes of the files."""
    counts = clouds.class_counts.tolist()
    labels = [label for label, count in enumerate(counts) if count]
    folders = dict(zip(labels, folder_names([clouds.class_names[label] for label in labels]), strict=True))
    digits = max(4, len(str(max(counts))))  # the same in all names, which readers sort
    comment = f"up axis {up_axis(clouds)}, unit: {UNIT}"
    numbers, nbytes = dict.fromkeys(labels, 0), 0
    points = _points(clouds)
    parts = None if clouds.parts is None else clouds.parts.cpu().numpy()
    with atomic_folder(path) as temporary:
        if clouds.part_names is not None:
            lines = "".join(f"{name}\n" for name in clouds.part_names.names)
            (temporary / PART_NAMES).write_text(lines, encoding="utf-8")
        for folder in folders.values():
            (temporary / folder).mkdir()
        for at, label in enumerate(tracked(clouds.hard_labels.tolist(), f"writing {path.name}")):
            numbers[label] += 1
            name = f"{folders[label]}_{numbers[label]:0{digits}d}.{kind}"
            own = None if parts is None else parts[at]
            content = ENCODERS[kind](points[at], None if colours is None else colours[at], own, comment)
            (temporary / folders[label] / name).write_bytes(content)
            nbytes += len(content)
    return len(clouds), nbytes


def _ply(points: Points, colours: Colours | None, parts: Parts | None, comment: str) -> bytes:
    if parts is not None:
        return _labelled_ply(points, colours, parts, [comment])
    content: bytes = trimesh.PointCloud(points, colours).export(file_type="ply")  # type: ignore[no-untyped-call]
    first, second, rest = content.split(b"\n", 2)
    return b"\n".join((first, second, f"comment {comment}".encode(), rest))


def labelled_ply(points: NDArray[np.floating], parts: Parts, names: PartNames) -> bytes:
    """Points `(P, 3)` as they are, in a binary PLY whose property `label` is the part of each; comments name the parts.

    Coordinates are float64 where they are, as those of a map.
    """
    return _labelled_ply(points, None, parts, [f"label {number} {name}" for number, name in enumerate(names.names)])


def _labelled_ply(
    points: NDArray[np.floating], colours: Colours | None, parts: Parts, comments: Sequence[str]
) -> bytes:
    wide = points.dtype.itemsize > 4
    columns = [(axis, "<f8" if wide else "<f4", values) for axis, values in zip("xyz", points.T, strict=True)]
    if colours is not None:
        columns += [(name, "u1", values) for name, values in zip(("red", "green", "blue"), colours.T, strict=True)]
    columns.append(("label", "<i4", parts))
    rows = np.empty(len(points), dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        rows[name] = values
    kinds = {"<f8": "double", "<f4": "float", "u1": "uchar", "<i4": "int"}
    said = "".join(f"comment {' '.join(comment.split())}\n" for comment in comments)
    properties = "".join(f"property {kinds[kind]} {name}\n" for name, kind, _ in columns)
    header = f"ply\nformat binary_little_endian 1.0\n{said}element vertex {len(rows)}\n{properties}end_header\n"
    return header.encode() + rows.tobytes()


def _pcd(points: Points, colours: Colours | None, parts: Parts | None, comment: str) -> bytes:
    fields = [("x", points[:, 0]), ("y", points[:, 1]), ("z", points[:, 2])]
    if colours is not None:
        red, green, blue = colours.T.astype(np.uint32)
        fields.append(("rgb", (red << 16 | green << 8 | blue).view(np.float32)))
    if parts is not None:
        fields.append(("label", parts.astype(np.uint32).view(np.float32)))  # as the Point Cloud Library has it
    rows = np.stack([values for _, values in fields], axis=1).astype("<f4")
    names, count = " ".join(name for name, _ in fields), len(fields)
    types = "".join(" U" if name == "label" else " F" for name, _ in fields)
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\n# {comment}\nVERSION 0.7\nFIELDS {names}\nSIZE{' 4' * count}\n"
        f"TYPE{types}\nCOUNT{' 1' * count}\nWIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(rows)}\nDATA binary\n"
    )
    return header.encode() + rows.tobytes()


def _xyz(points: Points, colours: Colours | None, parts: Parts | None, comment: str) -> bytes:
    whole = [values for values in (colours, None if parts is None else parts[:, None]) if values is not None]
    columns = np.hstack([points, *whole], dtype=np.float64) if whole else points
    stream = io.BytesIO()
    np.savetxt(stream, columns, fmt=["%.9g"] * 3 + ["%d"] * (columns.shape[1] - 3))
    return stream.getvalue()


ENCODERS = {"ply": _ply, "pcd": _pcd, "xyz": _xyz}

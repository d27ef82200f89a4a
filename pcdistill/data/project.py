"""This project's HDF5: `{train,test}/{points,labels,ids}` and attributes, whole or a batch at a time.

`points` `(N, P, 3)` float16 or float32, `labels` `(N,)` integers, `ids` `(N,)` bytes (not read);
of sets of unequal numbers `true_points` `(N,)`, the points that each cloud had before it was cut or filled up;
attributes `class_names` (needed), `source`, `licence`, `split`, `up_axis` ("z", "y" or free text).
Sets whose points are parts have `parts` `(N, P)` integers in both groups and the attribute `part_names`; which class
has which say `class_parts` `(classes, parts)`, not 0 where it has it, or `part_class` `(parts,)`, the class of each;
with neither all classes have all.
The order of the points carries no meaning, so the first k of them are a sample as good as any.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcdistill.clouds import PartNames, PointClouds, Provenance
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.hdf5 import member, names
from pcdistill.data.hdf5 import dataset, group, is_own, open_hdf5, reading
from pcdistill.data.layouts.layout import Layout
from pcdistill.data.prepare import (
    CHUNK,
    NORMALISED,
    Bad,
    Counted,
    Floats,
    MissingSplit,
    Wanted,
    check_set,
    check_split,
    enough,
    frame,
    sifted,
    too_few,
    z_up,
)

LAYOUT_NAME = "project HDF5"
KEPT_ATTRIBUTES = ("licence", "split")


class H5Clouds:
    """One split of a project HDF5 file, read a batch at a time: memory does not grow with the file.

    Labels, class names and provenance are in memory. Batches come out as `load` gives them: float32,
    centred on the mean of the (kept) points, unit sphere, z up where the file says which axis is up.

    Args:
        path: the file.
        split: "train" or "test".
        points: keep the first this many points of each cloud; None keeps all.
        wanted: in place of `points`: how to read, in full.

    Raises:
        InputError: naming file and field, for anything that is not this layout, and for clouds of fewer points than
            they have to have. Bad coordinates are met when their batch is read; or at once, in one pass over the
            file, where clouds that have them are to be left out.
    """

    def __init__(self, path: Path, split: str, points: int | None = None, wanted: Wanted | None = None) -> None:
        check_split(split)
        wanted = wanted or Wanted(points)
        self._path, self._split = path, split
        clouds = self._open()
        with reading(path):
            self.class_names = class_names_of(self._file, path)
            labels = dataset(clouds, "labels", path, "iu")[()]
            attributes = {name: _plain(value) for name, value in self._file.attrs.items()}
            numbers = _true_points(clouds, len(labels), f"{path} {split}")
            check_set(self._points.shape, labels, self.class_names, f"{path} {split}")
            self.part_names = _part_names(self._file, path, len(self.class_names))
            self._parts = None if self.part_names is None else self._checked_parts(clouds)
        self.points_per_cloud = enough(self._points.shape[1], wanted, f"{path} {split}/points")
        self._wanted = wanted
        self._up_axis = wanted.up_axis or str(attributes.get("up_axis", "unspecified"))
        self.provenance: Provenance = {
            "name": path.stem,
            "split": split,
            "source": path.name,
            "layout": LAYOUT_NAME,
            "points_kept": "first",
            **frame(self._up_axis),
            **{f"file_{name}": str(attributes[name]) for name in KEPT_ATTRIBUTES if name in attributes},
        }
        self._places = self._kept(numbers)
        self.true_points = numbers if numbers is None or self._places is None else numbers[self._places]
        kept = labels if self._places is None else labels[self._places]
        self.labels = torch.from_numpy(kept.astype(np.int64))

    def _open(self) -> h5py.Group:
        """Open the file; the group of the split."""
        path, split = self._path, self._split
        self._file: Any = open_hdf5(path)
        with reading(path):
            clouds = member(self._file, split, f"{path} {split}")
            if not isinstance(clouds, h5py.Group):
                raise MissingSplit(
                    f"{path} {split}", "no such group", f"one of {', '.join(names(self._file)) or 'none'}"
                )
            self._points = dataset(clouds, "points", path, "f")
        return clouds

    def _kept(self, numbers: NDArray[np.int32] | None) -> NDArray[np.int64] | None:
        """Places in the file of the clouds that are not left out; None if none are."""
        bad, total = Bad(self._wanted), len(self._points)
        sound = np.ones(total, dtype=bool)
        if numbers is not None:
            sound &= numbers >= self._wanted.least_points
            for place in np.flatnonzero(~sound).tolist():
                bad.note(too_few(f"{self._place}: cloud {place}", int(numbers[place]), self._wanted.least_points))
        if self._wanted.skip_bad:
            for low in range(0, total, CHUNK):
                rows = low + np.flatnonzero(sound[low : low + CHUNK])
                sound[rows] = self._sifted(rows, bad)[1]
        self.provenance = {**self.provenance, **bad.facts(self._place, total)}
        return None if sound.all() else np.flatnonzero(sound)

    @property
    def _place(self) -> str:
        return f"{self._path} {self._split}/points"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def hard_labels(self) -> Tensor:
        """`(N,)` int64: the labels, of which this layout has hard ones only."""
        return self.labels

    def __repr__(self) -> str:
        return f"H5Clouds({self._path.name} {self._split}: {len(self)} clouds x {self.points_per_cloud} points)"

    def batch(self, index: Tensor) -> Tensor:
        """Points `(len(index), P, 3)` float32 of the clouds at `index` (int64, 0 to N - 1)."""
        wanted, back = np.unique(index.cpu().numpy(), return_inverse=True)
        if len(wanted) == 0:
            return torch.empty(0, self.points_per_cloud, 3)
        if wanted[0] < 0 or wanted[-1] >= len(self):
            raise IndexError(f"clouds {wanted[0]} to {wanted[-1]} of {len(self)}")
        return torch.from_numpy(self._read(wanted)[back])

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """All clouds in order, `(<= 256, P, 3)` at a time."""
        for low in range(0, len(self), CHUNK):
            yield self._read(np.arange(low, min(low + CHUNK, len(self))))

    def fingerprint(self) -> str:
        """Hex SHA-256 computed a chunk at a time; equals `PointClouds.fingerprint` of the same set loaded."""
        shape = (len(self), self.points_per_cloud, 3)
        digest = hashlib.sha256(repr((shape, self.class_names)).encode())
        for chunk in self.chunks():
            digest.update(chunk.data)
        digest.update(self.labels.numpy().data)
        if (parts := self.parts) is not None:
            digest.update(repr(self.part_names).encode())
            digest.update(parts.numpy().data)
        return digest.hexdigest()

    def leave_parts(self) -> None:
        """Be a set of objects alone."""
        self._parts = self.part_names = None

    @property
    def parts(self) -> Tensor | None:
        """`(N, P)` int64: the part of every point, read when it is asked for; None of a set without."""
        if self._parts is None:
            return None
        with reading(self._path):
            stored = self._parts[:, : self.points_per_cloud]
        return torch.from_numpy((stored if self._places is None else stored[self._places]).astype(np.int64))

    def load(self) -> PointClouds:
        """The whole split in memory."""
        points, bad = np.empty((len(self), self.points_per_cloud, 3), dtype=np.float32), Bad(self._wanted)
        for low in range(0, len(self), CHUNK):
            rows = np.arange(low, min(low + CHUNK, len(self)))
            points[rows] = self._sifted(rows if self._places is None else self._places[rows], bad)[0]
        bad.facts(self._place, len(self))
        return PointClouds(
            torch.from_numpy(points), self.labels, self.class_names, self.provenance,
            parts=self.parts, part_names=self.part_names,
        )  # fmt: skip

    def _checked_parts(self, clouds: h5py.Group) -> h5py.Dataset:
        stored, wanted = dataset(clouds, "parts", self._path, "iu"), self._points.shape[:2]
        if stored.shape != wanted:
            place = f"{self._path} {self._split}/parts"
            raise InputError(place, f"shape {stored.shape}", f"{wanted}, one for each point")
        return stored

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The clouds at ascending places among those that are not left out."""
        bad = Bad(self._wanted)
        points = self._sifted(rows if self._places is None else self._places[rows], bad)[0]
        bad.facts(self._place, len(self))
        return points

    def _sifted(self, rows: NDArray[np.int64], bad: Bad) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The clouds at ascending places in the file in the common frame, without those that are bad."""
        if len(rows) == 0:
            return np.empty((0, self.points_per_cloud, 3), dtype=np.float32), np.empty(0, dtype=bool)
        run = slice(int(rows[0]), int(rows[-1]) + 1)
        with reading(self._path):
            # HDF5 reads a run many times faster than a list, and single clouds faster than a list of them.
            if run.stop - run.start <= 2 * len(rows):
                raw: Floats = self._points[run, : self.points_per_cloud][rows - run.start]
            else:
                raw = np.stack([self._points[row, : self.points_per_cloud] for row in rows.tolist()])
        return sifted(z_up(raw, self._up_axis), self._place, rows.tolist(), bad)


def read(path: Path, split: str, wanted: Wanted) -> PointClouds:
    """One split of a project HDF5 file; no seed is used: nothing is random here."""
    return H5Clouds(path, split, wanted=wanted).load()


def read_counted(path: Path, split: str, wanted: Wanted) -> Counted:
    """`read`, with the dataset `true_points` where the file has one."""
    source = H5Clouds(path, split, wanted=wanted)
    return Counted(source.load(), source.true_points)


def _true_points(clouds: h5py.Group, total: int, place: str) -> NDArray[np.int32] | None:
    """The dataset `true_points` of a split of `total` clouds; None where there is none that fits."""
    stored = member(clouds, "true_points", f"{place}/true_points")
    fits = isinstance(stored, h5py.Dataset) and stored.shape == (total,) and stored.dtype.kind in "iu"
    return stored[()].astype(np.int32) if fits else None


def load_exact(path: Path, name: str) -> PointClouds:
    """The clouds of group `name` bit for bit as `write_splits` stored them in float32, without provenance."""
    with open_hdf5(path) as file, reading(path):
        points = dataset(group(file, name, path), "points", path, "f")[()]
        labels = dataset(group(file, name, path), "labels", path, "iu")[()]
        names = class_names_of(file, path)
        part_names = _part_names(file, path, len(names))
        parts = (
            None if part_names is None else torch.from_numpy(dataset(group(file, name, path), "parts", path, "iu")[()])
        )
        return PointClouds(
            torch.from_numpy(points), torch.from_numpy(labels), names, parts=parts, part_names=part_names
        )


def recognises(path: Path) -> bool:
    """Whether `path` is an HDF5 file that is not one of the benchmarks' data/label files."""
    if not path.is_file() or path.suffix.lower() not in (".h5", ".hdf5"):
        return False
    try:
        with h5py.File(path, "r") as file:
            return is_own(file) and not {"data", "label"} & set(file)
    except (OSError, RuntimeError, KeyError, ValueError):
        return True  # so that the reader says what is wrong with the file


def write_hdf5(
    train: PointClouds,
    test: PointClouds | None,
    path: Path | str,
    *,
    dtype: str = "float16",
    true_points: Mapping[str, NDArray[np.int32]] = MappingProxyType({}),
) -> None:
    """Write both splits, or train alone, in the project layout, atomically, points as `dtype` (float16 or float32).

    Coordinates, up axis and licence are taken over from the clouds; float16 keeps unit-sphere
    coordinates to 5e-4. `ids` are the split and position of each cloud. `true_points` are, by split, the points
    `(N,)` that clouds had in their files, for sets of unequal numbers.

    Raises:
        InputError: if the two differ in classes or points per cloud, or have soft labels.
        OSError: if the file cannot be written; an old file at `path` is then still whole.
    """
    if dtype not in ("float16", "float32"):
        raise InputError("dtype", f"'{dtype}'", "float16 or float32")
    if test is not None and train.class_names != test.class_names:
        raise InputError(path, "train and test have different classes", "the same ones in the same order")
    if test is not None and train.part_names != test.part_names:
        raise InputError(path, "train and test have different parts", "the same ones, of the same classes")
    if test is not None and train.points_per_cloud != test.points_per_cloud:
        found = f"{train.points_per_cloud} points per cloud in train, {test.points_per_cloud} in test"
        raise InputError(path, found, "the same number")
    facts = train.provenance
    attributes = {
        "source": f"{facts.get('name', 'unnamed')} ({facts.get('source', 'unknown source')})",
        "licence": str(facts.get("file_licence", facts.get("licence", "not stated"))),
        "split": str(facts.get("file_split", facts.get("split_rule", "as in the source"))),
        "up_axis": str(facts.get("up_axis", "unspecified")),
        "normalisation": NORMALISED if facts.get("normalised") else "not stated",
    }
    splits = {"train": train} if test is None else {"train": train, "test": test}
    write_splits(path, splits, dtype, attributes, true_points)


def write_splits(
    path: Path | str,
    splits: Mapping[str, PointClouds],
    dtype: str,
    attributes: Mapping[str, str],
    true_points: Mapping[str, NDArray[np.int32]] = MappingProxyType({}),
) -> None:
    """Write `splits` of one set with `attributes` and, of some, the points that clouds had; see `write_hdf5`."""
    # In memory first: the HDF5 library may crash the process when the disk is full.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for split, clouds in splits.items():
            if clouds.labels.ndim != 1:
                raise InputError(path, f"soft labels in {split}", "one class index per cloud")
            shape = (len(clouds), clouds.points_per_cloud, 3)
            group = file.create_group(split)
            points = group.create_dataset(
                "points",
                shape,
                dtype,
                chunks=(min(64, shape[0]), *shape[1:]),
                compression="gzip",
                shuffle=True,
            )
            for low in range(0, len(clouds), CHUNK):
                points[low : low + CHUNK] = clouds.points[low : low + CHUNK].detach().cpu().numpy()
            group["labels"] = clouds.labels.cpu().numpy()
            if clouds.parts is not None and clouds.part_names is not None:
                stored = clouds.parts.cpu().numpy().astype(np.min_scalar_type(len(clouds.part_names) - 1))
                group["parts"] = stored  # plain: what shrinks to nearly nothing is not read without trust
                file.attrs["part_names"] = list(clouds.part_names.names)
                file.attrs["class_parts"] = clouds.part_names.table().numpy().astype(np.uint8)
            if split in true_points:
                group["true_points"] = true_points[split]
            group["ids"] = np.array([f"{split}_{number:06d}" for number in range(len(clouds))], dtype="S")
            file.attrs["class_names"] = list(clouds.class_names)
            file.attrs["n_points"] = shape[1]
        file.attrs["stored_dtype"] = dtype
        file.attrs["normals"] = False
        for name, value in attributes.items():
            file.attrs[name] = value
    with atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def class_names_of(file: h5py.File, path: Path) -> tuple[str, ...]:
    """The attribute `class_names`, or InputError."""
    stored = file.attrs.get("class_names")
    if stored is None or np.ndim(stored) != 1:
        raise InputError(f"{path} class_names", "no such attribute" if stored is None else "not a list", "class names")
    return tuple(str(_plain(name)) for name in stored)


def _part_names(file: h5py.File, path: Path, classes: int) -> PartNames | None:
    """The attribute `part_names`, and which class has which; None where there is none.

    Raises:
        InputError: names or classes that do not fit.
    """
    stored = file.attrs.get("part_names")
    if stored is None:
        return None
    if np.ndim(stored) != 1:
        raise InputError(f"{path} part_names", "not a list", "names of parts")
    names = tuple(str(_plain(name)) for name in stored)
    table, single = file.attrs.get("class_parts"), file.attrs.get("part_class")
    if table is None and single is None:
        return PartNames.shared(names, classes)
    if table is None:
        table = np.arange(classes)[:, None] == np.asarray(single)
    if np.shape(table) != (classes, len(names)):
        place = f"{path} {'part_class' if single is not None else 'class_parts'}"
        raise InputError(place, f"shape {np.shape(table)}", f"of {classes} classes and {len(names)} parts")
    try:
        return PartNames(names, tuple(tuple(np.flatnonzero(row).tolist()) for row in np.asarray(table)))
    except InputError as error:
        raise InputError(path, str(error)) from None


def _plain(value: Any) -> Any:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


LAYOUT = Layout(LAYOUT_NAME, recognises, read, read_counted)

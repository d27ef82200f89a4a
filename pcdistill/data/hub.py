"""Sets that other libraries fetch: `pyg:ModelNet10` of torch-geometric, `hf:USER/SET` of the Hugging Face hub.

A network is asked because the name asks for it, and by these libraries, where they are installed. Of the hub only
tables and arrays of points and labels are read: no code of a set is run, and nothing is a pickle.
"""

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcdistill.clouds import PointClouds
from pcdistill.core.errors import InputError
from pcdistill.core.files import cache_root
from pcdistill.core.limits import PACKED, check_room
from pcdistill.core.registry import nearest
from pcdistill.data.layouts.folders import WORDS
from pcdistill.data.memory import LABEL_KEYS, POINT_KEYS, read_dataset
from pcdistill.data.prepare import Bad, MissingSplit, Wanted

MODELNETS = {"ModelNet10": "10", "ModelNet40": "40"}
TABLES = (".parquet", ".npz")
WHOLE = (".h5", ".hdf5")  # of a layout of this package, both splits in one


def is_remote(name: str) -> bool:
    """Whether a name asks for a set of another library."""
    return name.startswith(("pyg:", "hf:"))


def fetched(name: str, split: str, wanted: Wanted) -> PointClouds | Path:
    """A split of a set, or the file of this computer that holds it and is read like any other.

    Raises:
        InputError: no such set, no such split, nothing in it that can be read, or the library is not installed.
    """
    library, _, rest = name.partition(":")
    return _modelnet(name, rest, split, wanted) if library == "pyg" else _hugging_face(name, rest, split, wanted)


def _modelnet(name: str, rest: str, split: str, wanted: Wanted) -> PointClouds:
    if rest not in MODELNETS:
        raise InputError(name, nearest(rest, MODELNETS), "pyg: and one of " + ", ".join(MODELNETS))
    sets = _library("torch_geometric.datasets", "torch-geometric", "pip install 'pcdistill[pyg]'", name)
    found = _asked(name, lambda: sets.ModelNet(str(cache_root() / "pyg" / rest), MODELNETS[rest], split == "train"))
    names = sorted(found.raw_file_names)  # which it numbers classes by
    axis = wanted.up_axis or "z"
    clouds = read_dataset(found, names, wanted.points, True, wanted.seed, axis, bad=Bad(wanted))
    return replace(clouds, provenance={**clouds.provenance, "layout": "torch-geometric"})


def _hugging_face(name: str, repository: str, split: str, wanted: Wanted) -> PointClouds | Path:
    hub = _library("huggingface_hub", "huggingface_hub", "pip install huggingface_hub", name)
    listed: list[str] = _asked(name, lambda: hub.HfApi().list_repo_files(repository, repo_type="dataset"))

    def here(file: str) -> Path:
        return Path(_asked(name, lambda: hub.hf_hub_download(repository, file, repo_type="dataset")))

    whole = [file for file in listed if file.lower().endswith(WHOLE)]
    tables = [file for file in listed if file.lower().endswith(TABLES)]
    if len(whole) == 1 and not tables:
        return here(whole[0])
    if not tables:
        there = ", ".join(sorted({Path(file).suffix for file in listed} - {""})) or "nothing"
        raise InputError(name, f"no tables (files of {there})", "one file of " + " or ".join((*TABLES, ".h5")))
    parts = [_read(here(file), name) for file in sorted(_of(split, tables, name))]
    names = next((part.class_names for part in parts if part.class_names), None)
    rows = [row for part in parts for row in part.rows]
    axis = wanted.up_axis or "unspecified"
    return read_dataset(rows, names, wanted.points, True, wanted.seed, axis, name=name, bad=Bad(wanted))


def _of(split: str, files: Sequence[str], name: str) -> list[str]:
    """The files of a split, by the words of their names; those of a validation part where there is no test part."""
    parts: dict[str, list[str]] = {}
    for file in files:
        words = [WORDS[word] for word in re.split(r"[^a-z]+", file.lower()) if word in WORDS]
        parts.setdefault(words[0] if words else "", []).append(file)
    found = parts.get(split) or (parts.get("val") if split == "test" else None)
    if not found:
        raise MissingSplit(name, f"no {split} split among {', '.join(files)[:200]}", f"'{split}' in the name of a file")
    return found


class _Part(NamedTuple):
    """What a file holds."""

    rows: list[tuple[Any, Any]]  # points and label
    class_names: tuple[str, ...]


def _read(path: Path, name: str) -> _Part:
    place = f"{name} {path.name}"
    try:
        return _parquet(path, name, place) if path.suffix.lower() == ".parquet" else _npz(path, place)
    except (InputError, OSError):
        raise
    except Exception as problem:  # libraries may raise anything on a damaged file
        raise InputError(place, f"unreadable ({type(problem).__name__}: {problem})", "a whole file") from None


def _npz(path: Path, place: str) -> _Part:
    with zipfile.ZipFile(path) as archive:
        check_room(sum(each.file_size for each in archive.infolist()), path.stat().st_size, place, PACKED)
    with np.load(path, allow_pickle=False) as arrays:
        points, labels = (arrays[_key(arrays.files, keys, place)] for keys in (POINT_KEYS, LABEL_KEYS))
        names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays.files else ()
    return _Part(list(_paired(points, labels, place)), names)


def _parquet(path: Path, name: str, place: str) -> _Part:
    parquet = _library("pyarrow.parquet", "pyarrow", "pip install pyarrow", name)
    file = parquet.ParquetFile(path)
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    check_room(sum(group.total_byte_size for group in groups), path.stat().st_size, place, PACKED)
    keys = [_key(file.schema_arrow.names, kinds, place) for kinds in (POINT_KEYS, LABEL_KEYS)]
    table = file.read(columns=keys)
    points, labels = (table.column(key).to_pylist() for key in keys)
    clouds = [np.asarray(cloud, dtype=np.float32) for cloud in points]
    flat = [cloud.reshape(-1, 3) if cloud.ndim == 1 and len(cloud) % 3 == 0 else cloud for cloud in clouds]
    return _Part(list(_paired(flat, labels, place)), ())


def _key(keys: Sequence[str], kinds: Sequence[str], place: str) -> str:
    found = next((key for key in kinds if key in keys), None)
    if found is None:
        raise InputError(place, f"columns {', '.join(keys)[:200]}", "one of " + ", ".join(kinds))
    return found


def _paired(points: Sequence[Any], labels: Sequence[Any], place: str) -> Iterator[tuple[Any, Any]]:
    if len(points) != len(labels):
        raise InputError(place, f"{len(points)} clouds and {len(labels)} labels", "as many of both")
    return zip(points, labels, strict=True)


def _library(module: str, package: str, how: str, name: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise InputError(name, f"{package} is not installed", how) from None


def _asked(name: str, ask: Any) -> Any:
    """What a library answers, which may ask the network: it raises whatever it likes."""
    try:
        return ask()
    except Exception as problem:
        reason = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise InputError(name, f"cannot be fetched ({reason})") from None

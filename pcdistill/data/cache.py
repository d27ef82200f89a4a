"""Converted folders, kept under `files.cache_root()/data` and found again by content.

The key is a digest of everything the result depends on: the files' relative names, sizes and
SHA-256, the number of points, the seed, the layout. A changed file is another key. An entry carries
the fingerprint of what it holds; one that does not match (or cannot be read) is built again.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import h5py

from pcdistill.core.files import cache_root, sha256_file
from pcdistill.data.prepare import Counted, tracked
from pcdistill.data.project import load_exact, write_splits

VERSION = 2  # raise when a reader's output changes, so that old entries are no longer found


def cached(
    files: Sequence[Path], root: Path, facts: dict[str, str | int | None], convert: Callable[[], Counted]
) -> Counted:
    """What `convert` makes of `files` (below `root`) and `facts`, from the cache if it is there.

    A cache that cannot be written is done without.
    """
    key = _key(files, root, facts)
    path = cache_root() / "data" / f"{key}.h5"
    found = _stored(path)
    if found is not None:
        return found
    clouds, numbers = found = convert()
    provenance = json.dumps(dict(clouds.provenance))
    attributes = {"fingerprint": clouds.fingerprint(), "provenance": provenance}
    try:
        write_splits(path, {"clouds": clouds}, "float32", attributes, {} if numbers is None else {"clouds": numbers})
    except OSError:
        return found  # a read-only or full disk costs time on the next load, nothing else
    return found


def _key(files: Sequence[Path], root: Path, facts: dict[str, str | int | None]) -> str:
    digest = hashlib.sha256(json.dumps([VERSION, facts], sort_keys=True).encode())
    for file in tracked(files, "checking files"):
        name = file.relative_to(root).as_posix()
        try:
            entry = (name, file.stat().st_size, sha256_file(file))
        except OSError:
            entry = (name, -1, "unreadable")  # what to do about it is for who reads it
        digest.update(repr(entry).encode())
    return digest.hexdigest()


def _stored(path: Path) -> Counted | None:
    """The entry at `path`, or None if there is none or it is not what was written."""
    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            fingerprint, provenance = str(file.attrs["fingerprint"]), json.loads(file.attrs["provenance"])
            numbers = file["clouds/true_points"][()] if "clouds/true_points" in file else None
        clouds = replace(load_exact(path, "clouds"), provenance=provenance)
    except (OSError, KeyError, ValueError, RuntimeError):
        return None
    return Counted(clouds, numbers) if clouds.fingerprint() == fingerprint else None

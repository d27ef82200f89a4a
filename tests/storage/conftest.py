"""A small artefact, and files that are written without the package's own writer."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from pcdistill.clouds import PointClouds
from pcdistill.storage import Artefact, Budget, Metadata, storages


def _random_clouds(classes: int, each: int, points: int, seed: int = 0) -> PointClouds:
    """Coordinates uniform in [-1, 1], class by class."""
    random = torch.Generator().manual_seed(seed)
    values = 2 * torch.rand(classes * each, points, 3, generator=random) - 1
    names = tuple(f"class {number}" for number in range(classes))
    return PointClouds(values, torch.arange(classes).repeat_interleave(each), names)


def _sealed(body: bytes, version: int = 1) -> bytes:
    """What docs/format.md says a file with this HDF5 content is."""
    header = f"pcdistill artefact {version}\nsha256 {hashlib.sha256(body).hexdigest()}\n"
    return header.encode().ljust(512, b"\0") + body


@pytest.fixture(scope="session")
def random_clouds() -> Callable[..., PointClouds]:
    return _random_clouds


@pytest.fixture(scope="session")
def sealed() -> Callable[..., bytes]:
    return _sealed


@pytest.fixture(scope="session")
def make_artefact() -> Callable[..., Artefact]:
    """Artefact of `classes` x `each` random clouds of `points` points; further fields go into the metadata."""

    def make(
        classes: int = 3,
        each: int = 2,
        points: int = 10,
        bits: int = 8,
        steps: int = 4,
        snapshots: int = 1,
        **changes: Any,
    ) -> Artefact:
        clouds = _random_clouds(classes, each, points)
        storage = storages["points"].from_clouds(clouds, Budget(clouds_per_class=each, points=points, bits=bits))
        facts: dict[str, Any] = {
            "arm": "quantile",
            "distilled": True,
            "dataset": "tiny",
            "source_fingerprint": clouds.fingerprint(),
            "source": {"name": "tiny", "up_axis": "z", "seed": 3, "scale": 0.1},
            "storage": storage.name,
            "layout": storage.layout(),
            "class_names": clouds.class_names,
            "clouds_per_class": each,
            "points": points,
            "bits": bits,
            "selection": {"method": "random", "features": "raw", "seed": 0},
            "objective": {"name": "quantile", "bank": {"steps": [20, 200]}},
            "settings": {"steps": steps, "lr": 0.01},
            "protocol": {"name": "tuned", "recipe": {"name": "tuned", "epochs": None}},
            "seed": 0,
            "prepare_seconds": 1.5,
            "distill_seconds": 2.25,
            "versions": {"python": "3.11.0"},
            "hardware": "a processor, 2 cores",
            "created": "2026-01-31",
        }
        losses = [1 / (1 + step) for step in range(steps)]
        return Artefact(storage, Metadata(**{**facts, **changes}), losses, [clouds.points] * snapshots)

    return make


@pytest.fixture
def rewritten(make_artefact: Callable[..., Artefact], tmp_path: Path) -> Callable[..., Path]:
    """A file with a right checksum whose HDF5 content was changed: `rewritten(lambda file: ..., **make_artefact's)`."""

    def rewrite(change: Callable[[h5py.File], object], **arguments: Any) -> Path:
        path = tmp_path / "changed.h5"
        make_artefact(**arguments).save(path)
        with h5py.File(path, "r+") as file:
            change(file)
        path.write_bytes(_sealed(path.read_bytes()[512:]))
        return path

    return rewrite

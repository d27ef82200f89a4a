"""Fixtures shared by all tests: one thread, an empty cache, real data where there is some, a tiny set."""

import gc
import hashlib
import importlib.util
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# Before torch and NumPy start their thread pools, and for the commands that tests run.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import hypothesis
import pytest
import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.metadata import Metadata
from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.commands.base import Command
from pcdistill.commands.making import Making
from pcdistill.data import write_hdf5
from pcdistill.selection import Dynamics, Watch, dynamics, raw_descriptor
from pcdistill.storage import Budget, storages
from pcdistill.training.recipe import RECIPES

REPOSITORY = Path(__file__).parent.parent

# Shared processors make the time of one example meaningless.
hypothesis.settings.register_profile("pcdistill", deadline=None)
hypothesis.settings.load_profile("pcdistill")
torch.set_num_threads(1)


def _script(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_{path.stem}_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def script() -> Callable[[Path], ModuleType]:
    """Load the script at a path anew, as a module."""
    return _script


@pytest.fixture(scope="session", autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCDISTILL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_watching() -> Iterator[None]:
    """Networks that selectors watch are trained for three steps: what they are is tested where they are made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dynamics, "RECIPE", dynamics.RECIPE.model_copy(update={"steps": 3}))
        yield


@pytest.fixture(scope="session")
def told() -> Watch:
    """Of every cloud what networks might say, by its coordinates alone."""

    def watch(clouds: CloudSource) -> Dynamics:
        described = raw_descriptor(clouds)
        return Dynamics(described, described[:, 3].abs(), described[:, 5])

    return watch


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache."""
    monkeypatch.setenv("PCDISTILL_CACHE", str(folder := tmp_path / "cache"))
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with real data sets: `PCDISTILL_DATA`, or `../shared/data` beside the repository."""
    root = Path(os.environ.get("PCDISTILL_DATA") or REPOSITORY.parent / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data: {root} is missing; PCDISTILL_DATA can name another folder")
    return root


@pytest.fixture
def tiny_clouds() -> PointClouds:
    """3 classes (ball, box, ring) × 8 clouds × 64 points on the unit sphere, cloud after cloud."""
    return _tiny(8, 64, 0)


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classes with 8 train and 4 test clouds each, of 1024 points, as an HDF5 file; leave it as it is."""
    path = tmp_path_factory.mktemp("tiny") / "tiny.h5"
    write_hdf5(_tiny(8, 1024, 1), _tiny(4, 1024, 2), path)
    return path


@pytest.fixture
def short_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every named recipe, three steps long: what is tested is the way, not the accuracy at its end."""
    for name, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, name, recipe.model_copy(update={"steps": 3, "batch": 8}))


def of_class(clouds: PointClouds, label: int) -> PointClouds:
    """The clouds of one class."""
    return clouds[clouds.hard_labels == label]


def written(command: Making) -> Artefact:
    """The artefact that a command writes."""
    command.run(lambda _: None)
    return Artefact.load(command.output)


def lines_of(command: Command) -> list[str]:
    """What a command says."""
    lines: list[str] = []
    command.run(lines.append)
    return lines


def _tiny(per_class: int, points: int, seed: int) -> PointClouds:
    random = torch.Generator().manual_seed(seed)
    clouds = torch.cat([shape(per_class, points, random) for shape in (_ball, _box, _ring)])
    clouds = clouds - clouds.mean(dim=1, keepdim=True)
    clouds = clouds / clouds.norm(dim=2).amax(dim=1)[:, None, None]
    labels = torch.arange(3).repeat_interleave(per_class)
    return PointClouds(clouds, labels, ("ball", "box", "ring"), {"name": "tiny", "up_axis": "z"})


def _ball(clouds: int, points: int, random: torch.Generator) -> torch.Tensor:
    """Surfaces of ellipsoids with half axes of 0.6 to 1."""
    directions = torch.randn(clouds, points, 3, generator=random)
    axes = 0.6 + 0.4 * torch.rand(clouds, 1, 3, generator=random)
    return axes * directions / directions.norm(dim=2, keepdim=True)


def _box(clouds: int, points: int, random: torch.Generator) -> torch.Tensor:
    """Surfaces of boxes with half edges of 0.6 to 1."""
    inside = 2 * torch.rand(clouds, points, 3, generator=random) - 1
    edges = 0.6 + 0.4 * torch.rand(clouds, 1, 3, generator=random)
    return edges * inside / inside.abs().amax(dim=2, keepdim=True)


def _ring(clouds: int, points: int, random: torch.Generator) -> torch.Tensor:
    """Flat rings around z of radius 1, as thick as 0.1 to 0.3."""
    around, across = 2 * torch.pi * torch.rand(2, clouds, points, generator=random)
    thickness = 0.1 + 0.2 * torch.rand(clouds, 1, generator=random)
    radius = 1 + thickness * across.cos()
    return torch.stack([radius * around.cos(), radius * around.sin(), thickness * across.sin()], dim=2)


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


@contextmanager
def interrupted_when(path: Path) -> Iterator[None]:
    """Press Ctrl-C once a file is there; what is within has to end by it."""

    def interrupt() -> None:
        while not path.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    thread.join()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Ray on this machine with two workers, once for the tests that need it."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'pcdistill[ray]')")
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.getbasetemp() / "home"  # where it keeps its token, which it makes once in a process
        home.mkdir(exist_ok=True)
        patch.setenv("HOME", str(home))
        patch.setenv("PYTHONPATH", str(REPOSITORY))  # else its processes would import what is installed
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=2, object_store_memory=10**8, log_to_driver=False, logging_level="ERROR")
        yield ray
        # It does not wait for the processes that it ends, and Python warns of those that outlive their object.
        processes = [found for found in gc.get_objects() if issubclass(type(found), subprocess.Popen)]
        ray.shutdown()
        for process in processes:
            process.wait(60)

"""Mutated files, seeded: whatever reads them gives a result or an `InputError`, soon and in little memory.

`python -m tests.fuzz.run N [FIRST [KIND ...]]` tries N of every kind, from a number on.
"""

import faulthandler
import random
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcdistill.artefact.artefact import Artefact
from pcdistill.artefact.container import HEADER_BYTES, _header
from pcdistill.clouds import CloudSource, PointClouds
from pcdistill.condense.loop import DistillSettings, distill
from pcdistill.condense.spec import DistillSpec
from pcdistill.core.environment import peak_memory
from pcdistill.core.errors import InputError
from pcdistill.core.options import read_toml
from pcdistill.core.sealed import _BEFORE, _digest
from pcdistill.data import load
from pcdistill.data.objects import read_object
from pcdistill.matching import Objective
from pcdistill.results.record import read_records
from pcdistill.storage import Budget
from pcdistill.storage.points import StoredPoints
from pcdistill.training.trained import load_network
from tests.fuzz.files import write_good

HERE = Path(__file__).parent
WRITTEN = HERE.parent / "written_before"
SECONDS = 10.0  # of the processor, of one file
MEMORY = 2**30  # bytes, of one file of some kilobytes: four times what is free
STUCK = 300  # seconds after which the campaign ends, and says where it is
TOML = b'data = "shapes"\noutput = "a.h5"\nobjective = "krr"\nsteps = 3\n[options]\nridge = 0.1\n'
# What parsers trip over, besides bytes of any kind.
SPLICES = (
    b"\0",
    b"\xff" * 8,
    b"[" * 3000,
    b"1" * 5000,
    b'"',
    b"NaN",
    b"-1",
    b"9" * 19,
    b"\x1b[31m",
    b"{}",
    b"\n",
    b"null",
)


class Target(NamedTuple):
    """A kind of file."""

    name: str
    sources: tuple[Path, ...]
    read: Callable[[Path], object]
    mutate: Callable[[bytes, random.Random], bytes] | None = None  # makes a checksum right again, as a stranger can


def targets(folder: Path) -> list[Target]:
    """All kinds, with good files of them; those that are made are written to `folder`."""
    (folder / "good.toml").write_bytes(TOML)
    resumed(folder / "good.checkpoint")
    (folder / "objects").mkdir()
    artefacts = (*sorted(WRITTEN.glob("storage-*.h5")), WRITTEN / "labels-teacher-coded.h5")
    return [
        Target("artefact", artefacts, Artefact.load, _artefact),
        Target("checkpoint", (folder / "good.checkpoint",), resumed, _checkpoint),
        Target("network", (WRITTEN / "nano.safetensors",), load_network),
        Target("settings", (folder / "good.toml",), lambda path: read_toml(path, DistillSpec)),
        Target("records", (WRITTEN / "records.jsonl",), read_records),
        Target("set", (WRITTEN / "set.h5",), lambda path: load(path, "train")),
        Target("object", write_good(folder / "objects"), lambda path: read_object(path, 16, 0, path.name)),
    ]


def mutated(content: bytes, draw: random.Random) -> bytes:
    """A few edits: bits, cuts, repeats and splices."""
    for _ in range(draw.randint(1, 4)):
        at, kind = draw.randrange(len(content) + 1), draw.randrange(5)
        length = min(len(content) - at, draw.choice((1, 2, 8, 64, 1000)))
        if kind == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
        elif kind == 1:
            content = content[:at] + content[at + length :]
        elif kind == 2:
            content = content[:at] + content[at : at + length] + content[at:]
        elif kind == 3:
            content = content[:at] + draw.choice(SPLICES) + content[at:]
        else:
            content = content[:at] + draw.randbytes(length) + content[at + length :]
    return content


def _artefact(content: bytes, draw: random.Random) -> bytes:
    body = mutated(content[HEADER_BYTES:], draw)
    return _header(body) + body


def _checkpoint(content: bytes, draw: random.Random) -> bytes:
    content = mutated(content, draw)
    at = content.find(_BEFORE) + len(_BEFORE)
    return content if at < len(_BEFORE) else content[:at] + _digest(content).encode() + content[at + 64 :]


class Shrink(Objective):
    """Pulls all points to the middle; needs nothing of the real set."""

    name = "shrink"

    def prepare(self, real: CloudSource) -> None:
        pass

    def loss(self, decoded: PointClouds, step: int) -> Tensor:
        return decoded.points.square().mean()


def resumed(path: Path) -> None:
    """A run that goes on from a checkpoint, or leaves one."""
    points = torch.linspace(-1, 1, 48).view(2, 8, 3)
    clouds = PointClouds(points, torch.tensor([0, 1]), ("a", "b"))
    storage, settings = StoredPoints.from_clouds(clouds, Budget(1, 8, 32)), DistillSettings(steps=3, lr=0.1)
    distill(clouds, storage, Shrink(), settings, checkpoint=path, resume=True)


def tried(target: Target, seed: int, folder: Path) -> str:
    """What is wrong with how a mutated file is read; empty if nothing is."""
    draw = random.Random(f"{target.name} {seed}")
    source = draw.choice(target.sources)
    content = (target.mutate or mutated)(source.read_bytes(), draw)
    path = folder / f"mutated{source.suffix}"
    path.write_bytes(content)
    start, before = time.process_time(), peak_memory()
    faulthandler.dump_traceback_later(STUCK, exit=True)
    try:
        target.read(path)
    except InputError as error:
        if "\n" in str(error):
            return f"{target.name} {seed}: several lines: {error}"
    except Exception as error:
        return f"{target.name} {seed}: {type(error).__name__}: {str(error)[:200]}"
    finally:
        faulthandler.cancel_dump_traceback_later()
    taken, more = time.process_time() - start, peak_memory() - before
    return f"{target.name} {seed}: {taken:.1f} s, {more} bytes" if taken > SECONDS or more > MEMORY else ""


def faults(count: int, first: int = 0, only: Collection[str] = ()) -> list[str]:
    """What is wrong among `count` mutated files of every kind, or of some, from number `first` on."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [kind for kind in targets(folder) if not only or kind.name in only]
        return [found for seed in range(first, first + count) for kind in kinds if (found := tried(kind, seed, folder))]


if __name__ == "__main__":
    found = faults(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:])
    sys.stdout.write("\n".join([*found, f"{len(found)} faults\n"]))
    sys.exit(bool(found))

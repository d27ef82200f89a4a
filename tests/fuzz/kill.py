"""Distillations killed at random moments and gone on with, and two at once: the bits are those of one left alone.

`python -m tests.fuzz.kill N [KIND ...]` kills N times. Children are forked, so that no time goes into starting them.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from pcdistill.artefact.artefact import Artefact
from pcdistill.commands.distill import Distill
from pcdistill.condense import loop
from pcdistill.core.errors import InputError
from pcdistill.data import load, write_hdf5

BANK = {"bank": {"trained_steps": (0, 2), "points": 16}}
FEW: dict[str, Any] = {"clouds_per_class": 2, "snapshots": 2, "force": True, "resume": True}
KINDS: dict[str, dict[str, Any]] = {
    "points": {"points": 16, "steps": 25, "members": 2, "ema": 0.9, "options": BANK},
    "voxels": {"side": 6, "points": 32, "steps": 20, "members": 2, "options": BANK},
    "state": {"points": 16, "steps": 12, "objective": "dc", "options": {"outer": 3}},
}
MOST = 3  # kills of one run


def begun(kind: str, output: Path) -> int:
    """Number of a process that distils, and saves its state after every step; it ends with the command's code."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        loop.SAVE_EVERY = 0
        Distill(data=str(output.parents[1] / "set.h5"), output=output, **FEW, **KINDS[kind]).run(lambda _: None)
        code = 0
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        code = error.code
    finally:
        os._exit(code)


def ended(process: int, seconds: float | None = None) -> int:
    """The exit code of a process, which is killed after some seconds: -9 then."""
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def content(output: Path) -> tuple[Any, ...]:
    """All of an artefact that follows from its settings."""
    made = Artefact.load(output)
    arrays = {name: array.tobytes() for name, array in made.storage.arrays().items()}
    return arrays, made.losses, [snapshot.numpy().tobytes() for snapshot in made.snapshots]


def place(folder: Path, name: str) -> Path:
    """Where a run writes, and the cache that it has for itself."""
    (folder / name).mkdir()
    os.environ["PCDISTILL_CACHE"] = str(folder / name / "cache")
    return folder / name / "a.h5"


def killed(kind: str, output: Path, seconds: float, draw: random.Random) -> tuple[int, int]:
    """How often a run that takes some seconds was killed before it ended, and the code of its last part."""
    for kills in range(MOST):
        code = ended(begun(kind, output), draw.uniform(0, seconds))
        if code != -signal.SIGKILL:
            return kills, code
    return MOST, ended(begun(kind, output))


def faults(count: int, kinds: Sequence[str]) -> Iterator[str]:
    """What is wrong after `count` kills, and after a pair at once of every kind."""
    torch.set_num_threads(1)
    draw, kills, number = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_hdf5(load("shapes", "train", points=32)[::20], load("shapes", "test", points=32)[::20], folder / "set.h5")
        whole: dict[str, tuple[Any, ...]] = {}
        seconds: dict[str, float] = {}
        for kind in kinds:
            start = time.perf_counter()
            if code := ended(begun(kind, output := place(folder, kind))):
                yield f"{kind}: exit code {code}"
                return
            seconds[kind], whole[kind] = time.perf_counter() - start, content(output)
        while kills < count:
            kind, number = kinds[number % len(kinds)], number + 1
            output = place(folder, f"{kind}-{number}")
            times, code = killed(kind, output, seconds[kind], draw)
            kills += times
            if code or content(output) != whole[kind] or output.with_name("a.h5.checkpoint").exists():
                yield f"{kind} {number}, killed {times} times: exit code {code}, or other bits"
        for kind in kinds:
            output = place(folder, f"{kind}-pair")
            codes = [ended(process) for process in [begun(kind, output), begun(kind, output)]]
            if any(codes) or content(output) != whole[kind]:
                yield f"{kind}, two at once: exit codes {codes}, or other bits"


if __name__ == "__main__":
    found = list(faults(int(sys.argv[1]), sys.argv[2:] or list(KINDS)))
    sys.stdout.write("\n".join([*found, f"{len(found)} faults\n"]))
    sys.exit(bool(found))

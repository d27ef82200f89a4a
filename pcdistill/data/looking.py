"""What checks see of single files: kept for next time, and read by several processes where that pays."""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcdistill.core.cache import DAMAGED, place
from pcdistill.core.errors import InputError
from pcdistill.core.files import atomic
from pcdistill.core.sealed import KEY, sealed, unsealed
from pcdistill.core.signals import ctrl_c_ignored
from pcdistill.core.threads import cores
from pcdistill.data.gathering import own_labels
from pcdistill.data.layouts.tree import parts_in
from pcdistill.data.objects import Mesh, original, sample_surface
from pcdistill.data.poses import spread
from pcdistill.data.prepare import generator_for, tracked, unit_sphere, z_up

VERSION = 1  # raise when more or other things are seen in a file
SAMPLED = 256  # points of a mesh that its spread is told by
ALONE = 3.0  # seconds of reading after which it is known how long the rest takes
WORTH = 10.0  # seconds that are left, for which processes are started, which takes some itself


class Look(NamedTuple):
    """What a file holds.

    Attributes:
        digest: SHA-256 of the points, or vertices and faces, whatever the file's name and form.
        points: how many; None of a mesh.
        spread: `(3, 3)`, as `poses.spread` has it.
        parts: that its points have, as places in the list of the set.
    """

    digest: str
    points: int | None
    spread: NDArray[np.float64]
    parts: tuple[int, ...] = ()


State = tuple[int, int, int]  # of a file: bytes, and when content and entry were changed, in nanoseconds
Kept = dict[str, tuple[State, Look]]  # by names relative to the folder
Looking = Callable[[Path], Look | str]


def looks(
    files: Sequence[Path], root: Path, up_axis: str, title: str, part_names: Sequence[str] | None = None
) -> Generator[Look | str, None, None]:
    """Of every file, in order, what is seen in it, or a line on what is wrong with it.

    Points have parts of these names, if there are any.

    Files that are as they were when they were seen before are not read; what is wrong is looked at every time. What
    was seen is kept when the generator ends or is closed, one file in the cache for each folder.
    """
    path = place("looks", json.dumps([VERSION, str(root.resolve()), up_axis, part_names]))
    before, names = _kept(path), {file: file.relative_to(root).as_posix() for file in files}
    states = {file: _state(file) for file in files}
    seen: dict[Path, Look | str] = {
        file: before[name][1] for file, name in names.items() if name in before and before[name][0] == states[file]
    }
    try:
        new = list(dict.fromkeys(file for file in files if file not in seen))
        with closing(_read(new, partial(look_at, up_axis=up_axis, part_names=part_names))) as fresh:
            for file in tracked(files, title):
                if file not in seen:
                    seen[file] = next(fresh)
                yield seen[file]
    finally:
        good = {
            names[file]: (state, look)
            for file, look in seen.items()
            if isinstance(look, Look) and (state := states[file]) is not None
        }
        if {name: state for name, (state, _) in good.items()} != {name: state for name, (state, _) in before.items()}:
            _keep(path, good)


def look_at(file: Path, up_axis: str, part_names: Sequence[str] | None = None) -> Look | str:
    """A file as it would be read, or what is wrong with it."""
    try:
        found, parts = original(file), ()
        if part_names is not None:
            own = own_labels(found, file, partial(parts_in, names=part_names))
            parts = tuple(np.unique(own).tolist())
        if isinstance(found, Mesh):
            sampled = sample_surface(found, SAMPLED, generator_for("check", 0), file)
            content = found.vertices.tobytes() + found.faces.tobytes()
            return Look(hashlib.sha256(content).hexdigest(), None, spread(z_up(sampled, up_axis)))
        framed = unit_sphere(z_up(found[None], up_axis), file)[0]
        return Look(
            hashlib.sha256(np.ascontiguousarray(found).tobytes()).hexdigest(), len(found), spread(framed), parts
        )  # fmt: skip
    except InputError as problem:
        return str(problem)


def _read(files: Sequence[Path], look: Looking) -> Generator[Look | str, None, None]:
    """Files one by one here, and by several processes once it shows that this pays."""
    began, count = time.monotonic(), cores()
    for done, file in enumerate(files):
        gone = time.monotonic() - began
        if count > 1 and gone > ALONE and gone / max(done, 1) * (len(files) - done) > WORTH:
            yield from _read_by(count, files[done:], look)
            return
        yield look(file)


def _read_by(count: int, files: Sequence[Path], look: Looking) -> Generator[Look | str, None, None]:
    """Files by so many processes, each those of its turn; what one leaves undone, which is killed, is read here."""
    team = [_begun(files[turn::count], look) for turn in range(count)]
    try:
        for number, file in enumerate(files):
            member = team[number % count]
            try:
                yield look(file) if member is None else member[0].recv()
            except EOFError:
                team[number % count] = None
                yield look(file)
    finally:
        for pipe, process in filter(None, team):
            process.terminate()
            process.join()
            pipe.close()


def _begun(files: Sequence[Path], look: Looking) -> tuple[Connection, SpawnProcess] | None:
    """A process that reads files, and where it sends what it sees; None if the system has none for us."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, files, look), daemon=True)
    try:
        with ctrl_c_ignored():
            process.start()
    except OSError:
        ours.close()
        return None
    finally:
        theirs.close()
    return ours, process


def _send(pipe: Connection, files: Sequence[Path], look: Looking) -> None:
    """What such a process does; it ends when nobody is there any more who asked."""
    with suppress(OSError):
        for file in files:
            pipe.send(look(file))


def _state(file: Path) -> State | None:
    try:
        found = file.stat()
    except OSError:
        return None  # what to do about it is for who reads it
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _kept(path: Path) -> Kept:
    """What was kept; nothing of a file that is not there, or damaged."""
    with suppress(*DAMAGED):
        return dict(_unpacked(path))
    return {}


def _unpacked(path: Path) -> Iterator[tuple[str, tuple[State, Look]]]:
    tensors, facts = unsealed(path.read_bytes(), path, "what was kept")
    _ = facts[KEY]
    names, digests, parts = (json.loads(facts[key]) for key in ("names", "digests", "parts"))
    numbers, spreads = tensors["numbers"].tolist(), tensors["spreads"].numpy()
    for name, digest, (*state, points), own, has in zip(names, digests, numbers, spreads, parts, strict=True):
        size, changed, entered = state
        yield name, ((size, changed, entered), Look(digest, None if points < 0 else points, own, tuple(has)))


def _keep(path: Path, found: Mapping[str, tuple[State, Look]]) -> None:
    """A read-only or full disk costs time on the next check, nothing else."""
    numbers = [(*state, -1 if look.points is None else look.points) for state, look in found.values()]
    spreads = np.reshape([look.spread for _, look in found.values()], (-1, 3, 3))
    tensors = {"numbers": torch.tensor(numbers, dtype=torch.int64), "spreads": torch.from_numpy(spreads)}
    texts = {
        "names": list(found), "digests": [look.digest for _, look in found.values()],
        "parts": [look.parts for _, look in found.values()],
    }  # fmt: skip
    facts = {key: json.dumps(values) for key, values in texts.items()}
    with suppress(OSError), atomic(path) as temporary:
        temporary.write_bytes(sealed(tensors, facts))

"""Tensors that follow from the real set and are costly to make: kept in the user's cache folder."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from pcdistill.core.files import atomic, cache_root
from pcdistill.core.sealed import KEY, sealed, unsealed

T = TypeVar("T")
Tensors = dict[str, Tensor]
DAMAGED = (KeyError, TypeError, ValueError, RuntimeError, OSError)  # a file that is made again


def cached(kind: str, facts: str, make: Callable[[], Tensors], from_tensors: Callable[[Tensors], T]) -> tuple[T, float]:
    """What `from_tensors` makes of tensors and the seconds that these took, read from the cache if made before.

    Args:
        kind: folder in the cache.
        facts: all that the tensors depend on; the file is named after their digest.
        make: makes the tensors.
        from_tensors: makes of them what is wanted. A file of which it cannot is damaged: its tensors are made again.
    """
    path = place(kind, facts)
    if path.exists():
        with suppress(*DAMAGED):
            tensors, facts_of_file = unsealed(path.read_bytes(), path, "what was kept")
            _ = facts_of_file[KEY]  # files of release 0.1 have none: they may be damaged without a sign of it
            return from_tensors(tensors), float(json.loads(facts_of_file["seconds"]))
    start = time.perf_counter()
    tensors = make()
    seconds = time.perf_counter() - start
    # A read-only or full disk costs time on the next run, nothing else.
    with suppress(OSError), atomic(path) as temporary:
        temporary.write_bytes(sealed(tensors, {"seconds": json.dumps(seconds)}))
    return from_tensors(tensors), seconds


def is_cached(kind: str, facts: str) -> bool:
    """Whether `cached` would read and not make."""
    return place(kind, facts).exists()


def place(kind: str, facts: str) -> Path:
    """The file for what depends on these facts."""
    return cache_root() / kind / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.safetensors"

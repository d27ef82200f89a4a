"""Tensors that follow from the real set and are costly to make: kept in the user's cache folder."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor

from pcdistill.core.files import atomic, cache_root

T = TypeVar("T")
Tensors = dict[str, Tensor]
DAMAGED = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError)  # a file that is made again


def cached(kind: str, facts: str, make: Callable[[], Tensors], from_tensors: Callable[[Tensors], T]) -> tuple[T, float]:
    """What `from_tensors` makes of tensors and the seconds that these took, read from the cache if made before.

    Args:
        kind: folder in the cache.
        facts: all that the tensors depend on; the file is named after their digest.
        make: makes the tensors.
        from_tensors: makes of them what is wanted. A file of which it cannot is damaged: its tensors are made again.
    """
    path = _path(kind, facts)
    if path.exists():
        with suppress(*DAMAGED), safe_open(path, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return from_tensors(tensors), float(json.loads(stored.metadata()["seconds"]))
    start = time.perf_counter()
    tensors = {name: value.contiguous() for name, value in make().items()}
    seconds = time.perf_counter() - start
    # A read-only or full disk costs time on the next run, nothing else.
    with suppress(OSError), atomic(path) as temporary:
        temporary.write_bytes(serialised(tensors, {"seconds": json.dumps(seconds)}))
    return from_tensors(tensors), seconds


def is_cached(kind: str, facts: str) -> bool:
    """Whether `cached` would read and not make."""
    return _path(kind, facts).exists()


def _path(kind: str, facts: str) -> Path:
    return cache_root() / kind / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.safetensors"

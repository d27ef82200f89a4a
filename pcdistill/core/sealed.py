"""Tensors and texts in a safetensors file that says what it has to be: a digest over every byte of it.

The digest protects from accidents (a failing disk, a copy that was cut), not from somebody who writes a new one.
"""

import hashlib
import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised
from torch import Tensor

from pcdistill.core.errors import InputError

KEY = "sha256"
_BEFORE = b'"sha256":"'  # in the header; quotes in other texts and names have a backslash in front
_BLANK = b"0" * 64  # stands in place of the digest while it is computed
# What safetensors raises on a file that is none, on types that torch has not, and on sizes that fit nothing.
_DAMAGED = (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError, MemoryError, AttributeError)


def sealed(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """A safetensors file with `facts` and the digest of the whole as its metadata."""
    content = serialised(
        {name: value.cpu().contiguous() for name, value in tensors.items()}, {**facts, KEY: _BLANK.decode()}
    )
    at = content.index(_BEFORE) + len(_BEFORE)
    return content[:at] + hashlib.sha256(content).hexdigest().encode() + content[at + len(_BLANK) :]


def unsealed(content: bytes, place: object, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and facts of a safetensors file; among the facts is `KEY` if it was `sealed`, and is right then.

    Raises:
        InputError: damaged, or no such file at all: "`place`: not `kind` (...)".
    """
    try:
        head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts = {str(name): str(value) for name, value in (head.get("__metadata__") or {}).items()}
        if KEY in facts and facts[KEY] != _digest(content):
            raise InputError(place, f"not {kind} (damaged: its digest differs)")
        return deserialised(content), facts
    except InputError:
        raise
    except (*_DAMAGED, RecursionError) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(place, f"not {kind} ({reason})") from None


def _digest(content: bytes) -> str:
    """Of a file that has one, computed as `sealed` does; empty where it does not stand as `sealed` writes it."""
    if (found := content.find(_BEFORE)) < 0:
        return ""
    at = found + len(_BEFORE)
    digest = hashlib.sha256(memoryview(content)[:at])
    digest.update(_BLANK)
    digest.update(memoryview(content)[at + len(_BLANK) :])
    return digest.hexdigest()

"""Tensors under a digest: every changed bit is noticed, and what is no such file is one line."""

import random

import pytest
import torch
from safetensors.torch import load, save

from pcdistill.core.errors import InputError
from pcdistill.core.sealed import KEY, sealed, unsealed

TENSORS = {"a": torch.arange(6.0).view(2, 3).T, "sha256": torch.ones(2, dtype=torch.float16)}
FACTS = {"name": 'a "sha256":"text', "step": "3"}


def test_what_is_sealed_is_read_again_and_by_others() -> None:
    content = sealed(TENSORS, FACTS)
    tensors, facts = unsealed(content, "file", "one")
    assert {**FACTS, KEY: facts[KEY]} == facts
    for found in (tensors, load(content)):
        assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_a_file_without_a_digest_is_read_as_one() -> None:
    assert unsealed(save({"a": torch.ones(2)}, FACTS), "file", "one")[1] == FACTS


def test_every_bit_counts() -> None:
    """Where the key of the digest itself is hit, the file is one without: who wants one sees that."""
    content = sealed(TENSORS, FACTS)
    messages = set()
    for at in range(len(content)):
        damaged = content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
        try:
            assert KEY not in unsealed(damaged, "file", "one")[1]
        except InputError as error:
            messages.add(str(error)[:13])
    assert messages == {"file: not one"}


def test_what_is_no_such_file_is_one_line() -> None:
    rng = random.Random(0)
    content = sealed(TENSORS, FACTS)
    deep = b'{"a":' + b"[" * 100_000
    heads = [b"[]", b"{}", b'{"__metadata__":[]}', b'{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}', deep]
    files = [len(head).to_bytes(8, "little") + head for head in heads if head != b"{}"]
    files += [b"", b"x", b"\xff" * 50, content[:-1], content[:70], content + b"\0", rng.randbytes(300)]
    for damaged in files:
        with pytest.raises(InputError, match=r"^file: not one \(.+\)$"):
            unsealed(damaged, "file", "one")


def test_a_header_that_was_written_anew_is_damage() -> None:
    content = sealed(TENSORS, FACTS).replace(b'"sha256":"', b'"sha256" : "')
    size = int.from_bytes(content[:8], "little") + 2
    with pytest.raises(InputError, match=r"file: not one \(damaged: its digest differs\)"):
        unsealed(size.to_bytes(8, "little") + content[8:], "file", "one")
